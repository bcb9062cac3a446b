//! Pages: which blocks of cells hold which positions of which slot. Blocks are shared by slots with a common prefix,
//! and copied before one of them is written. It must not know what cells hold.

use std::ops::Range;

/// Cells per block.
pub(crate) const BLOCK: usize = 64;

/// An entry of the table without a block.
const NONE: i32 = -1;

/// The page table with its free blocks.
///
/// A slot holds exactly the blocks of its first `n` positions. There are as many blocks as the table has entries, so
/// that every slot can always grow to its full length.
pub(super) struct Pages {
    /// Blocks of each slot.
    n_blocks: usize,
    /// `[n_slots, n_blocks]`: as a step takes it.
    table: Vec<i32>,
    /// For each slot, its entries in use.
    n_used: Vec<usize>,
    /// For each block, the slots that hold it.
    n_holders: Vec<u32>,
    /// Blocks that no slot holds; the next to be given at the end.
    free: Vec<i32>,
}

/// Cells to copy so that a slot can write behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TailCopy {
    /// The first cell to read.
    pub(super) from: usize,
    /// The first cell to write.
    pub(super) to: usize,
    /// How many.
    pub(super) n: usize,
}

impl Pages {
    /// Pages of `n_slots` slots, each of `n_ctx` positions; all free. The cells fit an I32.
    pub(super) fn new(n_slots: usize, n_ctx: usize) -> Self {
        let n_blocks = n_ctx.div_ceil(BLOCK);
        let n = n_slots * n_blocks;
        Self {
            n_blocks,
            table: vec![NONE; n],
            n_used: vec![0; n_slots],
            n_holders: vec![0; n],
            free: (0..n).rev().filter_map(|b| i32::try_from(b).ok()).collect(),
        }
    }

    /// The table's bytes, `[n_slots, n_blocks]` I32.
    pub(super) fn table(&self) -> &[u8] {
        bytemuck::cast_slice(&self.table)
    }

    /// The blocks that a slot holds, in the order of its positions.
    fn held(&self, slot: usize) -> &[i32] {
        let start = slot * self.n_blocks;
        let n = self.n_used.get(slot).copied().unwrap_or(0);
        self.table.get(start..start + n).unwrap_or_default()
    }

    /// Gives a slot the blocks that `n_positions` take. Returns whether there were enough.
    pub(super) fn grow(&mut self, slot: usize, n_positions: usize) -> bool {
        let wanted = n_positions.div_ceil(BLOCK);
        while self.held(slot).len() < wanted {
            if wanted > self.n_blocks || !self.push(slot) {
                return false;
            }
        }
        true
    }

    fn push(&mut self, slot: usize) -> bool {
        let Some(block) = self.free.pop() else {
            return false;
        };
        self.hold(slot, block);
        true
    }

    /// Appends a block to a slot that has room for it.
    fn hold(&mut self, slot: usize, block: i32) {
        let start = slot * self.n_blocks;
        if let Some(n) = self.n_used.get_mut(slot)
            && let Some(entry) = self.table.get_mut(start + *n)
        {
            *entry = block;
            *n += 1;
            if let Some(holders) = self.holders(block) {
                *holders += 1;
            }
        }
    }

    fn holders(&mut self, block: i32) -> Option<&mut u32> {
        self.n_holders.get_mut(usize::try_from(block).ok()?)
    }

    /// Takes from a slot the blocks behind its first `n_positions`.
    pub(super) fn trim(&mut self, slot: usize, n_positions: usize) {
        let kept = n_positions.div_ceil(BLOCK);
        let start = slot * self.n_blocks;
        while let Some(n) = self.n_used.get_mut(slot).filter(|n| **n > kept) {
            *n -= 1;
            let at = start + *n;
            if let Some(entry) = self.table.get_mut(at) {
                let block = std::mem::replace(entry, NONE);
                self.let_go(block);
            }
        }
    }

    /// One holder fewer; without any the block is free.
    fn let_go(&mut self, block: i32) {
        if let Some(holders) = self.holders(block) {
            *holders -= 1;
            if *holders == 0 {
                self.free.push(block);
            }
        }
    }

    /// Lets `to`, which holds nothing, hold the blocks of the first `n_positions` of `from` as well.
    pub(super) fn share(&mut self, from: usize, to: usize, n_positions: usize) {
        let n = n_positions.div_ceil(BLOCK);
        let blocks: Vec<i32> = self.held(from).iter().take(n).copied().collect();
        for block in blocks {
            self.hold(to, block);
        }
    }

    /// What must be copied before position `n_positions` of a slot is written: the cells before it in its block, if
    /// another slot holds that block too. [`Pages::detach`] follows.
    pub(super) fn tail_copy(&self, slot: usize, n_positions: usize) -> Option<TailCopy> {
        let n = n_positions % BLOCK;
        let block = self.held(slot).get(n_positions / BLOCK).filter(|_| n > 0)?;
        let block = usize::try_from(*block).ok()?;
        if *self.n_holders.get(block)? < 2 {
            return None;
        }
        // A block is shared, so there are fewer blocks held than entries of the table.
        let to = usize::try_from(*self.free.last()?).ok()?;
        Some(TailCopy {
            from: block * BLOCK,
            to: to * BLOCK,
            n,
        })
    }

    /// Replaces the last block of a slot's first `n_positions` by the one that [`Pages::tail_copy`] named.
    pub(super) fn detach(&mut self, slot: usize, n_positions: usize) {
        self.trim(slot, n_positions / BLOCK * BLOCK);
        self.push(slot);
    }

    /// The cells of the first `n_positions` of a slot, as long stretches in the order of positions.
    pub(super) fn cells(&self, slot: usize, n_positions: usize) -> Vec<Range<usize>> {
        let mut cells: Vec<Range<usize>> = Vec::new();
        let mut left = n_positions;
        for block in self.held(slot) {
            let start = usize::try_from(*block).unwrap_or(0) * BLOCK;
            let n = left.min(BLOCK);
            left -= n;
            match cells.last_mut() {
                Some(last) if last.end == start => last.end += n,
                _ if n > 0 => cells.push(start..start + n),
                _ => {}
            }
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::single_range_in_vec_init,
        reason = "stretches of cells are ranges"
    )]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Each block has as many holders as it has entries, and is free without any.
    fn check(pages: &Pages) {
        let mut count: BTreeMap<i32, u32> = BTreeMap::new();
        for slot in 0..pages.n_used.len() {
            for (i, entry) in pages.table[slot * pages.n_blocks..][..pages.n_blocks]
                .iter()
                .enumerate()
            {
                assert_eq!(*entry == NONE, i >= pages.n_used[slot]);
            }
            for block in pages.held(slot) {
                *count.entry(*block).or_default() += 1;
            }
        }
        let mut free = pages.free.clone();
        free.sort_unstable();
        let expected: Vec<i32> = (0..pages.n_holders.len() as i32)
            .filter(|b| !count.contains_key(b))
            .collect();
        assert_eq!(free, expected);
        for (block, holders) in pages.n_holders.iter().enumerate() {
            assert_eq!(*holders, count.get(&(block as i32)).copied().unwrap_or(0));
        }
    }

    #[test]
    fn blocks_are_given_in_order_and_cells_are_long_stretches() {
        let mut pages = Pages::new(2, 200);
        assert_eq!(pages.n_blocks, 4);
        assert!(pages.grow(0, 130) && pages.grow(1, 64) && pages.grow(0, 200));
        assert_eq!(pages.cells(0, 200), [0..192, 256..264]);
        assert_eq!(pages.cells(0, 100), [0..100]);
        assert_eq!(pages.cells(1, 64), [192..256]);
        assert!(pages.cells(1, 0).is_empty());
        assert!(!pages.grow(0, 257), "a slot has four blocks");
        check(&pages);
    }

    #[test]
    fn a_shared_block_is_copied_before_it_is_written() {
        let mut pages = Pages::new(2, 256);
        assert!(pages.grow(0, 130));
        pages.share(0, 1, 100);
        assert_eq!(pages.cells(1, 100), [0..100]);
        let copy = TailCopy {
            from: 64,
            to: 192,
            n: 36,
        };
        assert_eq!(pages.tail_copy(1, 100), Some(copy));
        assert_eq!(pages.tail_copy(0, 130), None, "its last block is its own");
        assert_eq!(
            pages.tail_copy(1, 64),
            None,
            "a block's end: nothing to copy"
        );
        pages.detach(1, 100);
        assert_eq!(pages.cells(1, 100), [0..64, 192..228]);
        assert_eq!(pages.tail_copy(1, 100), None);
        assert_eq!(pages.cells(0, 130), [0..130]);
        check(&pages);
    }

    proptest! {
        /// Positions of slots that hold what was written for them, whatever is shared, cut and written again: a map of
        /// cells is the cache, a vector for each slot what it should see.
        #[test]
        fn slots_see_what_they_wrote(ops in prop::collection::vec((0usize..3, 0usize..3, 0usize..300, 0u8..3), 1..60)) {
            let mut pages = Pages::new(3, 250);
            let mut cache: BTreeMap<usize, u64> = BTreeMap::new();
            let mut seen = vec![Vec::<u64>::new(); 3];
            for (step, (slot, other, n, op)) in ops.into_iter().enumerate() {
                match op {
                    0 => {
                        let used = seen[slot].len();
                        let n_new = n.min(250 - used);
                        if n_new == 0 {
                            continue;
                        }
                        if let Some(copy) = pages.tail_copy(slot, used) {
                            for i in 0..copy.n {
                                cache.insert(copy.to + i, cache[&(copy.from + i)]);
                            }
                            pages.detach(slot, used);
                        }
                        prop_assert!(pages.grow(slot, used + n_new));
                        seen[slot].extend((0..n_new).map(|i| (step * 1000 + i) as u64));
                        let cells = pages.cells(slot, used + n_new).into_iter().flatten();
                        for (cell, value) in cells.zip(&seen[slot]).skip(used) {
                            cache.insert(cell, *value);
                        }
                    }
                    1 => {
                        seen[slot].truncate(n);
                        pages.trim(slot, n);
                    }
                    _ if slot != other => {
                        pages.trim(other, 0);
                        let n = n.min(seen[slot].len());
                        pages.share(slot, other, n);
                        seen[other] = seen[slot][..n].to_vec();
                    }
                    _ => {}
                }
                check(&pages);
                for (slot, seen) in seen.iter().enumerate() {
                    let cells = pages.cells(slot, seen.len()).into_iter().flatten();
                    let found: Vec<u64> = cells.map(|c| cache[&c]).collect();
                    prop_assert_eq!(&found, seen);
                }
            }
        }
    }
}

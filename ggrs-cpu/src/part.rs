//! One thread's part of a phase: tokens that say which units of work are its own. It must not know kernels or pools.
//!
//! The units of a phase are numbered; every thread asks for the same number of them in the same way, and each unit is
//! given out once. A [`Share`] cannot be copied, and writing an output takes one: so no two threads write the same
//! place.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::Pod;

use crate::view::{Blocks, GroupBlocks, Groups, Out, Rows, Table};

/// A thread's part of a phase.
pub(crate) struct Part<'a> {
    /// Units of work to ask for.
    pub(crate) work: Work<'a>,
    /// Working memory of the thread's own.
    pub(crate) own: Own,
}

/// Gives out the units of a phase. A phase is divided once: by `even`, `chunks` or `alone`.
pub(crate) struct Work<'a> {
    n_threads: usize,
    next: &'a AtomicUsize,
    divided: bool,
    /// Shares that `even` or `alone` gives out, one for each call of the kernel.
    n_shares: usize,
}

/// Who the thread is, as the key to its rows of working memory.
pub(crate) struct Own {
    thread: usize,
}

impl<'a> Part<'a> {
    /// The part of thread `thread` of `n_threads`; `next` is the phase's counter, 0 at its start and shared by all.
    pub(crate) const fn new(thread: usize, n_threads: usize, next: &'a AtomicUsize) -> Self {
        Self {
            work: Work {
                n_threads,
                next,
                divided: false,
                n_shares: 0,
            },
            own: Own { thread },
        }
    }
}

impl Work<'_> {
    /// How many threads work.
    pub(crate) const fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// A phase that was divided already has nothing left to give.
    fn divide(&mut self, n: usize) -> usize {
        debug_assert!(!self.divided, "a phase is divided once");
        if std::mem::replace(&mut self.divided, true) {
            0
        } else {
            n
        }
    }

    /// The next of `n_shares` shares.
    fn next_share(&mut self, n: usize, n_shares: usize) -> Share {
        self.n_shares = n_shares;
        let share = self.next.fetch_add(1, Ordering::Relaxed);
        if share >= n_shares {
            return Share { units: 0..0 };
        }
        let (each, more) = (n / n_shares, n % n_shares);
        let start = share * each + share.min(more);
        Share {
            units: start..start + each + usize::from(share < more),
        }
    }

    /// Units `0..n` in equal runs, as many as there are threads. A thread gets one of them; if others have not come, the
    /// kernel is called again for theirs.
    pub(crate) fn even(&mut self, n: usize) -> Share {
        let n = self.divide(n);
        self.next_share(n, self.n_threads)
    }

    /// Units `0..n` all for one thread; the others get none. For work too small to divide.
    pub(crate) fn alone(&mut self, n: usize) -> Share {
        let n = self.divide(n);
        self.next_share(n, 1)
    }

    /// Must the kernel be called again for shares that no thread has taken?
    pub(crate) fn has_more(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.n_shares
    }

    /// Units `0..n` in runs of `grain`, given to whoever asks next.
    pub(crate) fn chunks(&mut self, n: usize, grain: usize) -> Chunks<'_> {
        let n = self.divide(n);
        Chunks {
            next: self.next,
            n,
            grain: grain.max(1),
        }
    }
}

impl Own {
    /// The row of a table with a row for each thread that is this thread's own.
    pub(crate) fn row<'s, T: Pod>(&'s mut self, table: &'s Table<T>) -> &'s mut [T] {
        // SAFETY: no two threads of a phase have the same number, and the borrow of `self` keeps this row apart from
        // another one of the same thread.
        unsafe { table.rows(self.thread..self.thread + 1) }
    }

    /// The same for two tables at once.
    pub(crate) fn rows_of_two<'s, A: Pod, B: Pod>(
        &'s mut self,
        a: &'s Table<A>,
        b: &'s Table<B>,
    ) -> (&'s mut [A], &'s mut [B]) {
        let mine = self.thread..self.thread + 1;
        debug_assert!(!a.overlaps(b), "the same table twice");
        // SAFETY: as for `row`, and the tables of a layout are different memory.
        unsafe { (a.rows(mine.clone()), b.rows(mine)) }
    }
}

/// Runs of units, given to whoever asks next.
pub(crate) struct Chunks<'a> {
    next: &'a AtomicUsize,
    n: usize,
    grain: usize,
}

impl Chunks<'_> {
    /// The next run; `None` when all are given out.
    pub(crate) fn next(&mut self) -> Option<Share> {
        if self.next.load(Ordering::Relaxed) >= self.n {
            return None;
        }
        let start = self.next.fetch_add(self.grain, Ordering::Relaxed);
        (start < self.n).then(|| Share {
            units: start..self.n.min(start + self.grain),
        })
    }
}

/// Units of work that are this thread's alone, and with them the places of the outputs that belong to them.
///
/// All units of a phase must mean the same: a kernel opens an output in the same way for each of its shares.
#[derive(Debug)]
pub(crate) struct Share {
    units: Range<usize>,
}

impl Share {
    /// The units' numbers.
    pub(crate) fn units(&self) -> Range<usize> {
        self.units.clone()
    }

    /// The rows of an output whose units are `rows_per_unit` neighbouring rows each.
    pub(crate) fn rows<'s>(&'s mut self, out: &'s Out, rows_per_unit: usize) -> Rows<'s> {
        // SAFETY: the units are this thread's alone, and the borrow of `self` keeps a second opening away.
        unsafe {
            Rows::new(
                out,
                self.units.start * rows_per_unit..self.units.end * rows_per_unit,
            )
        }
    }

    /// The rows of two outputs at once.
    pub(crate) fn rows_of_two<'s>(
        &'s mut self,
        a: (&'s Out, usize),
        b: (&'s Out, usize),
    ) -> (Rows<'s>, Rows<'s>) {
        debug_assert!(!a.0.is(b.0), "the same output twice");
        let of = |n: usize| self.units.start * n..self.units.end * n;
        // SAFETY: as above, and the outputs of an op are different memory.
        unsafe { (Rows::new(a.0, of(a.1)), Rows::new(b.0, of(b.1))) }
    }

    /// The blocks of an F32 output whose units are `band_rows` rows by `block_width` columns, bands outermost.
    pub(crate) fn blocks<'s>(
        &'s mut self,
        out: &'s Out,
        band_rows: usize,
        block_width: usize,
    ) -> Blocks<'s> {
        // SAFETY: as for `rows`.
        unsafe { Blocks::new(out, self.units.clone(), band_rows, block_width) }
    }

    /// The columns of an F32 output's rows whose units are a group of rows by `block_width` columns, groups outermost.
    pub(crate) fn group_blocks<'s>(
        &'s mut self,
        out: &'s Out,
        groups: &'s Groups,
        block_width: usize,
    ) -> GroupBlocks<'s> {
        // SAFETY: as for `rows`.
        unsafe { GroupBlocks::new(out, groups, self.units.clone(), block_width) }
    }

    /// The elements of a gapless output whose units are `elems_per_unit` elements each.
    pub(crate) fn elems<'s, T: Pod>(
        &'s mut self,
        out: &'s Out,
        elems_per_unit: usize,
    ) -> &'s mut [T] {
        // SAFETY: as for `rows`.
        unsafe { out.elems(self.units.start * elems_per_unit..self.units.end * elems_per_unit) }
    }

    /// The rows of a table whose units are `rows_per_unit` rows each, one behind the other.
    pub(crate) fn table<'s, T: Pod>(
        &'s mut self,
        table: &'s Table<T>,
        rows_per_unit: usize,
    ) -> &'s mut [T] {
        // SAFETY: as for `rows`.
        unsafe { table.rows(self.units.start * rows_per_unit..self.units.end * rows_per_unit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units that `n_calls` calls of a kernel get.
    fn units(n_calls: usize, mut call: impl FnMut(&mut Part<'_>) -> Vec<usize>) -> Vec<usize> {
        let next = AtomicUsize::new(0);
        (0..n_calls)
            .flat_map(|thread| call(&mut Part::new(thread, n_calls, &next)))
            .collect()
    }

    #[test]
    fn every_unit_is_given_out_once() {
        for n_threads in 1..5 {
            for n in [0, 1, 2, 7, 64] {
                let all: Vec<usize> = (0..n).collect();
                let even = units(n_threads, |part| part.work.even(n).units().collect());
                let alone = units(n_threads, |part| part.work.alone(n).units().collect());
                let chunks = units(n_threads, |part| {
                    let mut runs = part.work.chunks(n, 3);
                    std::iter::from_fn(|| runs.next())
                        .flat_map(|share| share.units())
                        .collect()
                });
                assert_eq!((&even, &alone, &chunks), (&all, &all, &all));
            }
        }
    }

    #[test]
    fn shares_of_threads_that_do_not_come_are_left() {
        let next = AtomicUsize::new(0);
        let mut seen = Vec::new();
        loop {
            let mut part = Part::new(0, 3, &next);
            seen.extend(part.work.even(7).units());
            if !part.work.has_more() {
                break;
            }
        }
        assert_eq!(seen, (0..7).collect::<Vec<_>>());
    }
}

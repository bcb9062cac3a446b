//! Rows of an output in groups that data decides: a list of rows sorted by group, and writing to the rows of a group.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Out, Scratch, ScratchLayout, Slot, Table};
use crate::part::Share;

/// The place of [`Groups`] in the working memory.
#[derive(Clone, Copy)]
pub(crate) struct GroupsSlot {
    table: Slot<u32>,
    n_groups: usize,
    n_rows: usize,
}

impl GroupsSlot {
    /// For `n_rows` rows in `n_groups` groups.
    pub(crate) fn new(scratch: &mut ScratchLayout, n_groups: usize, n_rows: usize) -> Self {
        let width = n_rows
            .saturating_mul(2)
            .saturating_add(n_groups)
            .saturating_add(1);
        Self {
            table: scratch.table(1, width),
            n_groups,
            n_rows,
        }
    }
}

/// Rows sorted by group. Only [`Groups::sort`] writes the list, so that it names each row once.
pub(crate) struct Groups {
    /// Where each group starts in the list, and its end; the list; the group of each row.
    table: Table<u32>,
    n_groups: usize,
    n_rows: usize,
}

impl Groups {
    /// The groups in a step's working memory.
    pub(crate) fn new(scratch: &Scratch, slot: GroupsSlot) -> Self {
        Self {
            table: scratch.table(slot.table),
            n_groups: slot.n_groups,
            n_rows: slot.n_rows,
        }
    }

    /// Sorts the rows, in their order within a group. The share must hold the one unit that a phase of its own has; the
    /// phases after it may read the groups.
    ///
    /// # Errors
    /// What `group_of` finds wrong. It must give groups below the number of groups.
    pub(crate) fn sort<E>(
        &self,
        share: &mut Share,
        group_of: impl Fn(usize) -> Result<usize, E>,
    ) -> Result<(), E> {
        let table = share.table(&self.table, 1);
        if table.is_empty() {
            return Ok(());
        }
        let (starts, lists) = table.split_at_mut((self.n_groups + 1).min(table.len()));
        let (order, keys) = lists.split_at_mut(self.n_rows.min(lists.len()));
        starts.fill(0);
        for (row, key) in keys.iter_mut().enumerate() {
            let group = group_of(row)?.min(self.n_groups.saturating_sub(1));
            *key = group as u32;
            if let Some(count) = starts.get_mut(group) {
                *count += 1;
            }
        }
        let mut end = 0;
        for start in starts.iter_mut() {
            end += *start;
            *start = end;
        }
        for (row, key) in keys.iter().enumerate().rev() {
            if let Some(start) = starts.get_mut(*key as usize) {
                *start -= 1;
                if let Some(place) = order.get_mut(*start as usize) {
                    *place = row as u32;
                }
            }
        }
        Ok(())
    }

    /// The rows of a group.
    pub(crate) fn rows(&self, group: usize) -> &[u32] {
        let (starts, lists) = self
            .table
            .read()
            .split_at_checked(self.n_groups + 1)
            .unwrap_or_default();
        match (starts.get(group), starts.get(group + 1)) {
            (Some(start), Some(end)) => lists
                .get(*start as usize..*end as usize)
                .unwrap_or_default(),
            _ => &[],
        }
    }

    /// Groups times blocks of columns: the units of work.
    pub(crate) fn n_blocks(&self, out: &Out, block_width: usize) -> usize {
        self.n_groups * out.width().div_ceil(block_width.max(1))
    }
}

/// Columns of the rows of groups that one thread may write, in an F32 output.
pub(crate) struct GroupBlocks<'a> {
    out: &'a Out,
    groups: &'a Groups,
    units: Range<usize>,
    block_width: usize,
    share: PhantomData<&'a mut ()>,
}

impl<'a> GroupBlocks<'a> {
    /// # Safety
    /// For 'a, nothing else reaches these columns of the rows of these groups, and nobody sorts the groups.
    pub(crate) const unsafe fn new(
        out: &'a Out,
        groups: &'a Groups,
        units: Range<usize>,
        block_width: usize,
    ) -> Self {
        Self {
            out,
            groups,
            units,
            block_width,
            share: PhantomData,
        }
    }

    /// Group and columns of a unit.
    pub(crate) fn place(&self, unit: usize) -> (usize, Range<usize>) {
        let width = self.out.width();
        let per_group = width.div_ceil(self.block_width.max(1)).max(1);
        let start = unit % per_group * self.block_width;
        (unit / per_group, start..width.min(start + self.block_width))
    }

    /// The unit's columns of row `i` of its group; empty if the unit is not one of these.
    pub(crate) fn row(&mut self, unit: usize, i: usize) -> &mut [f32] {
        let (group, columns) = self.place(unit);
        let row = self
            .groups
            .rows(group)
            .get(i)
            .filter(|_| self.units.contains(&unit));
        debug_assert!(
            row.is_some(),
            "row {i} of unit {unit} is outside the share {:?}",
            self.units
        );
        // SAFETY: the units are the thread's own (`new`), and no row is in two groups.
        row.map_or(&mut [], |row| unsafe {
            self.out.columns(*row as usize, columns)
        })
    }
}

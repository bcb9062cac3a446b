//! Working memory of a step: tables of plain values, laid out when the kernel is chosen.

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::Pod;

/// Tables start on cache lines.
const ALIGN: usize = 64;

/// Counts the working memory of a kernel while it is chosen.
#[derive(Debug, Default)]
pub(crate) struct ScratchLayout {
    bytes: usize,
}

/// A table's place in the working memory.
pub(crate) struct Slot<T> {
    offset: usize,
    n_rows: usize,
    width: usize,
    values: PhantomData<fn() -> T>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slot<T> {}

impl ScratchLayout {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a table of `n_rows` rows of `width` values.
    pub(crate) fn table<T: Pod>(&mut self, n_rows: usize, width: usize) -> Slot<T> {
        let offset = self.bytes;
        let bytes = n_rows.saturating_mul(width).saturating_mul(size_of::<T>());
        self.bytes = offset
            .saturating_add(bytes)
            .checked_next_multiple_of(ALIGN)
            .unwrap_or(usize::MAX);
        Slot {
            offset,
            n_rows,
            width,
            values: PhantomData,
        }
    }

    /// Bytes of all tables.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A step's working memory.
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    data: *mut u8,
    bytes: usize,
}

impl Scratch {
    /// # Safety
    /// `data` is aligned to cache lines; the bytes are readable and writable as long as the step's kernel is used, and
    /// nobody else accesses them while it runs.
    pub(crate) const unsafe fn new(data: *mut u8, bytes: usize) -> Self {
        Self { data, bytes }
    }

    /// The table at a slot; empty if the memory does not hold it.
    pub(crate) fn table<T: Pod>(&self, slot: Slot<T>) -> Table<T> {
        let end = slot
            .n_rows
            .checked_mul(slot.width)
            .and_then(|n| n.checked_mul(size_of::<T>()));
        let fits = end
            .and_then(|n| n.checked_add(slot.offset))
            .is_some_and(|end| end <= self.bytes);
        debug_assert!(
            fits || slot.n_rows * slot.width == 0,
            "the step's working memory is too small"
        );
        let (offset, n_rows) = if fits {
            (slot.offset, slot.n_rows)
        } else {
            (0, 0)
        };
        // SAFETY: the table lies inside the working memory.
        let data = unsafe { self.data.add(offset) }.cast();
        Table {
            data,
            n_rows,
            width: slot.width,
        }
    }
}

/// Rows of values in a step's working memory. What they hold before they are written is not defined.
#[derive(Clone, Copy)]
pub(crate) struct Table<T> {
    data: *mut T,
    n_rows: usize,
    width: usize,
}

// SAFETY: writing takes a share of the work, or a row that is the thread's own; reading is for later phases.
unsafe impl<T: Pod + Send> Send for Table<T> {}
// SAFETY: as above.
unsafe impl<T: Pod + Sync> Sync for Table<T> {}

impl<T: Pod> Table<T> {
    /// Values in a row.
    pub(crate) const fn width(&self) -> usize {
        self.width
    }

    /// Do two tables share memory?
    pub(crate) fn overlaps<U: Pod>(&self, other: &Table<U>) -> bool {
        let (a, b) = (self.data as usize, other.data as usize);
        let (a_bytes, b_bytes) = (
            self.n_rows * self.width * size_of::<T>(),
            other.n_rows * other.width * size_of::<U>(),
        );
        a_bytes > 0 && b_bytes > 0 && a < b + b_bytes && b < a + a_bytes
    }

    /// All values, for the phases after the one that wrote them.
    pub(crate) fn read(&self) -> &[T] {
        // SAFETY: the values lie in the step's working memory, any bytes are values of `T`, and by the contract of
        // phases nobody writes them in this one.
        unsafe { std::slice::from_raw_parts(self.data, self.n_rows * self.width) }
    }

    /// Rows to write.
    ///
    /// # Safety
    /// For 'a, nothing else reaches these rows.
    pub(crate) unsafe fn rows<'a>(&self, rows: Range<usize>) -> &'a mut [T] {
        let end = rows.end.min(self.n_rows);
        if rows.start >= end {
            return &mut [];
        }
        let n = (end - rows.start) * self.width;
        // SAFETY: the rows lie in the step's working memory and are the caller's own.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(rows.start * self.width), n) }
    }
}

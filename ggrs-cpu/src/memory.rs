//! Host memory: zeroed allocations that fail with an error, and memory that somebody else keeps. The only file that
//! allocates for buffers; it must not know what is stored.

use std::alloc::Layout;
use std::any::Any;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

/// Memory starts on multiples of this.
pub(crate) const ALIGN: usize = 64;

/// The right to reach contents: shared to read, exclusive to write. There is one for all memory of a device.
pub(crate) struct Access(());

impl Access {
    /// The right for a device's memory; made once, when the device is opened.
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

/// Bytes that stay where they are until they are dropped.
pub(crate) struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    origin: Origin,
}

enum Origin {
    /// From the allocator.
    Heap(Layout),
    /// Pages from the system: the mapping's start and length.
    #[cfg(unix)]
    Pages(NonNull<u8>, usize),
    /// Somebody else's bytes, never written here, and what keeps them.
    Shared { _owner: Arc<dyn Any + Send + Sync> },
}

// SAFETY: the memory is owned, or kept alive and unchanged by an owner that may be sent and shared itself. Who may write
// when is decided by the users of `start`.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `bytes` zeroed bytes on a multiple of 64; `None` if the system has none to give.
    ///
    /// With `touch`, large memory is given real pages at once, so that using it later costs nothing and cannot fail.
    pub(crate) fn zeroed(bytes: usize, touch: bool) -> Option<Self> {
        #[cfg(unix)]
        if bytes >= pages::LARGE {
            return pages::map(bytes, touch);
        }
        let _ = touch;
        let layout = Layout::from_size_align(bytes.max(1), ALIGN).ok()?;
        // SAFETY: the layout's size is not 0.
        let start = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
        Some(Self {
            start,
            bytes,
            origin: Origin::Heap(layout),
        })
    }

    /// Bytes that `owner` keeps. They must stay unchanged while it lives, which whoever hands them over promises.
    pub(crate) fn shared(bytes: &[u8], owner: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            start: NonNull::from(bytes).cast(),
            bytes: bytes.len(),
            origin: Origin::Shared { _owner: owner },
        }
    }

    /// Where the bytes begin. Shared memory must not be written.
    pub(crate) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// All bytes.
    pub(crate) const fn read<'a>(&'a self, _: &'a Access) -> &'a [u8] {
        // SAFETY: the memory has these bytes, and whoever writes them has the access exclusively.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// All bytes, to be written; empty if they are somebody else's.
    pub(crate) const fn write<'a>(&'a self, _: &'a mut Access) -> &'a mut [u8] {
        let n_bytes = if self.is_writable() { self.bytes } else { 0 };
        // SAFETY: the memory has these bytes, and nobody else reaches contents while the access is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), n_bytes) }
    }

    /// Copies bytes to a place in other memory, or in the same; what would reach past the end is left out.
    pub(crate) fn copy(from: &Self, range: Range<usize>, to: &Self, at: usize, _: &mut Access) {
        let (start, end) = (range.start.min(from.bytes), range.end.min(from.bytes));
        let n_bytes = end.saturating_sub(start).min(to.bytes.saturating_sub(at));
        if n_bytes == 0 || !to.is_writable() {
            return;
        }
        // SAFETY: both ranges are inside their memory, `to` may be written, the access is borrowed exclusively, and
        // `copy_from` allows an overlap.
        unsafe { to.start.add(at).copy_from(from.start.add(start), n_bytes) };
    }

    /// May the bytes be written?
    pub(crate) const fn is_writable(&self) -> bool {
        !matches!(self.origin, Origin::Shared { .. })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.origin {
            // SAFETY: the allocator gave `start` for this layout.
            Origin::Heap(layout) => unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) },
            #[cfg(unix)]
            // SAFETY: the mapping is this one's own.
            Origin::Pages(start, len) => unsafe {
                libc::munmap(start.as_ptr().cast(), len);
            },
            Origin::Shared { .. } => (),
        }
    }
}

#[cfg(unix)]
mod pages {
    use super::{Memory, NonNull, Origin};

    /// From this size on memory comes straight from the system.
    pub(super) const LARGE: usize = 1 << 20;

    /// The size of a huge page: memory that starts on one is read with far fewer address translations.
    const HUGE_PAGE: usize = 2 << 20;

    pub(super) fn map(bytes: usize, touch: bool) -> Option<Memory> {
        let length = bytes.checked_add(HUGE_PAGE)?;
        let (access, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new anonymous mapping touches no memory in use.
        let mapping = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0) };
        if mapping == libc::MAP_FAILED {
            return None;
        }
        let mapping = NonNull::new(mapping.cast::<u8>())?;
        let skip = mapping.as_ptr().align_offset(HUGE_PAGE).min(HUGE_PAGE);
        // SAFETY: the mapping is longer than `bytes` by a huge page.
        let start = unsafe { mapping.add(skip) };
        #[cfg(target_os = "linux")]
        // SAFETY: advice about pages of this mapping; if the kernel does not take it, nothing is lost.
        unsafe {
            libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE);
            if touch {
                libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE);
            }
        }
        let _ = touch;
        Some(Memory {
            start,
            bytes,
            origin: Origin::Pages(mapping, length),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_aligned_and_refused_when_impossible() {
        for bytes in [0, 1, 1000, 3 << 20] {
            for touch in [false, true] {
                let memory = Memory::zeroed(bytes, touch).unwrap();
                assert_eq!(
                    (memory.bytes(), memory.start().as_ptr() as usize % ALIGN),
                    (bytes, 0)
                );
                let access = Access::new();
                let content = memory.read(&access);
                assert!(content.iter().all(|b| *b == 0));
            }
        }
        assert!(Memory::zeroed(usize::MAX, false).is_none());
        assert!(Memory::zeroed(1 << 60, true).is_none());
    }

    #[test]
    fn shared_memory_keeps_its_owner() {
        let owner: Arc<Vec<u8>> = Arc::new(vec![7; 100]);
        let kept: Arc<dyn Any + Send + Sync> = Arc::<Vec<u8>>::clone(&owner);
        let memory = Memory::shared(&owner, kept);
        assert_eq!(
            (Arc::strong_count(&owner), memory.is_writable()),
            (2, false)
        );
        drop(memory);
        assert_eq!(Arc::strong_count(&owner), 1);
    }
}

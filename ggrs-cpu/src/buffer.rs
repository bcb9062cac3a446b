//! Buffers: memory with its account. It must not know plans or kernels.
//!
//! Contents are reached only with the device's [`Gate`] in hand: it is locked for each transfer and each run, so nobody
//! reads what another thread writes.

use std::any::Any;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ggrs_core::DeviceError;
use ggrs_core::device::{Buffer, BufferSlice, BufferUse, Generation, MemoryReport, WeightForm};

use crate::memory::{Access, Memory};
use crate::pool::Pool;
use crate::system;

/// Up to this many bytes the system is not asked first what is free: asking costs more than allocating.
const SMALL: u64 = 1 << 20;

/// What all parts of an open device share.
pub(crate) struct Shared {
    /// The device, as the user names it.
    pub(crate) name: String,
    /// Threads that it works with once it has work.
    n_threads: usize,
    /// Bytes in buffers.
    held: AtomicU64,
    gate: Mutex<Gate>,
}

/// Access to the contents of a device's buffers, and the threads that work on them.
pub(crate) struct Gate {
    /// The threads.
    pub(crate) pool: Pool,
    access: Access,
}

impl Shared {
    pub(crate) fn new(name: String, n_threads: usize) -> Self {
        Self {
            name,
            n_threads,
            held: AtomicU64::new(0),
            gate: Mutex::new(Gate {
                pool: Pool::alone(),
                access: Access::new(),
            }),
        }
    }

    /// Starts the threads if they do not run yet. Planning needs none; loading and compiling call this, so that a run
    /// cannot fail for want of a thread.
    pub(crate) fn start_threads(&self) -> Result<(), DeviceError> {
        let mut gate = self.gate();
        if gate.pool.n_threads() < self.n_threads {
            gate.pool = Pool::new(self.n_threads).map_err(|error| DeviceError::System {
                device: self.name.clone(),
                what: "starting a thread",
                code: error.to_string(),
            })?;
        }
        Ok(())
    }

    /// Waits until nobody else transfers or runs.
    pub(crate) fn gate(&self) -> MutexGuard<'_, Gate> {
        // A panic leaves only the contents of buffers unfinished, which its run reports.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory now.
    pub(crate) fn memory(&self) -> MemoryReport {
        let (total, free) = system::memory();
        MemoryReport {
            total,
            free,
            held: self.held.load(Ordering::Relaxed),
        }
    }
}

/// Host memory that belongs to a device.
pub(crate) struct CpuBuffer {
    memory: Memory,
    usage: BufferUse,
    form: WeightForm,
    generation: Generation,
    /// Bytes that this buffer added to the account.
    held: u64,
    owner: Arc<Shared>,
}

impl CpuBuffer {
    /// Zeroed memory.
    pub(crate) fn new(
        owner: &Arc<Shared>,
        bytes: u64,
        usage: BufferUse,
        form: WeightForm,
    ) -> Result<Self, DeviceError> {
        let error = || DeviceError::OutOfMemory {
            device: owner.name.clone(),
            what: format!("{usage:?}").to_lowercase(),
            requested: bytes,
            free: system::memory().1,
        };
        let fits = bytes <= SMALL || bytes <= system::memory().1;
        // Weights are written whole right after.
        let touch = usage != BufferUse::Weights;
        let n_bytes = usize::try_from(bytes).ok().filter(|_| fits);
        let memory = n_bytes
            .and_then(|n| Memory::zeroed(n, touch))
            .ok_or_else(error)?;
        owner.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(Self {
            memory,
            usage,
            form,
            generation: Generation::default(),
            held: bytes,
            owner: Arc::clone(owner),
        })
    }

    /// A weight in the file's layout that stays where it is.
    pub(crate) fn shared(owner: &Arc<Shared>, memory: Memory) -> Self {
        let (usage, form) = (BufferUse::Weights, WeightForm::Native);
        Self {
            memory,
            usage,
            form,
            generation: Generation::default(),
            held: 0,
            owner: Arc::clone(owner),
        }
    }

    /// A buffer as one of this device.
    pub(crate) fn of<'a>(
        owner: &Arc<Shared>,
        buffer: &'a dyn Buffer,
    ) -> Result<&'a Self, DeviceError> {
        let foreign = |name: &str| DeviceError::ForeignBuffer {
            device: owner.name.clone(),
            owner: name.to_owned(),
        };
        let mine = buffer
            .as_any()
            .downcast_ref::<Self>()
            .ok_or_else(|| foreign("another device"))?;
        if Arc::ptr_eq(&mine.owner, owner) {
            Ok(mine)
        } else {
            Err(foreign(&mine.owner.name))
        }
    }

    /// The memory itself, for views that a run makes with the gate in hand.
    pub(crate) const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// All bytes.
    pub(crate) fn read<'a>(&'a self, gate: &'a Gate) -> &'a [u8] {
        self.memory.read(&gate.access)
    }

    /// All bytes, to be written; empty if they are not the device's own.
    pub(crate) fn write<'a>(&'a self, gate: &'a mut Gate) -> &'a mut [u8] {
        self.memory.write(&mut gate.access)
    }

    /// The same, and the threads to do it with.
    pub(crate) fn write_with_pool<'a>(
        &'a self,
        gate: &'a mut Gate,
    ) -> (&'a mut Pool, &'a mut [u8]) {
        (&mut gate.pool, self.memory.write(&mut gate.access))
    }

    /// Memory that the device shares with somebody else is not to be written.
    pub(crate) fn check_writable(&self) -> Result<(), DeviceError> {
        if self.memory.is_writable() {
            return Ok(());
        }
        Err(DeviceError::ForeignBuffer {
            device: self.owner.name.clone(),
            owner: "the model file".to_owned(),
        })
    }

    /// Copies bytes of one buffer to a place in another, or in the same; what would reach past the end is left out.
    pub(crate) fn copy(from: &Self, range: Range<usize>, to: &Self, at: usize, gate: &mut Gate) {
        Memory::copy(&from.memory, range, &to.memory, at, &mut gate.access);
    }
}

impl Buffer for CpuBuffer {
    fn bytes(&self) -> u64 {
        self.memory.bytes() as u64
    }

    fn usage(&self) -> BufferUse {
        self.usage
    }

    fn form(&self) -> WeightForm {
        self.form
    }

    fn generation(&self) -> &Generation {
        &self.generation
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for CpuBuffer {
    fn drop(&mut self) {
        self.owner.held.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// The buffer of a slice and the slice's place in it, checked.
pub(crate) fn locate<'a>(
    owner: &Arc<Shared>,
    slice: &'a BufferSlice,
) -> Result<(&'a CpuBuffer, Range<usize>), DeviceError> {
    let buffer = CpuBuffer::of(owner, &*slice.buffer)?;
    let range = slice.within(&owner.name, buffer.memory.bytes())?;
    Ok((buffer, range))
}

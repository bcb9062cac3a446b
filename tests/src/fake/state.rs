//! What all parts of a fake device share: its facts, its account, whether it is lost, and the world that watches.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ggrs_core::device::{BufferSlice, Device, MemoryReport};
use ggrs_core::{BindError, DeviceError, ExecError};

use super::account::{Account, Hold};
use super::audit::{Audit, Finding};
use super::device::FakeDevice;
use super::fault::{FaultKind, Point, Schedule};
use super::spec::FakeSpec;
use crate::sentinel::poison;

/// Milliseconds that a timeout says it waited; nobody does.
const TIMEOUT_MS: u64 = 30_000;

/// What the devices of a world share.
#[derive(Default)]
pub(super) struct Watch {
    schedule: Mutex<Schedule>,
    pub(super) audit: Audit,
}

impl Watch {
    pub(super) fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Losses of a device. What was made before a loss is of an earlier life and works in no later one.
#[derive(Debug, Default)]
struct Life {
    number: u64,
    lost: Option<String>,
}

/// One device of a world.
pub(super) struct DeviceState {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) spec: FakeSpec,
    /// The CPU device that does the work, this device's own.
    pub(super) inner: Arc<dyn Device>,
    pub(super) watch: Arc<Watch>,
    pub(super) account: Arc<Account>,
    /// The handle that is open.
    pub(super) open: Mutex<Weak<FakeDevice>>,
    life: Mutex<Life>,
}

impl DeviceState {
    pub(super) fn new(
        index: usize,
        name: String,
        spec: FakeSpec,
        inner: Arc<dyn Device>,
        watch: &Arc<Watch>,
    ) -> Self {
        Self {
            index,
            name,
            spec,
            inner,
            watch: Arc::clone(watch),
            account: Arc::default(),
            open: Mutex::default(),
            life: Mutex::default(),
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self, finding: Finding) {
        self.watch.audit.report(finding);
    }

    /// The life the device is in; an error if it is lost.
    pub(super) fn alive(&self) -> Result<u64, DeviceError> {
        let life = self.life();
        match &life.lost {
            None => Ok(life.number),
            Some(cause) => Err(self.lost(cause)),
        }
    }

    /// An error if the device is lost, or was since `born`.
    pub(super) fn check_life(&self, born: u64) -> Result<(), DeviceError> {
        if self.alive()? == born {
            Ok(())
        } else {
            Err(self.lost("this was made before the device was lost the last time"))
        }
    }

    fn lost(&self, cause: &str) -> DeviceError {
        DeviceError::Lost {
            device: self.name.clone(),
            cause: cause.to_owned(),
        }
    }

    /// From here on everything fails.
    pub(super) fn lose(&self, cause: String) {
        let mut life = self.life();
        if life.lost.is_none() {
            life.number += 1;
            life.lost = Some(cause);
        }
    }

    /// New things work again.
    pub(super) fn revive(&self) {
        self.life().lost = None;
    }

    /// An event of `bytes` bytes for `what`, which may fail.
    pub(super) fn event(
        &self,
        point: Point,
        bytes: u64,
        what: impl FnOnce() -> String,
    ) -> Result<(), DeviceError> {
        self.alive()?;
        let fault = self.watch.schedule().happen(self.index, point, bytes);
        match fault {
            None => Ok(()),
            Some(kind) => Err(self.fail(kind, point, bytes, what())),
        }
    }

    fn fail(&self, kind: FaultKind, point: Point, bytes: u64, what: String) -> DeviceError {
        match kind {
            FaultKind::OutOfMemory => self.out_of_memory(what, bytes, self.memory().free),
            FaultKind::Timeout => DeviceError::Timeout {
                device: self.name.clone(),
                what: format!("{point} of {what}"),
                waited_ms: TIMEOUT_MS,
            },
            FaultKind::Lost => {
                let cause = format!("it went away during {point} of {what}");
                self.lose(cause.clone());
                self.lost(&cause)
            }
        }
    }

    fn out_of_memory(&self, what: String, requested: u64, free: u64) -> DeviceError {
        DeviceError::OutOfMemory {
            device: self.name.clone(),
            what,
            requested,
            free,
        }
    }

    /// Puts memory on the account, within the limits: an event.
    pub(super) fn hold(
        &self,
        point: Point,
        bytes: u64,
        what: impl Fn() -> String,
    ) -> Result<Hold, DeviceError> {
        self.event(point, bytes, &what)?;
        let max = self.spec.max_buffer_bytes;
        if bytes > max {
            return Err(DeviceError::BufferTooBig {
                device: self.name.clone(),
                what: what(),
                requested: bytes,
                max,
            });
        }
        self.account
            .hold(what(), bytes, self.spec.memory_bytes)
            .map_err(|free| self.out_of_memory(what(), bytes, free))
    }

    pub(super) fn memory(&self) -> MemoryReport {
        let (total, held) = (self.spec.memory_bytes, self.account.bytes());
        MemoryReport {
            total,
            free: total.saturating_sub(held),
            held,
        }
    }

    /// Fills memory of the inner device with poison.
    pub(super) fn poison(&self, memory: BufferSlice) -> Result<(), DeviceError> {
        /// Bytes at a time.
        const CHUNK: u64 = 1 << 20;
        let mut queue = self.inner.queue()?;
        let pattern = poison(usize::try_from(memory.bytes.min(CHUNK)).unwrap_or(0));
        let mut at = 0;
        while at < memory.bytes {
            let part = memory.range(&self.name, at, CHUNK.min(memory.bytes - at))?;
            let bytes = usize::try_from(part.bytes).unwrap_or(pattern.len());
            queue.upload(&part, pattern.get(..bytes).unwrap_or(&pattern))?;
            at += part.bytes;
        }
        Ok(())
    }

    /// An error of the inner device as one of this device.
    pub(super) fn own(&self, mut error: DeviceError) -> DeviceError {
        match &mut error {
            DeviceError::OutOfMemory { device, .. }
            | DeviceError::BufferTooBig { device, .. }
            | DeviceError::Range { device, .. }
            | DeviceError::ForeignBuffer { device, .. }
            | DeviceError::StaleBuffer { device, .. }
            | DeviceError::WeightBytes { device, .. }
            | DeviceError::Lost { device, .. }
            | DeviceError::Setting { device, .. }
            | DeviceError::System { device, .. } => device.clone_from(&self.name),
            _ => {}
        }
        error
    }

    /// The same for a run.
    pub(super) fn own_run(&self, error: ExecError) -> ExecError {
        match error {
            ExecError::Device(error) => self.own(error).into(),
            ExecError::Steps { steps, n_steps, .. } => ExecError::Steps {
                device: self.name.clone(),
                steps,
                n_steps,
            },
            other => other,
        }
    }

    /// The same for binding.
    pub(super) fn own_bind(&self, error: BindError) -> BindError {
        match error {
            BindError::Device(error) => self.own(error).into(),
            other => other,
        }
    }
}

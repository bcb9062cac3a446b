//! A world of fake devices: makes them, counts what they do, makes them fail, and says what was wrong with their use.

use std::sync::{Arc, PoisonError};

use ggrs_core::DeviceError;
use ggrs_core::device::{Backend, Device, DeviceInfo, DeviceName, Registry};
use ggrs_cpu::{CpuBackend, CpuOptions};

use super::audit::{AuditFailure, Finding, verdict};
use super::device::{BACKEND, FakeDevice};
use super::fault::{Fault, FaultKind, Point, Tally, spread};
use super::spec::FakeSpec;
use super::state::{DeviceState, Watch};

/// Fake devices `fake:0`, `fake:1`, .. and all that is known of them. Clones are the same world.
///
/// ```
/// use ggrs_tests::fake::{FakeSpec, FakeWorld};
///
/// let world = FakeWorld::new([FakeSpec::default(), FakeSpec::default().memory(1 << 30)])?;
/// let devices = world.open_all()?;
/// assert_eq!(devices[1].info().name.to_string(), "fake:1");
/// // .. load, run, drop ..
/// drop(devices);
/// world.audit().unwrap();
/// world.assert_no_leaks();
/// # Ok::<(), ggrs_core::DeviceError>(())
/// ```
#[derive(Clone)]
pub struct FakeWorld {
    watch: Arc<Watch>,
    devices: Arc<Vec<Arc<DeviceState>>>,
}

impl FakeWorld {
    /// A world with a device for each of `specs`. Nothing is open yet.
    ///
    /// # Errors
    /// A device that cannot be.
    pub fn new(specs: impl IntoIterator<Item = FakeSpec>) -> Result<Self, DeviceError> {
        let watch = Arc::default();
        let cpu = CpuBackend::new(CpuOptions {
            threads: Some(1),
            ..CpuOptions::default()
        });
        let cpu_name = DeviceName {
            backend: cpu.name().to_owned(),
            index: 0,
            members: 1,
        };
        let make = |(index, spec): (usize, FakeSpec)| {
            let name = name(index).to_string();
            spec.check(&name)?;
            let state = DeviceState::new(index, name, spec, cpu.open(&cpu_name)?, &watch);
            Ok(Arc::new(state))
        };
        let devices = specs.into_iter().enumerate().map(make);
        let devices = Arc::new(devices.collect::<Result<_, DeviceError>>()?);
        Ok(Self { watch, devices })
    }

    /// A world of `n` devices that are alike.
    ///
    /// # Errors
    /// Those of [`FakeWorld::new`].
    pub fn uniform(n: usize) -> Result<Self, DeviceError> {
        Self::new(vec![FakeSpec::default(); n])
    }

    fn device(&self, index: usize) -> Result<&Arc<DeviceState>, DeviceError> {
        self.devices
            .get(index)
            .ok_or_else(|| DeviceError::NotFound {
                name: name(index).to_string(),
                available: self.devices.iter().map(|d| d.name.clone()).collect(),
            })
    }

    /// Opens `fake:index`. Doing so again while it is open works, and is found by the audit.
    ///
    /// # Errors
    /// No such device, or it is lost.
    pub fn open(&self, index: usize) -> Result<Arc<dyn Device>, DeviceError> {
        let state = self.device(index)?;
        state.alive()?;
        let mut open = state.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.strong_count() > 0 {
            let device = state.name.clone();
            state.report(Finding::DoubleOpen { device });
        }
        let device = Arc::new(FakeDevice::new(Arc::clone(state)));
        *open = Arc::downgrade(&device);
        Ok(device)
    }

    /// Opens all devices, in order.
    ///
    /// # Errors
    /// Those of [`FakeWorld::open`].
    pub fn open_all(&self) -> Result<Vec<Arc<dyn Device>>, DeviceError> {
        (0..self.devices.len()).map(|i| self.open(i)).collect()
    }

    /// A registry in which the devices can be opened by name.
    pub fn registry(&self) -> Registry {
        Registry::with([Box::new(self.clone()) as Box<dyn Backend>])
    }

    /// Events at a point, of all devices, since the world began or [`FakeWorld::restart_counts`].
    pub fn count(&self, point: Point) -> u64 {
        self.watch.schedule().total(point).events
    }

    /// Events and bytes at a point of one device.
    pub fn tally(&self, device: usize, point: Point) -> Tally {
        self.watch.schedule().of_device(device, point)
    }

    /// For a sweep after a rehearsal: up to `limit` events of each point, spread over all that were counted.
    ///
    /// ```text
    /// rehearse(&world);
    /// for (point, n) in world.sweep(50) {
    ///     let world = fresh();
    ///     world.fail_at(point, n, FaultKind::Lost);
    ///     // it must end in a typed error
    /// }
    /// ```
    pub fn sweep(&self, limit: u64) -> Vec<(Point, u64)> {
        let of_point = |point| {
            spread(self.count(point), limit)
                .into_iter()
                .map(move |n| (point, n))
        };
        Point::ALL.into_iter().flat_map(of_point).collect()
    }

    /// Counts from 0 again; faults that have not happened are forgotten.
    pub fn restart_counts(&self) {
        self.watch.schedule().restart();
    }

    /// Makes a device fail.
    pub fn inject(&self, fault: Fault) {
        self.watch.schedule().inject(fault);
    }

    /// Makes the event `n` (from 0) at a point fail, on whichever device it happens.
    pub fn fail_at(&self, point: Point, n: u64, kind: FaultKind) {
        self.inject(Fault {
            device: None,
            point,
            nth: n,
            kind,
        });
    }

    /// Makes the next event at a point fail.
    pub fn fail_next(&self, point: Point, kind: FaultKind) {
        self.fail_at(point, self.count(point), kind);
    }

    /// The faults that have happened.
    pub fn fired(&self) -> Vec<Fault> {
        self.watch.schedule().fired().to_vec()
    }

    /// Forgets the faults that have not happened.
    pub fn clear_faults(&self) {
        self.watch.schedule().clear_faults();
    }

    /// An event that no device counts by itself, such as a device's part in a collective of `bytes` bytes.
    ///
    /// # Errors
    /// The fault that was waiting for it, or the device is lost or not there.
    pub fn happen(
        &self,
        device: usize,
        point: Point,
        bytes: u64,
        what: &str,
    ) -> Result<(), DeviceError> {
        self.device(device)?.event(point, bytes, || what.to_owned())
    }

    /// The device goes away, as if its cable were pulled; nothing if there is no such device.
    pub fn lose(&self, device: usize) {
        if let Ok(state) = self.device(device) {
            state.lose("its cable was pulled".to_owned());
        }
    }

    /// A lost device works again; what was made on it before stays lost.
    pub fn revive(&self, device: usize) {
        if let Ok(state) = self.device(device) {
            state.revive();
        }
    }

    /// Is the device lost?
    pub fn is_lost(&self, device: usize) -> bool {
        self.device(device)
            .is_ok_and(|state| state.alive().is_err())
    }

    /// Bytes held on a device.
    pub fn held_bytes(&self, device: usize) -> u64 {
        self.device(device).map_or(0, |state| state.account.bytes())
    }

    /// Were the devices used as they should be, so far?
    ///
    /// # Errors
    /// Everything that was wrong.
    pub fn audit(&self) -> Result<(), AuditFailure> {
        self.watch.audit.verdict()
    }

    /// What the audit found so far, which it then forgets: for tests that do wrong on purpose.
    pub fn take_findings(&self) -> Vec<Finding> {
        self.watch.audit.take()
    }

    /// Is all memory free?
    ///
    /// # Errors
    /// Every device that holds some, and for what.
    pub fn check_no_leaks(&self) -> Result<(), AuditFailure> {
        let leaks = self.devices.iter().filter_map(|state| {
            let held = state.account.held();
            let device = state.name.clone();
            (!held.is_empty()).then_some(Finding::Leak { device, held })
        });
        verdict(leaks.collect(), 0)
    }

    /// The same as an assertion.
    ///
    /// # Panics
    /// If memory is held.
    #[track_caller]
    pub fn assert_no_leaks(&self) {
        let leaks = self.check_no_leaks();
        assert!(
            leaks.is_ok(),
            "{}",
            leaks.err().map_or_else(String::new, |e| e.to_string())
        );
    }
}

fn name(index: usize) -> DeviceName {
    DeviceName {
        backend: BACKEND.to_owned(),
        index,
        members: 1,
    }
}

impl Backend for FakeWorld {
    fn name(&self) -> &'static str {
        BACKEND
    }

    fn enumerate(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
        let devices = self.devices.iter();
        Ok(devices
            .map(|state| FakeDevice::new(Arc::clone(state)).info())
            .collect())
    }

    fn open(&self, name: &DeviceName) -> Result<Arc<dyn Device>, DeviceError> {
        if name.members == 1 {
            return self.open(name.index);
        }
        Err(DeviceError::NotFound {
            name: name.to_string(),
            available: self.devices.iter().map(|d| d.name.clone()).collect(),
        })
    }
}

//! A device that does what another does until it is told to fail.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ggrs_core::device::{
    Bindings, Buffer, BufferSlice, BufferUse, CaptureState, Device, DeviceInfo, Executable, Fence,
    Limits, MemoryReport, Precision, Queue, Route, RouteRequest, WeightForm, WeightSource,
    WeightUse,
};
use ggrs_core::error::RefusalReason;
use ggrs_core::plan::{Plan, StateSlot, WeightSlot};
use ggrs_core::{BindError, DeviceError, ExecError, TensorDesc, Unsupported, ValueId};

/// What the device does from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fault {
    None,
    RefusesMatMul,
    NoMemory,
    RunFails,
    RunPanics,
    /// A run does not come back before [`Fault::None`] is set.
    RunHangs,
    DownloadFails,
    UploadFails,
}

const ALL: [Fault; 8] = [
    Fault::None,
    Fault::RefusesMatMul,
    Fault::NoMemory,
    Fault::RunFails,
    Fault::RunPanics,
    Fault::RunHangs,
    Fault::DownloadFails,
    Fault::UploadFails,
];

/// Tells the device how to fail; weights that were loaded: name, where the bytes were, whether they have an owner.
#[derive(Default)]
pub(crate) struct Switch {
    fault: AtomicU8,
    pub(crate) loaded: Mutex<Vec<(String, usize, bool)>>,
}

impl Switch {
    pub(crate) fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    fn get(&self) -> Fault {
        ALL[usize::from(self.fault.load(Ordering::SeqCst))]
    }
}

pub(crate) struct Faulty {
    inner: Arc<dyn Device>,
    switch: Arc<Switch>,
}

/// The device with its switch.
pub(crate) fn faulty(inner: Arc<dyn Device>) -> (Arc<dyn Device>, Arc<Switch>) {
    let switch = Arc::new(Switch::default());
    let device = Faulty {
        inner,
        switch: Arc::clone(&switch),
    };
    (Arc::new(device), switch)
}

fn lost(device: &str) -> DeviceError {
    DeviceError::Lost {
        device: device.to_owned(),
        cause: "told to".to_owned(),
    }
}

impl Device for Faulty {
    fn info(&self) -> DeviceInfo {
        self.inner.info()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn memory(&self) -> MemoryReport {
        self.inner.memory()
    }

    fn route(&self, request: &RouteRequest<'_>) -> Result<Route, Unsupported> {
        if self.switch.get() == Fault::RefusesMatMul && request.op.spec().stem() == "matmul" {
            let needs = "goodwill";
            return Err(Unsupported::one("none", RefusalReason::Feature { needs }));
        }
        self.inner.route(request)
    }

    fn weight_form(&self, desc: &TensorDesc, uses: &[WeightUse<'_>], p: Precision) -> WeightForm {
        self.inner.weight_form(desc, uses, p)
    }

    fn weight_bytes(&self, desc: &TensorDesc, form: WeightForm) -> u64 {
        self.inner.weight_bytes(desc, form)
    }

    fn alloc(&self, bytes: u64, usage: BufferUse) -> Result<Arc<dyn Buffer>, DeviceError> {
        if self.switch.get() == Fault::NoMemory {
            return Err(lost(&self.info().name.to_string()));
        }
        self.inner.alloc(bytes, usage)
    }

    fn alloc_state(&self, slot: &StateSlot) -> Result<Arc<dyn Buffer>, DeviceError> {
        self.alloc(slot.bytes, BufferUse::State)
    }

    fn load_weight(
        &self,
        slot: &WeightSlot,
        source: WeightSource<'_>,
    ) -> Result<Arc<dyn Buffer>, DeviceError> {
        if self.switch.get() == Fault::NoMemory {
            return Err(lost(&self.info().name.to_string()));
        }
        let at = source.bytes.as_ptr() as usize;
        let mut loaded = self.switch.loaded.lock().unwrap();
        loaded.push((slot.name.clone(), at, source.owner.is_some()));
        drop(loaded);
        self.inner.load_weight(slot, source)
    }

    fn read_weight(&self, slot: &WeightSlot, buffer: &dyn Buffer) -> Result<Vec<u8>, DeviceError> {
        self.inner.read_weight(slot, buffer)
    }

    fn queue(&self) -> Result<Box<dyn Queue>, DeviceError> {
        Ok(Box::new(FaultyQueue {
            name: self.info().name.to_string(),
            inner: self.inner.queue()?,
            switch: Arc::clone(&self.switch),
        }))
    }

    fn compile(
        &self,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Box<dyn Executable>, BindError> {
        if self.switch.get() == Fault::NoMemory {
            return Err(lost(&self.info().name.to_string()).into());
        }
        Ok(Box::new(FaultyExecutable {
            inner: self.inner.compile(plan, bindings)?,
            switch: Arc::clone(&self.switch),
        }))
    }
}

struct FaultyQueue {
    name: String,
    inner: Box<dyn Queue>,
    switch: Arc<Switch>,
}

impl Queue for FaultyQueue {
    fn upload(&mut self, to: &BufferSlice, data: &[u8]) -> Result<(), DeviceError> {
        if self.switch.get() == Fault::UploadFails {
            return Err(lost(&self.name));
        }
        self.inner.upload(to, data)
    }

    fn download(&mut self, from: &BufferSlice, data: &mut [u8]) -> Result<(), ExecError> {
        if self.switch.get() == Fault::DownloadFails {
            return Err(lost(&self.name).into());
        }
        self.inner.download(from, data)
    }

    fn copy(&mut self, from: &BufferSlice, to: &BufferSlice) -> Result<(), DeviceError> {
        self.inner.copy(from, to)
    }

    fn fill(&mut self, to: &BufferSlice, byte: u8) -> Result<(), DeviceError> {
        self.inner.fill(to, byte)
    }

    fn submit(
        &mut self,
        executable: &mut dyn Executable,
        steps: Range<usize>,
    ) -> Result<Fence, ExecError> {
        self.inner.submit(executable, steps)
    }

    fn wait(&mut self, fence: Fence) -> Result<(), ExecError> {
        self.inner.wait(fence)
    }
}

struct FaultyExecutable {
    inner: Box<dyn Executable>,
    switch: Arc<Switch>,
}

impl Executable for FaultyExecutable {
    fn plan(&self) -> &Arc<Plan> {
        self.inner.plan()
    }

    fn value(&self, value: ValueId) -> Option<BufferSlice> {
        self.inner.value(value)
    }

    fn run(&mut self, steps: Range<usize>) -> Result<(), ExecError> {
        match self.switch.get() {
            Fault::RunFails => return Err(lost("it").into()),
            Fault::RunPanics => panic!("told to"),
            _ => (),
        }
        while self.switch.get() == Fault::RunHangs {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.inner.run(steps)
    }

    fn capture_state(&self) -> CaptureState {
        self.inner.capture_state()
    }

    fn capture(&mut self) -> Result<(), ExecError> {
        self.inner.capture()
    }

    fn release_capture(&mut self) {
        self.inner.release_capture();
    }
}

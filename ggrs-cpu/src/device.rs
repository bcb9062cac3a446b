//! The CPU as a device: opening it, its facts, and what the traits ask, handed to the files that know.

use std::sync::Arc;

use ggrs_core::device::{
    Backend, Bindings, Buffer, BufferUse, Device, DeviceInfo, DeviceName, Executable, Limits,
    MemoryReport, Precision, Queue, Route, RouteRequest, WeightForm, WeightSource, WeightUse,
};
use ggrs_core::plan::{Plan, WeightSlot};
use ggrs_core::{BindError, DeviceError, TensorDesc, Unsupported};

use crate::buffer::{CpuBuffer, Shared};
use crate::executable::CpuExecutable;
use crate::isa::{ISA_VARIABLE, Isa, IsaError};
use crate::kernel::{Machine, Request};
use crate::memory::ALIGN;
use crate::queue::CpuQueue;
use crate::{routes, system, weights};

/// The name that users write.
const NAME: &str = "cpu";

/// What is set when the CPU is opened.
#[derive(Clone, Copy, Debug)]
pub struct CpuOptions {
    /// Threads of the whole CPU; `None` for as many as it has processors.
    pub threads: Option<usize>,
    /// The instruction-set level.
    pub isa: Isa,
}

impl Default for CpuOptions {
    fn default() -> Self {
        Self {
            threads: None,
            isa: Isa::preferred(),
        }
    }
}

/// The backend of the CPU. Its one device can be cut into members: `cpu:0/2` has half of the threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuBackend {
    options: CpuOptions,
}

impl CpuBackend {
    /// A backend with these options.
    pub const fn new(options: CpuOptions) -> Self {
        Self { options }
    }

    /// A backend with all threads and the instruction-set level that `GGRS_CPU_ISA` names, or the best.
    ///
    /// # Errors
    /// The variable names a level that is unknown or that this machine lacks.
    pub fn from_env() -> Result<Self, DeviceError> {
        let isa = Isa::from_env().map_err(|error| {
            let (value, available) = match error {
                IsaError::Unknown { name, available } => (name, available),
                IsaError::Unsupported { wanted, available } => (wanted.to_string(), available),
            };
            let possible = available
                .iter()
                .map(|isa| isa.name())
                .collect::<Vec<_>>()
                .join(", ");
            DeviceError::Setting {
                device: NAME.to_owned(),
                setting: ISA_VARIABLE,
                value,
                possible,
            }
        })?;
        Ok(Self::new(CpuOptions { threads: None, isa }))
    }

    /// Threads of one of `members` members, which share the CPU's threads; each has at least one.
    fn n_threads(&self, name: &DeviceName) -> usize {
        let all = self
            .options
            .threads
            .unwrap_or_else(system::n_processors)
            .max(1);
        if name.members == 1 {
            return all;
        }
        let more = usize::from(name.index < all % name.members);
        (all / name.members + more).max(1)
    }

    fn info(&self, name: &DeviceName, memory: MemoryReport) -> DeviceInfo {
        let level = match self.options.isa {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "AVX2",
            Isa::Avx512 => "AVX-512 VNNI",
            Isa::Amx => "AVX-512 VNNI, AMX",
        };
        let n_threads = self.n_threads(name);
        let threads = if n_threads == 1 { "thread" } else { "threads" };
        let features = format!("{level}, {n_threads} {threads}");
        DeviceInfo {
            name: name.clone(),
            hardware: system::processor(),
            features,
            memory,
        }
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn enumerate(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
        let name = DeviceName {
            backend: NAME.to_owned(),
            index: 0,
            members: 1,
        };
        let (total, free) = system::memory();
        Ok(vec![self.info(
            &name,
            MemoryReport {
                total,
                free,
                held: 0,
            },
        )])
    }

    fn open(&self, name: &DeviceName) -> Result<Arc<dyn Device>, DeviceError> {
        if name.backend != NAME || (name.members == 1 && name.index != 0) {
            return Err(DeviceError::NotFound {
                name: name.to_string(),
                available: vec!["cpu:0".to_owned()],
            });
        }
        let setting = |setting, value: String, possible: String| {
            Err(DeviceError::Setting {
                device: name.to_string(),
                setting,
                value,
                possible,
            })
        };
        if self.options.threads == Some(0) {
            return setting(
                "threads",
                "0".to_owned(),
                format!("1 to {}", system::n_processors()),
            );
        }
        if !self.options.isa.is_available() {
            let possible = Isa::available()
                .iter()
                .map(|isa| isa.name())
                .collect::<Vec<_>>()
                .join(", ");
            return setting(ISA_VARIABLE, self.options.isa.to_string(), possible);
        }
        let machine = Machine {
            isa: self.options.isa,
            n_threads: self.n_threads(name),
        };
        let info = self.info(name, MemoryReport::default());
        Ok(Arc::new(CpuDevice {
            info,
            machine,
            shared: Arc::new(Shared::new(name.to_string(), machine.n_threads)),
        }))
    }
}

/// The open CPU, or a member of it.
struct CpuDevice {
    info: DeviceInfo,
    machine: Machine,
    shared: Arc<Shared>,
}

impl Device for CpuDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            memory: self.memory(),
            ..self.info.clone()
        }
    }

    fn name(&self) -> DeviceName {
        self.info.name.clone()
    }

    fn limits(&self) -> Limits {
        Limits {
            alignment_bytes: ALIGN as u64,
            max_buffer_bytes: isize::MAX as u64,
        }
    }

    fn memory(&self) -> MemoryReport {
        self.shared.memory()
    }

    fn route(&self, request: &RouteRequest<'_>) -> Result<Route, Unsupported> {
        let request = Request {
            operands: request,
            machine: self.machine,
        };
        routes::choose(&request).map(|choice| choice.route())
    }

    fn weight_form(
        &self,
        desc: &TensorDesc,
        uses: &[WeightUse<'_>],
        precision: Precision,
    ) -> WeightForm {
        weights::form(desc, uses, precision)
    }

    fn weight_bytes(&self, desc: &TensorDesc, form: WeightForm) -> u64 {
        weights::bytes(desc, form)
    }

    fn alloc(&self, bytes: u64, usage: BufferUse) -> Result<Arc<dyn Buffer>, DeviceError> {
        Ok(Arc::new(CpuBuffer::new(
            &self.shared,
            bytes,
            usage,
            WeightForm::Native,
        )?))
    }

    fn load_weight(
        &self,
        slot: &WeightSlot,
        source: WeightSource<'_>,
    ) -> Result<Arc<dyn Buffer>, DeviceError> {
        self.shared.start_threads()?;
        Ok(Arc::new(weights::load(&self.shared, slot, source)?))
    }

    fn read_weight(&self, slot: &WeightSlot, buffer: &dyn Buffer) -> Result<Vec<u8>, DeviceError> {
        weights::read(&self.shared, slot, CpuBuffer::of(&self.shared, buffer)?)
    }

    fn queue(&self) -> Result<Box<dyn Queue>, DeviceError> {
        Ok(Box::new(CpuQueue::new(Arc::clone(&self.shared))))
    }

    fn compile(
        &self,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Box<dyn Executable>, BindError> {
        self.shared.start_threads()?;
        Ok(Box::new(CpuExecutable::new(
            &self.shared,
            self.machine,
            plan,
            bindings,
        )?))
    }
}

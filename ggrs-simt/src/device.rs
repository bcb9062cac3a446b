//! The device: what the traits ask, handed to the files that know.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use ggrs_core::device::{
    Bindings, Buffer, BufferUse, Device, DeviceInfo, DeviceName, Executable, Fusion, FusionRequest,
    Limits, MemoryReport, Precision, Queue, Route, RouteRequest, WeightForm, WeightSource,
    WeightUse,
};
use ggrs_core::plan::{Plan, WeightSlot};
use ggrs_core::{BindError, DeviceError, TensorDesc, Unsupported};

use crate::buffer::SimtBuffer;
use crate::compile::Compiler;
use crate::context::Context;
use crate::driver::Driver;
use crate::executable::{ALIGN, SimtExecutable};
use crate::faults::PATIENCE;
use crate::queue::SimtQueue;
use crate::stages::{self, Stage};
use crate::{routes, weights};

/// An open GPU behind a driver.
pub struct SimtDevice {
    name: DeviceName,
    features: String,
    context: Arc<Context>,
}

impl SimtDevice {
    /// A device of these parts; `features` says what it can do, in the words of its kind.
    ///
    /// # Errors
    /// The driver has no stream or no pinned memory to give.
    pub fn new(
        name: DeviceName,
        features: String,
        driver: Arc<dyn Driver>,
        compiler: Arc<dyn Compiler>,
    ) -> Result<Self, DeviceError> {
        Self::with_patience(name, features, driver, compiler, PATIENCE)
    }

    /// The same with another time that it waits for other members at a sum by a library of collectives.
    ///
    /// # Errors
    /// Those of [`SimtDevice::new`].
    pub fn with_patience(
        name: DeviceName,
        features: String,
        driver: Arc<dyn Driver>,
        compiler: Arc<dyn Compiler>,
        patience: Duration,
    ) -> Result<Self, DeviceError> {
        let context = Context::new(name.to_string(), driver, compiler, patience)?;
        Ok(Self {
            name,
            features,
            context,
        })
    }
}

impl SimtDevice {
    pub(crate) const fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl Device for SimtDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            name: self.name.clone(),
            hardware: self.context.facts().hardware.clone(),
            features: self.features.clone(),
            memory: self.memory(),
        }
    }

    fn name(&self) -> DeviceName {
        self.name.clone()
    }

    fn limits(&self) -> Limits {
        Limits {
            alignment_bytes: ALIGN,
            max_buffer_bytes: self.context.facts().memory_bytes,
        }
    }

    fn memory(&self) -> MemoryReport {
        self.context.memory()
    }

    fn bandwidth(&self) -> Option<f64> {
        self.context.facts().bandwidth
    }

    fn route(&self, operands: &RouteRequest<'_>) -> Result<Route, Unsupported> {
        let link = self.context.membership.link();
        let request = self.context.request(operands, link.as_deref());
        routes::choose(&request).map(|choice| choice.route())
    }

    fn fusions(&self, request: &FusionRequest<'_>) -> Vec<Fusion> {
        let stages = stages::stages(request, self.context.facts());
        stages.iter().map(Stage::fusion).collect()
    }

    fn weight_form(&self, desc: &TensorDesc, uses: &[WeightUse<'_>], _: Precision) -> WeightForm {
        weights::form(desc, uses)
    }

    fn weight_bytes(&self, desc: &TensorDesc, form: WeightForm) -> u64 {
        weights::bytes(desc, form)
    }

    fn alloc(&self, bytes: u64, usage: BufferUse) -> Result<Arc<dyn Buffer>, DeviceError> {
        let what = format!("{usage:?}").to_lowercase();
        let form = WeightForm::Native;
        Ok(Arc::new(SimtBuffer::new(
            &self.context,
            bytes,
            usage,
            form,
            &what,
        )?))
    }

    fn load_weight(
        &self,
        slot: &WeightSlot,
        source: WeightSource<'_>,
    ) -> Result<Arc<dyn Buffer>, DeviceError> {
        Ok(Arc::new(weights::load(&self.context, slot, &source)?))
    }

    fn time_upload(&self, bytes: u64) -> Result<Option<f64>, DeviceError> {
        self.context.time_upload(bytes).map(Some)
    }

    fn read_weight(&self, slot: &WeightSlot, buffer: &dyn Buffer) -> Result<Vec<u8>, DeviceError> {
        weights::read(&self.context, slot, SimtBuffer::of(&self.context, buffer)?)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn link(
        &self,
        rank: usize,
        members: &[Arc<dyn Device>],
    ) -> Result<Option<Arc<dyn Any + Send + Sync>>, DeviceError> {
        let peers = members.iter().map(|m| m.as_any()?.downcast_ref::<Self>());
        let Some(peers) = peers.collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let peers = peers.iter().map(|p| (&p.context, &p.context.membership));
        let peers: Vec<_> = peers.collect();
        let link = self.context.membership.join(rank, &peers)?;
        Ok(link.map(|link| -> Arc<dyn Any + Send + Sync> { link }))
    }

    fn queue(&self) -> Result<Box<dyn Queue>, DeviceError> {
        Ok(Box::new(SimtQueue::new(Arc::clone(&self.context))))
    }

    fn compile(
        &self,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Box<dyn Executable>, BindError> {
        self.context.end_loading();
        if let Some(link) = self.context.membership.link() {
            link.reset()?;
        }
        Ok(Box::new(SimtExecutable::new(
            &self.context,
            plan,
            bindings,
        )?))
    }
}

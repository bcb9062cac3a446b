//! The device itself: its facts, its members', and what the traits ask, handed to the files that know.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use ggrs_core::device::{
    Bindings, Buffer, BufferSlice, BufferUse, Device, DeviceInfo, DeviceName, Executable, Limits,
    MemoryReport, Precision, Queue, Route, RouteRequest, WeightForm, WeightSource, WeightUse,
};
use ggrs_core::plan::{Plan, PlanOptions, PlanParts, StateSlot, WeightSlot, plan};
use ggrs_core::{BindError, DeviceError, Graph, PlanError, TensorDesc, Unsupported};

use crate::buffer::{Identity, MetaBuffer};
use crate::executable::MetaExecutable;
use crate::gaps::fill_gaps;
use crate::options::MetaOptions;
use crate::partition::partition;
use crate::queue::MetaQueue;
use crate::schedule::Schedule;
use crate::split_plan::SplitPlan;
use crate::transport::{HostTransport, Transport};
use crate::weights;

/// How long a member may take for the steps between two collectives before it is given up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Several devices as one.
pub struct MetaDevice {
    identity: Arc<Identity>,
    members: Vec<Arc<dyn Device>>,
    options: MetaOptions,
    transport: Arc<dyn Transport>,
    patience: Duration,
    /// What members keep to run collectives themselves.
    _links: Vec<Arc<dyn Any + Send + Sync>>,
}

impl MetaDevice {
    /// A device made of these, in this order. One may be given several times.
    ///
    /// # Errors
    /// No members, or a member that is itself made of several.
    pub fn new(
        members: Vec<Arc<dyn Device>>,
        options: MetaOptions,
    ) -> Result<Arc<Self>, DeviceError> {
        Self::with_transport(members, options, Arc::new(HostTransport), PATIENCE)
    }

    /// The same with another way to exchange data, and another time that members get between two exchanges.
    ///
    /// # Errors
    /// Those of [`MetaDevice::new`].
    pub fn with_transport(
        members: Vec<Arc<dyn Device>>,
        options: MetaOptions,
        transport: Arc<dyn Transport>,
        patience: Duration,
    ) -> Result<Arc<Self>, DeviceError> {
        let names: Vec<DeviceName> = members.iter().map(|m| m.name()).collect();
        let name = DeviceName::joined(&names).to_string();
        let refuse = |value: String, possible: &str| {
            Err(DeviceError::Setting {
                device: "a device made of several".to_owned(),
                setting: "members",
                value,
                possible: possible.to_owned(),
            })
        };
        if members.is_empty() {
            return refuse(String::new(), "one device or more");
        }
        if let Some(nested) = names.iter().find(|n| n.is_joined()) {
            return refuse(nested.to_string(), "devices that are not made of others");
        }
        let links = members.iter().enumerate().map(|(i, m)| m.link(i, &members));
        let links = links.collect::<Result<Vec<_>, _>>()?;
        let number = |(i, name): (usize, &DeviceName)| format!("member {i} ({name})");
        let members_by_name = names.iter().enumerate().map(number).collect();
        Ok(Arc::new(Self {
            identity: Arc::new(Identity {
                name,
                members: members_by_name,
            }),
            members,
            options,
            transport,
            patience,
            // All of them or none: they meet in the same collectives.
            _links: links.into_iter().collect::<Option<_>>().unwrap_or_default(),
        }))
    }

    /// The members, in order.
    pub fn members(&self) -> &[Arc<dyn Device>] {
        &self.members
    }

    /// The members' memory, in order.
    pub fn member_memory(&self) -> Vec<MemoryReport> {
        self.members.iter().map(|m| m.memory()).collect()
    }

    /// What the user chose.
    pub const fn options(&self) -> &MetaOptions {
        &self.options
    }

    /// How a graph's weights and states lie over the members.
    ///
    /// # Errors
    /// Ratios or sizes that do not fit, weights that contradict each other.
    pub fn split_plan(&self, graph: &Graph) -> Result<SplitPlan, PlanError> {
        SplitPlan::new(graph, self.members.len(), &self.options)
    }

    /// One part of `bytes` bytes on every member.
    fn alloc_on_all(&self, bytes: u64, usage: BufferUse) -> Result<MetaBuffer, DeviceError> {
        let part = |m: &Arc<dyn Device>| Ok(Some(BufferSlice::whole(m.alloc(bytes, usage)?)));
        let parts = self.members.iter().map(part);
        let parts = parts.collect::<Result<Vec<_>, DeviceError>>()?;
        let n_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let what = format!("{usage:?}").to_lowercase();
        MetaBuffer::replicated(&self.identity, &what, n_bytes, parts, usage)
    }
}

impl Device for MetaDevice {
    fn info(&self) -> DeviceInfo {
        let members: Vec<DeviceInfo> = self.members.iter().map(|m| m.info()).collect();
        let names: Vec<DeviceName> = members.iter().map(|m| m.name.clone()).collect();
        let each = |text: fn(&DeviceInfo) -> &str| {
            let mut texts: Vec<&str> = members.iter().map(text).collect();
            texts.dedup();
            texts.join(" + ")
        };
        DeviceInfo {
            name: DeviceName::joined(&names),
            hardware: each(|m| &m.hardware),
            features: format!("{} members: {}", members.len(), each(|m| &m.features)),
            memory: self.memory(),
        }
    }

    fn limits(&self) -> Limits {
        let limits = self.members.iter().map(|m| m.limits());
        let both = |a: Limits, b: Limits| Limits {
            alignment_bytes: a.alignment_bytes.max(b.alignment_bytes),
            max_buffer_bytes: a.max_buffer_bytes.min(b.max_buffer_bytes),
        };
        limits.reduce(both).unwrap_or(Limits {
            alignment_bytes: 1,
            max_buffer_bytes: 0,
        })
    }

    fn memory(&self) -> MemoryReport {
        let add = |a: MemoryReport, b: MemoryReport| MemoryReport {
            total: a.total.saturating_add(b.total),
            free: a.free.saturating_add(b.free),
            held: a.held.saturating_add(b.held),
        };
        self.member_memory()
            .into_iter()
            .fold(MemoryReport::default(), add)
    }

    fn bandwidth(&self) -> Option<f64> {
        self.members.iter().map(|m| m.bandwidth()).sum()
    }

    fn route(&self, _: &RouteRequest<'_>) -> Result<Route, Unsupported> {
        // Which kernels run is asked of each member for its own part, when the plan is made.
        Ok(Route::outside(
            "members",
            "each member's plan has its own kernel",
        ))
    }

    fn weight_form(&self, _: &TensorDesc, _: &[WeightUse<'_>], _: Precision) -> WeightForm {
        WeightForm::Native
    }

    fn weight_bytes(&self, desc: &TensorDesc, _: WeightForm) -> u64 {
        desc.bytes().unwrap_or(0) as u64
    }

    fn plan(&self, graph: &Arc<Graph>, options: &PlanOptions) -> Result<PlanParts, PlanError> {
        let split = self.split_plan(graph)?;
        let parts = partition(graph, &split, &self.options)?;
        // The whole graph has been through the passes; what partitioning left unused goes.
        let options = PlanOptions {
            precision: options.precision,
            passes: options.passes.clone().only("drop_dead"),
            collectives: Some(self.transport.route()),
        };
        let mut plans = Vec::with_capacity(self.members.len());
        for ((part, device), name) in parts
            .graphs
            .iter()
            .zip(&self.members)
            .zip(&self.identity.members)
        {
            let planned = plan(part, &**device, &options).map_err(|source| PlanError::Member {
                member: name.clone(),
                source: Box::new(source),
            })?;
            plans.push(Arc::new(planned));
        }
        let mut whole = PlanParts::of_members(graph, options.precision, plans, parts.shardings);
        let notes = parts.collectives.into_iter();
        whole.collectives = notes.map(|note| (note.node, note.why)).collect();
        let schedule = Schedule::new(&whole, &self.identity.members)?;
        fill_gaps(&mut whole, &schedule);
        Ok(whole)
    }

    fn alloc(&self, bytes: u64, usage: BufferUse) -> Result<Arc<dyn Buffer>, DeviceError> {
        Ok(Arc::new(self.alloc_on_all(bytes, usage)?))
    }

    fn alloc_state(&self, slot: &StateSlot) -> Result<Arc<dyn Buffer>, DeviceError> {
        Ok(Arc::new(weights::alloc_state(
            &self.identity,
            &self.members,
            slot,
        )?))
    }

    fn load_weight(
        &self,
        slot: &WeightSlot,
        source: WeightSource<'_>,
    ) -> Result<Arc<dyn Buffer>, DeviceError> {
        Ok(Arc::new(weights::load(
            &self.identity,
            &self.members,
            slot,
            source,
        )?))
    }

    /// Members are loaded one after another, each with its share.
    fn time_upload(&self, bytes: u64) -> Result<Option<f64>, DeviceError> {
        let share = bytes / (self.members.len() as u64).max(1);
        self.members.iter().map(|m| m.time_upload(share)).sum()
    }

    fn read_weight(&self, slot: &WeightSlot, buffer: &dyn Buffer) -> Result<Vec<u8>, DeviceError> {
        weights::read(&self.identity, &self.members, slot, buffer)
    }

    fn queue(&self) -> Result<Box<dyn Queue>, DeviceError> {
        let members = self.members.iter().map(|m| m.queue());
        let members = members.collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(MetaQueue::new(&self.identity, members)))
    }

    fn compile(
        &self,
        plan: &Arc<Plan>,
        bindings: &Bindings,
    ) -> Result<Box<dyn Executable>, BindError> {
        Ok(Box::new(MetaExecutable::new(
            &self.identity,
            &self.members,
            &self.transport,
            self.patience,
            plan,
            bindings,
        )?))
    }
}

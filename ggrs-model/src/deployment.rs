//! Deployments: from the words of a user (devices, how to split, what goes where) to a placement. It knows roles and
//! devices, not architectures.

use std::sync::Arc;

use ggrs_core::device::Device;
use ggrs_core::{DeviceError, RoleKind};
use ggrs_meta::{ExpertSplit, MetaDevice, MetaOptions};
use ggrs_sched::{Leaves, Pattern, Pin, Placement, SchedError, Spread};

/// Devices, and how a model is laid over them.
#[derive(Clone, Default)]
pub struct Deployment {
    /// The devices, in groups: the members of a group split every tensor among themselves.
    pub devices: Vec<Vec<Arc<dyn Device>>>,
    /// Where host memory is, for what is kept off the devices.
    pub host: Option<Arc<dyn Device>>,
    /// How the model is split over the groups.
    pub split: SplitMode,
    /// Shares of the groups (layers) or of the devices (tensors); empty for even ones.
    pub shares: Vec<f64>,
    /// How many layers, counted from the last, lie on the devices; the others on the host. `None` for all.
    pub gpu_layers: Option<usize>,
    /// The experts of the first so many layers lie on the host.
    pub host_experts: HostExperts,
    /// Tensors put on a device, by name pattern; the first match holds, before everything else.
    pub overrides: Vec<Override>,
    /// The device of the KV cache, if not that of its layer.
    pub kv_device: Option<String>,
    /// How expert banks are split among the members of a group.
    pub experts: ExpertSplit,
    /// Tokens per step from which experts on the host are copied to the device that has the tokens; `None` for never.
    pub stream_experts_from: Option<usize>,
}

/// How a model is split over devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub enum SplitMode {
    /// Everything on the first.
    #[default]
    None,
    /// Runs of layers.
    Layer,
    /// Every tensor.
    Tensor,
}

/// Which experts lie on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostExperts {
    /// None.
    #[default]
    None,
    /// Those of the first layers.
    First(usize),
    /// All.
    All,
}

/// Tensors put on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Which.
    pub pattern: Pattern,
    /// The device, as the user names it.
    pub device: String,
}

/// Why a deployment is not possible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// A device that something is put on and that was not named.
    #[error(
        "{origin}: \"{device}\" is not among the devices of this run ({}); add it to --devices",
        known.join(", ")
    )]
    UnknownDevice {
        /// What asked for it.
        origin: String,
        /// The name.
        device: String,
        /// The devices there are.
        known: Vec<String>,
    },
    /// Something is to lie on the host, and there is none.
    #[error("{origin}: no device stands for the host's memory; give one (cpu)")]
    NoHost {
        /// What asked for it.
        origin: String,
    },
    /// Shares that do not suit the devices.
    #[error(
        "--tensor-split has {got} shares for {expected} {what}; give one for each, at least 0 and not all 0"
    )]
    Shares {
        /// How many were given.
        got: usize,
        /// How many there must be.
        expected: usize,
        /// Of what.
        what: &'static str,
    },
    /// The devices do not become one.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A pattern or pin that is not possible.
    #[error(transparent)]
    Placement(#[from] SchedError),
}

impl Deployment {
    /// Everything on one device.
    pub fn on(device: Arc<dyn Device>) -> Self {
        Self {
            devices: vec![vec![device]],
            ..Self::default()
        }
    }

    /// The devices that are one each to the scheduler, with their members.
    pub fn groups(&self) -> Vec<Vec<Arc<dyn Device>>> {
        match self.split {
            SplitMode::None => self.devices.iter().take(1).cloned().collect(),
            SplitMode::Layer => self.devices.clone(),
            SplitMode::Tensor => vec![self.devices.iter().flatten().cloned().collect()],
        }
    }

    /// The placement: devices that are one, homes and pins.
    ///
    /// # Errors
    /// Shares, names or devices that do not suit each other.
    pub fn placement(&self) -> Result<Placement, DeployError> {
        let mut places = Places::new(self)?;
        let mut pins = Vec::new();
        for o in &self.overrides {
            let origin = format!("--override-tensor {}={}", o.pattern, o.device);
            pins.push(Pin {
                device: places.named(&o.device, &origin)?,
                leaves: Leaves::Name(o.pattern.clone()),
                layers: None,
                origin,
            });
        }
        if let Some(name) = &self.kv_device {
            let origin = format!("--kv-device {name}");
            pins.push(Pin {
                device: places.named(name, &origin)?,
                leaves: Leaves::Kind(RoleKind::Kv),
                layers: None,
                origin,
            });
        }
        let (layers, origin) = match self.host_experts {
            HostExperts::None => (Some(0..0), String::new()),
            HostExperts::First(n) => (Some(0..n), format!("--n-cpu-moe {n}")),
            HostExperts::All => (None, "--cpu-moe".to_owned()),
        };
        if layers != Some(0..0) {
            pins.push(Pin {
                device: places.host(self, &origin)?,
                leaves: Leaves::Kind(RoleKind::Experts),
                layers,
                origin,
            });
        }
        let rest = match self.gpu_layers {
            Some(n) => places.host(self, &format!("--gpu-layers {n}"))?,
            None => 0,
        };
        let n_main = places.n_main;
        let spread = if n_main == 1 && self.gpu_layers.is_none() {
            Spread::One(0)
        } else {
            let shares = (0..n_main).map(|i| (i, places.shares.get(i).copied().unwrap_or(1.0)));
            Spread::Layers {
                shares: shares.collect(),
                n_spread: self.gpu_layers,
                rest,
            }
        };
        Ok(Placement {
            devices: places.devices,
            spread,
            pins,
            stream_experts_from: self.stream_experts_from,
        })
    }
}

/// The devices of a placement while it is made.
struct Places {
    devices: Vec<Arc<dyn Device>>,
    /// How many of them the layers are spread over.
    n_main: usize,
    /// Shares of those.
    shares: Vec<f64>,
    /// Devices that can be named beside them: members of groups, the host.
    others: Vec<Arc<dyn Device>>,
}

impl Places {
    fn new(deployment: &Deployment) -> Result<Self, DeployError> {
        let groups = deployment.groups();
        let shares = |expected: usize, what| {
            let given = &deployment.shares;
            let sane = given.iter().all(|s| s.is_finite() && *s >= 0.0)
                && (given.is_empty() || given.iter().sum::<f64>() > 0.0);
            if sane && (given.is_empty() || given.len() == expected) {
                return Ok(given.clone());
            }
            let got = given.len();
            Err(DeployError::Shares {
                got,
                expected,
                what,
            })
        };
        let (ratios, shares) = match deployment.split {
            SplitMode::Layer => (Vec::new(), shares(groups.len(), "groups of devices")?),
            SplitMode::None | SplitMode::Tensor => {
                let n = groups.first().map_or(0, Vec::len);
                (shares(n, "devices")?, Vec::new())
            }
        };
        let join = |group: &Vec<Arc<dyn Device>>| -> Result<Arc<dyn Device>, DeployError> {
            if let [device] = group.as_slice() {
                return Ok(Arc::clone(device));
            }
            let options = MetaOptions {
                ratios: ratios.clone(),
                experts: deployment.experts,
                ..MetaOptions::default()
            };
            Ok(MetaDevice::new(group.clone(), options)?)
        };
        let devices: Vec<Arc<dyn Device>> = groups.iter().map(join).collect::<Result<_, _>>()?;
        let mut others: Vec<Arc<dyn Device>> =
            deployment.devices.iter().flatten().cloned().collect();
        others.extend(deployment.host.clone());
        Ok(Self {
            n_main: devices.len(),
            devices,
            shares,
            others,
        })
    }

    /// The index of the device of this name; taken among the devices if it is not yet.
    fn named(&mut self, name: &str, origin: &str) -> Result<usize, DeployError> {
        let wanted = canonical(name);
        let is_it = |d: &Arc<dyn Device>| d.name().to_string() == wanted;
        if let Some(i) = self.devices.iter().position(is_it) {
            return Ok(i);
        }
        let Some(other) = self.others.iter().find(|d| is_it(d)) else {
            let mut known: Vec<String> = Vec::new();
            for device in self.devices.iter().chain(&self.others) {
                let name = device.name().to_string();
                if !known.contains(&name) {
                    known.push(name);
                }
            }
            return Err(DeployError::UnknownDevice {
                origin: origin.to_owned(),
                device: name.to_owned(),
                known,
            });
        };
        self.devices.push(Arc::clone(other));
        Ok(self.devices.len() - 1)
    }

    /// The index of the host's device.
    fn host(&mut self, deployment: &Deployment, origin: &str) -> Result<usize, DeployError> {
        let Some(host) = &deployment.host else {
            return Err(DeployError::NoHost {
                origin: origin.to_owned(),
            });
        };
        self.named(&host.name().to_string(), origin)
    }
}

/// A device's name as devices show it: `cpu` is `cpu:0`.
fn canonical(name: &str) -> String {
    let parsed = name.parse::<ggrs_core::device::DeviceName>();
    parsed.map_or_else(|_| name.to_owned(), |n| n.to_string())
}

//! Fitting: the planner run dry until a deployment fits the memory there is. Nothing is loaded and nothing allocated.
//!
//! Shares go by bandwidth where all devices know theirs. Order of what is given up: first they are balanced by free
//! memory, then the context shrinks (unless the user
//! fixed it), then experts go to the host layer by layer, then whole layers. Every attempt is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use ggrs_core::device::Device;
use ggrs_core::plan::DeviceBytes;
use ggrs_sched::Placement;

use crate::arch::Architecture;
use crate::buckets::KEPT;
use crate::deployment::{DeployError, Deployment, HostExperts, SplitMode};
use crate::error::ModelError;
use crate::gguf::GgufFile;
use crate::model::LoadOptions;
use crate::preview::preview;
use crate::session::{BLOCK, SessionOptions};

/// What a fit may change, and how much memory it leaves alone.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// The session to make room for. A context length that is given stays.
    pub session: SessionOptions,
    /// The shortest context that is still worth having, in tokens.
    pub min_ctx: usize,
    /// Bytes of every device that stay free.
    pub margin_bytes: u64,
    /// May experts and layers go to the host?
    pub may_use_host: bool,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            session: SessionOptions::default(),
            min_ctx: 4096,
            margin_bytes: 512 << 20,
            may_use_host: true,
        }
    }
}

/// A deployment that fits.
#[derive(Clone)]
pub struct Fit {
    /// The deployment, with what was chosen filled in.
    pub deployment: Deployment,
    /// Its placement.
    pub placement: Placement,
    /// Tokens of context.
    pub n_ctx: usize,
    /// What lies where.
    pub devices: Vec<Room>,
    /// What was tried, and how it went.
    pub attempts: Vec<Attempt>,
}

/// Memory of one device under a deployment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Room {
    /// The device.
    pub device: String,
    /// Bytes that the deployment needs there.
    pub need: u64,
    /// Bytes that may be used: what is free less the margin.
    pub have: u64,
}

impl Room {
    /// Bytes that are missing.
    pub const fn missing(&self) -> u64 {
        self.need.saturating_sub(self.have)
    }
}

/// One deployment that was planned.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Attempt {
    /// What was tried, in words.
    pub what: String,
    /// Devices that would have been too small, with what was missing; none if it fits.
    pub missing: Vec<Room>,
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.what)?;
        if self.missing.is_empty() {
            return f.write_str("fits");
        }
        for (i, room) in self.missing.iter().enumerate() {
            let sep = if i == 0 { "" } else { ", " };
            write!(f, "{sep}{} lacks {} bytes", room.device, room.missing())?;
        }
        Ok(())
    }
}

/// Why nothing fits.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// Every attempt was too big.
    #[error(
        "the model does not fit: even with {}, {}; use fewer bits per weight, a shorter context or another device",
        last.what,
        last.missing.iter().map(|r| format!("{} lacks {} bytes (needs {}, may use {})", r.device, r.missing(), r.need, r.have)).collect::<Vec<_>>().join(", ")
    )]
    TooBig {
        /// The smallest deployment tried.
        last: Attempt,
        /// All attempts.
        attempts: Vec<Attempt>,
    },
    /// The file.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The deployment is not possible, whatever the sizes.
    #[error(transparent)]
    Deploy(#[from] DeployError),
}

/// Finds a deployment of a model that fits the memory of its devices.
///
/// # Errors
/// None fits: what is missing where, with everything tried; a file or deployment that is not possible at all.
pub fn fit(
    file: &GgufFile,
    deployment: &Deployment,
    load: &LoadOptions,
    options: &FitOptions,
) -> Result<Fit, FitError> {
    let architecture = Architecture::read(file)?;
    let mut search = Search {
        file,
        architecture: &architecture,
        load,
        options,
        have: memory(deployment, options.margin_bytes),
        attempts: Vec::new(),
    };
    search.run(deployment)
}

struct Search<'a> {
    file: &'a GgufFile,
    architecture: &'a Architecture,
    load: &'a LoadOptions,
    options: &'a FitOptions,
    /// Bytes that may be used, by device.
    have: BTreeMap<String, u64>,
    attempts: Vec<Attempt>,
}

/// What a deployment came to.
struct Outcome {
    fit: Option<Fit>,
    rooms: Vec<Room>,
}

impl Search<'_> {
    fn run(&mut self, deployment: &Deployment) -> Result<Fit, FitError> {
        let n_layers = self.architecture.n_layers();
        let wanted = self.options.session.n_ctx;
        let full = wanted.unwrap_or_else(|| self.architecture.n_ctx_train());
        let shortest = wanted.unwrap_or_else(|| self.options.min_ctx.min(full));

        // Everything on the devices: balanced, then with less context.
        let (best, outcome) = self.balanced(deployment, full)?;
        if let Some(fit) = outcome.fit {
            return Ok(fit);
        }
        if let Some(fit) = self.shorter(&best, shortest, full)? {
            return Ok(fit);
        }
        let can_move = self.options.may_use_host
            && deployment.host.is_some()
            && deployment.host_experts == HostExperts::None
            && deployment.gpu_layers.is_none();
        if can_move {
            let experts = |n: usize| Deployment {
                host_experts: HostExperts::First(n),
                ..best.clone()
            };
            if let Some(fit) = self.fewest(1, n_layers, shortest, &experts)? {
                // What is left over goes to the context.
                let grown = self.shorter(&fit.deployment.clone(), shortest, full)?;
                return Ok(grown.unwrap_or(fit));
            }
            let layers = |n: usize| Deployment {
                host_experts: HostExperts::All,
                gpu_layers: Some(n_layers - n),
                ..best.clone()
            };
            if let Some(fit) = self.fewest(1, n_layers, shortest, &layers)? {
                return Ok(fit);
            }
        }
        let least = |a: &&Attempt| a.missing.iter().map(Room::missing).sum::<u64>();
        let last = self.attempts.iter().min_by_key(least).cloned();
        Err(FitError::TooBig {
            last: last.unwrap_or_else(|| Attempt {
                what: "nothing".to_owned(),
                missing: Vec::new(),
            }),
            attempts: std::mem::take(&mut self.attempts),
        })
    }

    /// The deployment with shares that suit the free memory, unless the user gave shares.
    fn balanced(
        &mut self,
        deployment: &Deployment,
        n_ctx: usize,
    ) -> Result<(Deployment, Outcome), FitError> {
        let mut now = deployment.clone();
        let is_free = deployment.shares.is_empty() && deployment.split != SplitMode::None;
        if is_free && let Some(shares) = by_bandwidth(deployment) {
            now.shares = shares;
        }
        let mut outcome = self.attempt(&now, n_ctx)?;
        if !is_free {
            return Ok((now, outcome));
        }
        for _ in 0..REBALANCINGS {
            if outcome.fit.is_some() {
                break;
            }
            let Some(shares) = rebalanced(&now, &outcome.rooms) else {
                break;
            };
            now.shares = shares;
            outcome = self.attempt(&now, n_ctx)?;
        }
        Ok((now, outcome))
    }

    /// The longest context that fits, in whole blocks.
    fn shorter(
        &mut self,
        deployment: &Deployment,
        shortest: usize,
        full: usize,
    ) -> Result<Option<Fit>, FitError> {
        let (low, high) = (shortest.div_ceil(BLOCK), full.div_ceil(BLOCK));
        let mut best = self.attempt(deployment, shortest)?.fit;
        if best.is_none() || high <= low {
            return Ok(best);
        }
        let (mut low, mut high) = (low, high);
        // A context of `low` blocks fits; one of `high` may not.
        while high - low > 1 {
            let middle = low.midpoint(high);
            match self.attempt(deployment, (middle * BLOCK).min(full))?.fit {
                Some(fit) => {
                    best = Some(fit);
                    low = middle;
                }
                None => high = middle,
            }
        }
        Ok(best)
    }

    /// The deployment with the smallest number for which `deployment` fits.
    fn fewest(
        &mut self,
        low: usize,
        high: usize,
        n_ctx: usize,
        deployment: &dyn Fn(usize) -> Deployment,
    ) -> Result<Option<Fit>, FitError> {
        let mut best = self.attempt(&deployment(high), n_ctx)?.fit;
        if best.is_none() {
            return Ok(None);
        }
        let (mut low, mut high) = (low, high);
        while low < high {
            let middle = low.midpoint(high);
            match self.attempt(&deployment(middle), n_ctx)?.fit {
                Some(fit) => {
                    best = Some(fit);
                    high = middle;
                }
                None => low = middle + 1,
            }
        }
        Ok(best)
    }

    /// Plans a deployment and compares it with the memory there is.
    fn attempt(&mut self, deployment: &Deployment, n_ctx: usize) -> Result<Outcome, FitError> {
        let placement = deployment.placement()?;
        let need = self.need(&placement, n_ctx)?;
        let rooms: Vec<Room> = need
            .iter()
            .map(|(device, bytes)| Room {
                device: device.clone(),
                need: *bytes,
                have: self.have.get(device).copied().unwrap_or(0),
            })
            .collect();
        let missing: Vec<Room> = rooms.iter().filter(|r| r.missing() > 0).cloned().collect();
        self.attempts.push(Attempt {
            what: words(deployment, n_ctx),
            missing: missing.clone(),
        });
        let fit = missing.is_empty().then(|| Fit {
            deployment: deployment.clone(),
            placement,
            n_ctx,
            devices: rooms.clone(),
            attempts: self.attempts.clone(),
        });
        Ok(Outcome { fit, rooms })
    }

    /// Bytes needed on each device: weights, states, and working memory of three prefill steps and two of one
    /// token (fed, and decoding by itself), which is what a session keeps compiled.
    fn need(&self, placement: &Placement, n_ctx: usize) -> Result<BTreeMap<String, u64>, FitError> {
        let session = SessionOptions {
            n_ctx: Some(n_ctx),
            ..self.options.session.clone()
        };
        let n_batch = session.n_batch.min(n_ctx).max(2);
        let mut need = BTreeMap::new();
        for (n_tokens, times) in [(n_batch, KEPT as u64), (1, 2)] {
            let plan = preview(self.file, placement, self.load, &session, n_tokens)?;
            for DeviceBytes {
                device,
                weights,
                states,
                arena,
                constants,
            } in plan.device_bytes()
            {
                let working = (arena + constants) * times;
                let lasting = if n_tokens == 1 { weights + states } else { 0 };
                *need.entry(device).or_insert(0) += lasting + working;
            }
        }
        Ok(need)
    }
}

/// Bytes that may be used on every device of a deployment. Members of one device share its memory.
fn memory(deployment: &Deployment, margin: u64) -> BTreeMap<String, u64> {
    let devices = deployment.devices.iter().flatten().chain(&deployment.host);
    let usable = |d: &Arc<dyn Device>| {
        let (name, free) = (d.name(), d.memory().free);
        let usable = free.saturating_sub(margin) / name.members.max(1) as u64;
        (name.to_string(), usable)
    };
    devices.map(usable).collect()
}

/// How often shares are moved before something is given up.
const REBALANCINGS: usize = 8;

/// A little more than what is missing moves, since shares come in whole layers or blocks.
const SLACK: f64 = 0.9;

/// What shares are of: the devices of a tensor split, the groups of a layer split.
fn sharers(deployment: &Deployment) -> Vec<Vec<&Arc<dyn Device>>> {
    let groups = deployment.devices.iter();
    match deployment.split {
        SplitMode::None => Vec::new(),
        SplitMode::Tensor => groups.flatten().map(|d| vec![d]).collect(),
        SplitMode::Layer => groups.map(|g| g.iter().collect()).collect(),
    }
}

/// Shares by how fast each sharer reads its weights; none if a device does not know, or all are alike.
fn by_bandwidth(deployment: &Deployment) -> Option<Vec<f64>> {
    let sharers = sharers(deployment);
    let speed = |s: &Vec<&Arc<dyn Device>>| s.iter().map(|d| d.bandwidth()).sum();
    let speeds: Vec<f64> = sharers.iter().map(speed).collect::<Option<_>>()?;
    let total: f64 = speeds.iter().sum();
    let usable = speeds.iter().all(|s| s.is_finite() && *s > 0.0);
    let differ = speeds.windows(2).any(|w| w.first() != w.last());
    (usable && differ).then(|| speeds.iter().map(|s| s / total).collect())
}

/// Shares by what each sharer can hold beside what it holds now: none if nobody has room left.
fn rebalanced(deployment: &Deployment, rooms: &[Room]) -> Option<Vec<f64>> {
    let sharers = sharers(deployment);
    let room = |d: &Arc<dyn Device>| {
        let name = d.name().to_string();
        rooms.iter().find(|r| r.device == name)
    };
    let have = |s: &Vec<&Arc<dyn Device>>| -> f64 {
        let rooms = s.iter().filter_map(|d| room(d));
        rooms.map(|r| number(r.have)).sum()
    };
    let by_memory: Vec<f64> = sharers.iter().map(have).collect();
    let total: f64 = by_memory.iter().sum();
    if total <= 0.0 || by_memory == deployment.shares {
        return None;
    }
    if deployment.shares.is_empty() {
        return Some(by_memory.iter().map(|s| s / total).collect());
    }
    // Whoever is short gives up what it is short of.
    let had: f64 = deployment.shares.iter().sum();
    let shares = deployment.shares.iter().zip(&sharers).map(|(share, s)| {
        let fullest = s.iter().filter_map(|d| room(d)).filter(|r| r.need > 0);
        let fits = fullest
            .map(|r| number(r.have) / number(r.need))
            .fold(1.0, f64::min);
        share / had * if fits < 1.0 { fits * SLACK } else { 1.0 }
    });
    Some(shares.collect())
}

#[allow(clippy::cast_precision_loss, reason = "shares need no exact bytes")]
fn number(bytes: u64) -> f64 {
    bytes as f64
}

/// What an attempt is, in a user's words.
fn words(deployment: &Deployment, n_ctx: usize) -> String {
    let mut out = format!("--ctx {n_ctx}");
    if !deployment.shares.is_empty() {
        let shares: Vec<String> = deployment
            .shares
            .iter()
            .map(|s| format!("{s:.3}"))
            .collect();
        out.push_str(&format!(" --tensor-split {}", shares.join(",")));
    }
    match deployment.host_experts {
        HostExperts::None => {}
        HostExperts::First(n) => out.push_str(&format!(" --n-cpu-moe {n}")),
        HostExperts::All => out.push_str(" --cpu-moe"),
    }
    if let Some(n) = deployment.gpu_layers {
        out.push_str(&format!(" --gpu-layers {n}"));
    }
    out
}

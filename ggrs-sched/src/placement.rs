//! Where weights and states live: pins in the user's words first, then the spread of the layers.

use std::ops::Range;
use std::sync::Arc;

use ggrs_core::device::Device;
use ggrs_core::ops::{Leaf, LeafKind, Op};
use ggrs_core::{Graph, Role, RoleKind, ValueId};

use crate::{Pattern, SchedError};

/// Devices, and what is to lie where on them.
#[derive(Clone)]
pub struct Placement {
    /// The devices. The first one is where things go that nothing else places.
    pub devices: Vec<Arc<dyn Device>>,
    /// How layers are spread.
    pub spread: Spread,
    /// What is put elsewhere; the first that matches holds.
    pub pins: Vec<Pin>,
    /// Tokens per step from which expert banks that live elsewhere are copied to the device that has the tokens,
    /// instead of the tokens to them; `None` for never.
    pub stream_experts_from: Option<usize>,
}

/// How the layers of a model are spread over the devices.
#[derive(Clone, Debug, PartialEq)]
pub enum Spread {
    /// Everything on one device, by its index.
    One(usize),
    /// Runs of neighbouring layers.
    Layers {
        /// Device index and its share; shares need not add up to anything.
        shares: Vec<(usize, f64)>,
        /// Layers that the shares are of, counted from the last; those before them go to `rest`. `None` for all.
        n_spread: Option<usize>,
        /// Where the other layers go.
        rest: usize,
    },
}

/// Weights or states put on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Pin {
    /// Which.
    pub leaves: Leaves,
    /// Only those of these layers; `None` for all.
    pub layers: Option<Range<usize>>,
    /// Where, by index.
    pub device: usize,
    /// In the user's words: `--n-cpu-moe 2`.
    pub origin: String,
}

/// Which leaves a pin is of.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaves {
    /// Those of a kind.
    Kind(RoleKind),
    /// Those whose name matches.
    Name(Pattern),
}

/// Where a leaf lives, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Home {
    /// The leaf.
    pub value: ValueId,
    /// Its name.
    pub name: String,
    /// The device, by index.
    pub device: usize,
    /// Why there.
    pub why: String,
    /// Was it put there by a pin?
    pub is_pinned: bool,
}

impl Placement {
    /// Everything on one device.
    pub fn on(device: Arc<dyn Device>) -> Self {
        Self {
            devices: vec![device],
            spread: Spread::One(0),
            pins: Vec::new(),
            stream_experts_from: None,
        }
    }

    /// The devices' names.
    pub fn names(&self) -> Vec<String> {
        let names = self.devices.iter().map(|d| d.name().to_string());
        names.collect()
    }

    /// The homes of a graph's weights and states, in the order of its leaves.
    ///
    /// # Errors
    /// A device that is not there, shares that cannot be used.
    pub fn homes(&self, graph: &Graph) -> Result<Vec<Home>, SchedError> {
        let names = self.names();
        if names.is_empty() {
            return Err(SchedError::NoDevices);
        }
        let check = |device: usize, origin: &str| {
            if device < names.len() {
                return Ok(());
            }
            Err(SchedError::NoSuchDevice {
                origin: origin.to_owned(),
                device,
                devices: names.clone(),
            })
        };
        for pin in &self.pins {
            check(pin.device, &pin.origin)?;
        }
        let leaves = leaves(graph);
        let layers = leaves.iter().filter_map(|l| l.role.layer).max();
        let layers = layers.map_or(0, |last| last + 1);
        let spread = LayerHomes::new(&self.spread, layers, &check)?;
        let homes = leaves.into_iter().map(|leaf| {
            let pin = self.pins.iter().find(|p| p.matches(leaf.name, leaf.role));
            let (device, why) = match pin {
                Some(pin) => (pin.device, pin.origin.clone()),
                None => spread.home(leaf.role),
            };
            Home {
                value: leaf.value,
                name: leaf.name.to_owned(),
                device,
                why,
                is_pinned: pin.is_some(),
            }
        });
        Ok(homes.collect())
    }

    /// Every pin must place something in this graph.
    ///
    /// # Errors
    /// The first pin that places nothing.
    pub fn check_pins(&self, graph: &Graph) -> Result<(), SchedError> {
        let leaves = leaves(graph);
        let empty = self
            .pins
            .iter()
            .find(|p| !leaves.iter().any(|l| p.matches(l.name, l.role)));
        match empty {
            None => Ok(()),
            Some(pin) => Err(SchedError::EmptyPin {
                origin: pin.origin.clone(),
                some: leaves.iter().take(4).map(|l| l.name.to_owned()).collect(),
            }),
        }
    }
}

impl From<Arc<dyn Device>> for Placement {
    fn from(device: Arc<dyn Device>) -> Self {
        Self::on(device)
    }
}

impl Pin {
    fn matches(&self, name: &str, role: &Role) -> bool {
        let layer = match (&self.layers, role.layer) {
            (None, _) => true,
            (Some(range), Some(layer)) => range.contains(&layer),
            (Some(_), None) => false,
        };
        layer
            && match &self.leaves {
                Leaves::Kind(kind) => *kind == role.kind,
                Leaves::Name(pattern) => pattern.matches(name),
            }
    }
}

struct PlacedLeaf<'a> {
    name: &'a str,
    value: ValueId,
    role: &'a Role,
}

fn leaves(graph: &Graph) -> Vec<PlacedLeaf<'_>> {
    let placed = graph.nodes().iter().filter_map(|node| match &node.op {
        Op::Leaf(Leaf {
            kind: LeafKind::Weight | LeafKind::State,
            role,
            ..
        }) => Some(PlacedLeaf {
            name: &node.name,
            value: *node.outputs.first()?,
            role,
        }),
        _ => None,
    });
    placed.collect()
}

/// The home of every layer.
struct LayerHomes {
    layers: Vec<(usize, String)>,
    /// For models without layers.
    fallback: usize,
}

impl LayerHomes {
    fn new(
        spread: &Spread,
        n_layers: usize,
        check: &dyn Fn(usize, &str) -> Result<(), SchedError>,
    ) -> Result<Self, SchedError> {
        let (shares, n_spread, rest) = match spread {
            Spread::One(device) => {
                check(*device, "the main device")?;
                return Ok(Self {
                    layers: Vec::new(),
                    fallback: *device,
                });
            }
            Spread::Layers {
                shares,
                n_spread,
                rest,
            } => (shares, n_spread.unwrap_or(n_layers).min(n_layers), *rest),
        };
        check(rest, "the rest of the layers")?;
        for (device, _) in shares {
            check(*device, "the spread of the layers")?;
        }
        let total: f64 = shares.iter().map(|(_, s)| s).sum();
        let usable = shares.iter().all(|(_, s)| s.is_finite() && *s >= 0.0) && total > 0.0;
        if !usable {
            return Err(SchedError::Shares {
                shares: shares.iter().map(|(_, s)| *s).collect(),
                devices: shares.len(),
            });
        }
        let before = n_layers - n_spread;
        let mut layers = vec![(rest, format!("not among the last {n_spread} layers")); before];
        let mut done = 0.0;
        for (device, share) in shares {
            done += share;
            let end = before + rounded(done / total, n_spread);
            let why = format!("layers {}..{end} by share", layers.len());
            layers.resize(end.max(layers.len()), (*device, why));
        }
        let last = shares.iter().rev().find(|(_, s)| *s > 0.0);
        Ok(Self {
            layers,
            fallback: last.map_or(rest, |(device, _)| *device),
        })
    }

    fn home(&self, role: &Role) -> (usize, String) {
        let of_layer = |layer: usize, why: &str| match self.layers.get(layer) {
            Some((device, _)) => (*device, why.to_owned()),
            None => (self.fallback, "the main device".to_owned()),
        };
        match (role.layer, role.kind) {
            (Some(layer), _) => match self.layers.get(layer) {
                Some(home) => home.clone(),
                None => (self.fallback, "the main device".to_owned()),
            },
            (None, RoleKind::Embedding) => of_layer(0, "with the first layer"),
            (None, _) => of_layer(self.layers.len().wrapping_sub(1), "with the last layer"),
        }
    }
}

/// `part` of `n`, rounded.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "layer counts are small, parts lie between 0 and 1"
)]
fn rounded(part: f64, n: usize) -> usize {
    ((part * n as f64).round() as usize).min(n)
}

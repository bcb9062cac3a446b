//! Options of what lies where: devices in groups, how a model is split over them, what is put elsewhere. They are
//! checked against each other here; whether devices and tensors are there is for others to say.

use std::str::FromStr;
use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use ggrs_core::device::{Device, Registry};
use ggrs_meta::ExpertSplit;
use ggrs_model::{Deployment, HostExperts, Override, SplitMode};
use ggrs_sched::{Pattern, SchedError};

use crate::error::CliError;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Placement options")]
pub(crate) struct PlacementArgs {
    /// How the model is split over the devices: not at all, by runs of layers, or every tensor
    /// [default: layer with several devices]
    #[arg(long, value_name = "MODE", value_parser = split_parser())]
    pub(crate) split: Option<SplitMode>,
    /// Shares of the devices in the split, with commas between: 3,1 [default: even]
    #[arg(long, value_name = "SHARES")]
    pub(crate) tensor_split: Option<Shares>,
    /// Only so many layers, counted from the last, lie on the devices; the others on the CPU
    #[arg(long, value_name = "N")]
    pub(crate) gpu_layers: Option<usize>,
    /// The experts of the first N layers lie on the CPU
    #[arg(long, value_name = "N", conflicts_with = "cpu_moe")]
    pub(crate) n_cpu_moe: Option<usize>,
    /// All experts lie on the CPU
    #[arg(long)]
    pub(crate) cpu_moe: bool,
    /// Puts the tensors whose names match on a device: a glob, or a regular expression between slashes; may be given
    /// several times, the first match holds
    #[arg(long, value_name = "GLOB=DEVICE")]
    pub(crate) override_tensor: Vec<OverrideArg>,
    /// In steps of at least N tokens, experts that lie elsewhere are copied from the file to the device that has the
    /// tokens, instead of the tokens to them [default: never]
    #[arg(long, value_name = "N")]
    pub(crate) stream_experts: Option<usize>,
    /// The device of the KV cache [default: where its layer is]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) kv_device: Option<String>,
    /// How experts are split among the members of a device: each by its width, or whole experts to members
    #[arg(long, value_name = "HOW", value_parser = expert_split_parser())]
    pub(crate) expert_split: Option<ExpertSplit>,
}

fn split_parser() -> impl TypedValueParser<Value = SplitMode> {
    PossibleValuesParser::new(["none", "layer", "tensor"]).map(|name| match &*name {
        "layer" => SplitMode::Layer,
        "tensor" => SplitMode::Tensor,
        _ => SplitMode::None,
    })
}

fn expert_split_parser() -> impl TypedValueParser<Value = ExpertSplit> {
    PossibleValuesParser::new(["width", "experts", "auto"]).map(|name| match &*name {
        "width" => ExpertSplit::Width,
        "experts" => ExpertSplit::Experts,
        _ => ExpertSplit::Cheaper,
    })
}

/// Why placement options make no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PlacementError {
    #[error("\"{text}\" is not a share: give numbers of at least 0 with commas between, as 3,1")]
    Share { text: String },
    #[error("all shares are 0: give at least one device something")]
    NoShare,
    #[error("--tensor-split has {got} shares for {expected} {what}: give one for each")]
    ShareCount {
        got: usize,
        expected: usize,
        what: &'static str,
    },
    #[error("\"{text}\" does not say where: write GLOB=DEVICE, as 'blk.*.ffn_*_exps.weight=cpu'")]
    NoDevice { text: String },
    #[error(transparent)]
    Pattern(Box<SchedError>),
    #[error(
        "--devices {devices}: a device's name is missing; write names with commas between (cpu:0/2,cpu:1/2), members of one device with +"
    )]
    EmptyName { devices: String },
    #[error(
        "{option} needs several devices and --devices {devices} is one: name more, as --devices cpu:0/2,cpu:1/2"
    )]
    OneDevice {
        option: &'static str,
        devices: String,
    },
    #[error(
        "--split tensor makes all devices one: write --devices {flat}, or leave --split away to keep the groups"
    )]
    GroupsInTensorSplit { flat: String },
    #[error(
        "--expert-split is about the members of one device, and no device here has members: add --split tensor, or join members with + in --devices"
    )]
    NoMembers,
}

impl From<SchedError> for PlacementError {
    fn from(error: SchedError) -> Self {
        Self::Pattern(Box::new(error))
    }
}

impl From<PlacementError> for CliError {
    fn from(error: PlacementError) -> Self {
        clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n")).into()
    }
}

/// Shares of devices.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shares(pub(crate) Vec<f64>);

impl FromStr for Shares {
    type Err = PlacementError;

    fn from_str(text: &str) -> Result<Self, PlacementError> {
        let share = |text: &str| {
            let number = text.trim().parse::<f64>().ok();
            let number = number.filter(|n| n.is_finite() && *n >= 0.0);
            number.ok_or_else(|| PlacementError::Share {
                text: text.to_owned(),
            })
        };
        let shares: Vec<f64> = text.split(',').map(share).collect::<Result<_, _>>()?;
        if shares.iter().all(|s| *s == 0.0) {
            return Err(PlacementError::NoShare);
        }
        Ok(Self(shares))
    }
}

/// A pattern and a device.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OverrideArg(pub(crate) Override);

impl FromStr for OverrideArg {
    type Err = PlacementError;

    fn from_str(text: &str) -> Result<Self, PlacementError> {
        // Devices have no equals sign in their names; expressions may.
        let (pattern, device) = text
            .rsplit_once('=')
            .filter(|(_, device)| !device.is_empty())
            .ok_or_else(|| PlacementError::NoDevice {
                text: text.to_owned(),
            })?;
        Ok(Self(Override {
            pattern: Pattern::new(pattern)?,
            device: device.to_owned(),
        }))
    }
}

/// The names in `--devices`: groups between commas, their members between plus signs.
pub(crate) fn groups(devices: &str) -> Result<Vec<Vec<&str>>, PlacementError> {
    let name = |name| match str::trim(name) {
        "" => Err(PlacementError::EmptyName {
            devices: devices.to_owned(),
        }),
        name => Ok(name),
    };
    devices
        .split(',')
        .map(|group| group.split('+').map(name).collect())
        .collect()
}

impl PlacementArgs {
    /// The split asked for, or the one that suits the number of groups.
    fn split_of(&self, n_groups: usize) -> SplitMode {
        self.split.unwrap_or(if n_groups > 1 {
            SplitMode::Layer
        } else {
            SplitMode::None
        })
    }

    /// Do the options suit each other and these devices?
    fn check(&self, devices: &str, groups: &[Vec<&str>]) -> Result<(), PlacementError> {
        let n_devices = groups.iter().map(Vec::len).sum::<usize>();
        let split = self.split_of(groups.len());
        let one_device = |option| {
            Err(PlacementError::OneDevice {
                option,
                devices: devices.to_owned(),
            })
        };
        let has_group = groups.iter().any(|g| g.len() > 1);
        if n_devices == 1 {
            match split {
                SplitMode::Tensor => return one_device("--split tensor"),
                SplitMode::Layer => return one_device("--split layer"),
                SplitMode::None if self.tensor_split.is_some() => {
                    return one_device("--tensor-split");
                }
                SplitMode::None => {}
            }
        }
        if split == SplitMode::Tensor && has_group && groups.len() > 1 {
            return Err(PlacementError::GroupsInTensorSplit {
                flat: devices.replace('+', ","),
            });
        }
        if let Some(Shares(shares)) = &self.tensor_split {
            let (expected, what) = match split {
                SplitMode::Tensor => (n_devices, "devices"),
                SplitMode::Layer => (groups.len(), "groups of devices"),
                SplitMode::None => (
                    groups.first().map_or(0, Vec::len),
                    "members of the first device (with --split none)",
                ),
            };
            if shares.len() != expected {
                let got = shares.len();
                return Err(PlacementError::ShareCount {
                    got,
                    expected,
                    what,
                });
            }
        }
        if self.expert_split.is_some() && split != SplitMode::Tensor && !has_group {
            return Err(PlacementError::NoMembers);
        }
        Ok(())
    }

    /// The deployment that these options ask for, with its devices opened.
    pub(crate) fn deployment(
        &self,
        devices: &str,
        registry: &Registry,
    ) -> Result<Deployment, CliError> {
        let groups = groups(devices)?;
        self.check(devices, &groups)?;
        let open = |group: &Vec<&str>| -> Result<Vec<Arc<dyn Device>>, CliError> {
            let opened = group.iter().map(|name| registry.open(name));
            Ok(opened.collect::<Result<_, _>>()?)
        };
        let host_experts = match self.n_cpu_moe {
            _ if self.cpu_moe => HostExperts::All,
            Some(n) if n > 0 => HostExperts::First(n),
            _ => HostExperts::None,
        };
        let overrides = self.override_tensor.iter().map(|o| o.0.clone());
        Ok(Deployment {
            split: self.split_of(groups.len()),
            devices: groups.iter().map(open).collect::<Result<_, _>>()?,
            host: Some(registry.open(HOST)?),
            shares: self.tensor_split.clone().map(|s| s.0).unwrap_or_default(),
            gpu_layers: self.gpu_layers,
            host_experts,
            overrides: overrides.collect(),
            kv_device: self.kv_device.clone(),
            experts: self.expert_split.unwrap_or_default(),
            stream_experts_from: self.stream_experts,
        })
    }
}

/// The device that stands for the host's memory.
const HOST: &str = "cpu";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_in_groups() {
        assert_eq!(groups("cpu").unwrap(), [["cpu"]]);
        assert_eq!(
            groups("cpu:0/4+cpu:1/4, cpu:2/4").unwrap(),
            [vec!["cpu:0/4", "cpu:1/4"], vec!["cpu:2/4"]]
        );
        for text in ["", "cpu,", "cpu++cpu", ","] {
            assert!(groups(text).is_err(), "{text}");
        }
    }

    #[test]
    fn overrides_end_in_a_device() {
        let read = |text: &str| text.parse::<OverrideArg>().map(|o| o.0);
        let found = read("/blk\\.(1|2)=?\\./=cpu:0/2").unwrap();
        assert_eq!(
            (found.pattern.to_string(), found.device),
            ("/blk\\.(1|2)=?\\./".to_owned(), "cpu:0/2".to_owned())
        );
        for text in ["blk.*", "blk.*=", "=cpu", "/(/=cpu"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_numbers_and_not_all_nothing() {
        assert_eq!("3, 1".parse::<Shares>().unwrap(), Shares(vec![3.0, 1.0]));
        for text in ["", "3,", "3,-1", "a", "NaN", "0,0", "inf"] {
            assert!(text.parse::<Shares>().is_err(), "{text}");
        }
    }
}

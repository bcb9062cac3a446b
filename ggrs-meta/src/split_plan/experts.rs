//! Expert banks can be cut by width or by expert: which of their two groups is cut, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use ggrs_core::{Cut, Role};

use super::group::Group;
use crate::options::ExpertSplit;

/// Tokens do not choose experts evenly: what the fullest member of a cut by expert is expected to do on top of its
/// share.
const ROUTING_SPREAD: f64 = 1.25;

/// The two groups of a bank.
pub(super) type Pairs<'a> = BTreeMap<&'a Arc<str>, BTreeSet<&'a Arc<str>>>;

/// Notes the groups of a leaf that can be cut both ways: by group of experts, its groups of width.
pub(super) fn note_pair<'a>(pairs: &mut Pairs<'a>, role: &'a Role) {
    let of = |cut: Cut| role.links.iter().find(|l| l.cut == cut).map(|l| &l.group);
    if let (Some(experts), Some(width)) = (of(Cut::Experts), of(Cut::Width)) {
        pairs.entry(experts).or_default().insert(width);
    }
}

/// The groups that are not cut, since the bank is cut the other way, and for those that are the reason.
#[derive(Default)]
pub(super) struct Choice<'a> {
    pub(super) dropped: BTreeSet<&'a Arc<str>>,
    pub(super) reasons: BTreeMap<&'a Arc<str>, String>,
}

impl<'a> Choice<'a> {
    /// Chooses for every bank.
    pub(super) fn of(
        pairs: &Pairs<'a>,
        groups: &BTreeMap<&'a Arc<str>, Group<'a>>,
        ratios: &[f64],
        asked: ExpertSplit,
    ) -> Self {
        let mut choice = Self::default();
        for (experts, widths) in pairs {
            let load = |name: &Arc<str>| {
                groups.get(name).map_or(f64::INFINITY, |g| {
                    load(&g.parts(ratios), g.positions, ratios)
                })
            };
            let by_width = widths.iter().map(|w| load(w)).fold(0.0, f64::max);
            let by_expert = load(experts) * ROUTING_SPREAD;
            let (whole, reason) = match asked {
                ExpertSplit::Width => (false, "by width, as asked".to_owned()),
                ExpertSplit::Experts => (true, "by expert, as asked".to_owned()),
                ExpertSplit::Cheaper => {
                    let whole = by_expert < by_width;
                    let way = if whole { "expert" } else { "width" };
                    let reason = format!(
                        "by {way}: the fullest member does {by_width:.2} of its share by width, {by_expert:.2} by expert"
                    );
                    (whole, reason)
                }
            };
            if whole {
                choice.dropped.extend(widths);
                choice.reasons.insert(experts, reason);
            } else {
                choice.dropped.insert(experts);
                let all = widths.iter().map(|w| (*w, reason.clone()));
                choice.reasons.extend(all);
            }
        }
        choice
    }
}

/// What the fullest member holds in proportion to its ratio; 1 is an even load.
#[allow(clippy::cast_precision_loss, reason = "positions are far below 2^52")]
fn load(parts: &[Range<usize>], positions: usize, ratios: &[f64]) -> f64 {
    let sum: f64 = ratios.iter().sum();
    let loads = parts.iter().zip(ratios).filter(|(_, ratio)| **ratio > 0.0);
    let loads =
        loads.map(|(part, ratio)| part.len() as f64 / positions.max(1) as f64 * sum / ratio);
    loads.fold(1.0, f64::max)
}

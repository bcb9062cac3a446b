//! The split plan of a graph: made once from its leaves, read by everything that cuts, loads or saves them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use ggrs_core::ops::{Leaf, Op};
use ggrs_core::{Cut, Graph, Link, PartitionError, PlanError, Sharding};

use super::experts::{Choice, Pairs, note_pair};
use super::group::{Group, GroupPlan, Tensor, split_of};
use crate::options::MetaOptions;

/// How the leaves of a graph lie over the members. Two graphs with the same leaves have the same plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SplitPlan {
    members: usize,
    groups: Vec<GroupPlan>,
    leaves: HashMap<Arc<str>, Sharding>,
}

impl SplitPlan {
    /// Cuts the groups that the graph's leaves are linked to. Leaves without links stay whole on every member.
    ///
    /// # Errors
    /// Ratios that do not fit the members, tensors that disagree about their group, exact sizes that do not add up or
    /// cut an atom, a link that does not describe its tensor.
    pub fn new(graph: &Graph, members: usize, options: &MetaOptions) -> Result<Self, PlanError> {
        let ratios = ratios(&options.ratios, members)?;
        let leaves: Vec<(&Arc<str>, &Leaf)> = graph
            .nodes()
            .iter()
            .filter_map(|node| match &node.op {
                Op::Leaf(leaf) => Some((&node.name, leaf)),
                _ => None,
            })
            .collect();
        let mut pairs = Pairs::new();
        for (_, leaf) in &leaves {
            note_pair(&mut pairs, &leaf.role);
        }
        let all = groups(&leaves, |leaf| leaf.role.links.iter())?;
        let choice = Choice::of(&pairs, &all, &ratios, options.experts);
        // Of several ways to cut a tensor, the first that is open.
        let is_open = |link: &&Link| !choice.dropped.contains(&link.group);

        let mut plan = Self {
            members,
            ..Self::default()
        };
        let cut = groups(&leaves, |leaf| leaf.role.links.iter().find(is_open))?;
        for (name, group) in &cut {
            let parts = match options.sizes.get(&***name) {
                Some(sizes) => group.exact(sizes, members)?,
                None => group.parts(&ratios),
            };
            for t in &group.tensors {
                let split = split_of(t.link, &parts).map_err(|source| PartitionError::Link {
                    tensor: t.name.to_string(),
                    group: name.to_string(),
                    axis: t.link.axis,
                    source,
                })?;
                plan.leaves
                    .insert(Arc::clone(t.name), Sharding::Split(split));
            }
            let reason = choice.reasons.get(*name).cloned();
            plan.groups.push(group.plan(parts, reason));
        }
        Ok(plan)
    }

    /// Number of members.
    pub const fn members(&self) -> usize {
        self.members
    }

    /// The groups, by name.
    pub fn groups(&self) -> &[GroupPlan] {
        &self.groups
    }

    /// How the leaf of this name lies.
    pub fn sharding(&self, leaf: &str) -> Sharding {
        self.leaves.get(leaf).cloned().unwrap_or_default()
    }

    /// All of it as text, one group after another.
    pub fn explain(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for SplitPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} members, {} groups", self.members, self.groups.len())?;
        self.groups
            .iter()
            .try_for_each(|group| writeln!(f, "{group}"))
    }
}

/// One ratio per member.
fn ratios(given: &[f64], members: usize) -> Result<Vec<f64>, PartitionError> {
    let refuse = |rule| PartitionError::Ratios {
        ratios: given.to_vec(),
        members,
        rule,
    };
    if members == 0 {
        return Err(refuse("there must be at least one member"));
    }
    if given.is_empty() {
        return Ok(vec![1.0; members]);
    }
    if given.len() != members {
        return Err(refuse("give one for each member"));
    }
    if !given.iter().all(|r| r.is_finite() && *r >= 0.0) {
        return Err(refuse("each must be a number that is not below 0"));
    }
    let sum: f64 = given.iter().sum();
    if sum <= 0.0 || !sum.is_finite() {
        return Err(refuse("they must add up to a number above 0"));
    }
    Ok(given.to_vec())
}

/// The groups of the links that `pick` takes from each leaf; all tensors of a group must say the same of it.
fn groups<'a, I>(
    leaves: &[(&'a Arc<str>, &'a Leaf)],
    pick: impl Fn(&'a Leaf) -> I,
) -> Result<BTreeMap<&'a Arc<str>, Group<'a>>, PartitionError>
where
    I: IntoIterator<Item = &'a Link>,
{
    let mut groups: BTreeMap<&Arc<str>, Group<'_>> = BTreeMap::new();
    for (name, leaf) in leaves {
        for link in pick(leaf) {
            let group = groups.entry(&link.group).or_insert_with(|| Group {
                name: &link.group,
                cut: link.cut,
                positions: link.positions,
                layer: None,
                tensors: Vec::new(),
            });
            if (group.cut, group.positions) != (link.cut, link.positions) {
                let says = |cut: Cut, positions: usize| format!("{positions} positions ({cut:?})");
                let first = group.tensors.first();
                return Err(PartitionError::Group {
                    group: link.group.to_string(),
                    first: first.map_or_else(String::new, |t| t.name.to_string()),
                    first_says: says(group.cut, group.positions),
                    second: name.to_string(),
                    second_says: says(link.cut, link.positions),
                });
            }
            group.layer = group.layer.or(leaf.role.layer);
            group.tensors.push(Tensor {
                name,
                desc: &leaf.desc,
                link,
            });
        }
    }
    Ok(groups)
}

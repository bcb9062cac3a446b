//! Groups of devices that reach each other's memory: each member has a mailbox for the collectives of a device made of
//! several. `peer.cuh` says what lies in it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytemuck::{Pod, Zeroable};
use ggrs_core::DeviceError;

use crate::communicator::NoCommunicators;
use crate::context::Context;
use crate::driver::DevicePtr;
use crate::sums::Sums;

/// Members of a group at most.
pub(crate) const MAX_MEMBERS: usize = 8;

/// Blocks of a launch that meets the other members at most: all of them must run at once.
pub(crate) const MAX_BLOCKS: u32 = 128;

/// Elements of a message whose every element carries a mark.
pub(crate) const MARKED: u64 = 16384;

/// Bytes of each of the two stages of a mailbox; longer messages go in pieces.
const STAGE_BYTES: u64 = 32 << 20;

/// Pieces of large sums on their way from each member to each other, by block: `PEER_SLOTS` of `peer.cuh`.
const SLOTS: u64 = 3;

/// Bytes of the counts, arrivals and departures at the start of a mailbox.
const COUNT_BYTES: u64 = (2 + 2 * MAX_MEMBERS as u64) * MAX_BLOCKS as u64 * 4;

/// Bytes of a mailbox.
const MAILBOX_BYTES: u64 = COUNT_BYTES + 2 * MAX_MEMBERS as u64 * MARKED * 8 + 2 * STAGE_BYTES;

/// `PeerGroup` of `peer.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(crate) struct PeerGroup {
    mailbox: [u64; MAX_MEMBERS],
    stage_bytes: i64,
    pub(crate) n_members: i32,
    pub(crate) rank: i32,
}

const _: () = assert!(size_of::<PeerGroup>() == 80);

impl PeerGroup {
    /// Bytes of a stage for each piece of a large sum on its way.
    pub(crate) const fn slot_bytes(&self) -> u64 {
        STAGE_BYTES / (MAX_BLOCKS as u64 * self.n_members as u64 * SLOTS)
    }
}

/// Memory of a device that others write to.
struct Mailbox {
    owner: Arc<Context>,
    start: DevicePtr,
}

impl Mailbox {
    fn new(owner: &Arc<Context>) -> Result<Arc<Self>, DeviceError> {
        let mailbox = Self {
            owner: Arc::clone(owner),
            start: owner.alloc(MAILBOX_BYTES, "the mailbox of its group")?,
        };
        mailbox.reset()?;
        Ok(Arc::new(mailbox))
    }

    fn reset(&self) -> Result<(), DeviceError> {
        let mut gate = self.owner.gate();
        let bytes = MAILBOX_BYTES - 2 * STAGE_BYTES;
        self.owner.fill(&mut gate, self.start, 0, bytes)?;
        self.owner.synchronize(&mut gate)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.owner.free(self.start, MAILBOX_BYTES);
    }
}

/// A device's place in a group.
pub(crate) struct Link {
    rank: usize,
    mailboxes: Vec<Arc<Mailbox>>,
    sums: Result<Arc<Sums>, NoCommunicators>,
}

impl Link {
    /// Its parameters for kernels.
    pub(crate) fn group(&self) -> PeerGroup {
        let mut mailbox = [0; MAX_MEMBERS];
        for (address, member) in mailbox.iter_mut().zip(&self.mailboxes) {
            *address = member.start.0;
        }
        PeerGroup {
            mailbox,
            stage_bytes: STAGE_BYTES as i64,
            n_members: self.mailboxes.len() as i32,
            rank: self.rank as i32,
        }
    }

    /// Blocks of a launch that meet those of all other members.
    pub(crate) fn blocks(&self) -> u32 {
        let members = self.mailboxes.iter();
        let least = members.map(|m| m.owner.facts().n_multiprocessors).min();
        least.unwrap_or(1).clamp(1, MAX_BLOCKS)
    }

    /// Its number in the group.
    pub(crate) const fn rank(&self) -> usize {
        self.rank
    }

    /// What the members share for sums by the platform's library, or why they make none.
    pub(crate) fn sums(&self) -> Result<&Arc<Sums>, &NoCommunicators> {
        let sums = self.sums.as_ref()?;
        if sums.is_given_up() {
            return Err(&NoCommunicators::GivenUp);
        }
        Ok(sums)
    }

    /// Forgets what an interrupted run left in the device's own mailbox. All members do so before any of them runs.
    pub(crate) fn reset(&self) -> Result<(), DeviceError> {
        self.mailboxes.get(self.rank).map_or(Ok(()), |m| m.reset())
    }
}

/// What a device knows of the group it is in.
#[derive(Default)]
pub(crate) struct Membership {
    mailbox: Mutex<Weak<Mailbox>>,
    link: Mutex<Weak<Link>>,
}

impl Membership {
    /// The device's mailbox, made when it is first asked for.
    fn mailbox(&self, context: &Arc<Context>) -> Result<Arc<Mailbox>, DeviceError> {
        let mut known = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mailbox) = known.upgrade() {
            return Ok(mailbox);
        }
        let mailbox = Mailbox::new(context)?;
        *known = Arc::downgrade(&mailbox);
        Ok(mailbox)
    }

    /// The group it is in now.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.link
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upgrade()
    }

    /// Joins a group as member `rank`; `None` if the members cannot reach each other.
    pub(crate) fn join(
        &self,
        rank: usize,
        members: &[(&Arc<Context>, &Self)],
    ) -> Result<Option<Arc<Link>>, DeviceError> {
        let Some((own, _)) = members.get(rank) else {
            return Ok(None);
        };
        if members.len() < 2 || members.len() > MAX_MEMBERS {
            return Ok(None);
        }
        let ordinals = || members.iter().map(|(context, _)| context.driver.ordinal());
        for (i, ordinal) in ordinals().enumerate() {
            // A device that waits for itself waits for ever.
            let comes_again = ordinals().skip(i + 1).any(|other| other == ordinal);
            if comes_again {
                return Ok(None);
            }
            if i != rank && !own.driver.reach_peer(ordinal).map_err(|e| own.error(e))? {
                return Ok(None);
            }
        }
        if self.link().is_some() {
            return Err(DeviceError::Setting {
                device: own.name.clone(),
                setting: "members",
                value: "a device that is a member of another device already".to_owned(),
                possible: "the same device, opened once more".to_owned(),
            });
        }
        let mailboxes = members
            .iter()
            .map(|(context, member)| member.mailbox(context));
        let mailboxes = mailboxes.collect::<Result<Vec<_>, _>>()?;
        let link = Arc::new(Link {
            rank,
            sums: sums(members, &mailboxes),
            mailboxes,
        });
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&link);
        Ok(Some(link))
    }
}

/// What the members share for sums by the platform's library: made by the first that joins, for all.
fn sums(
    members: &[(&Arc<Context>, &Membership)],
    mailboxes: &[Arc<Mailbox>],
) -> Result<Arc<Sums>, NoCommunicators> {
    let is_same = |link: &Arc<Link>| {
        let pairs = link.mailboxes.iter().zip(mailboxes);
        link.mailboxes.len() == mailboxes.len() && pairs.into_iter().all(|(a, b)| Arc::ptr_eq(a, b))
    };
    let mut links = members.iter().filter_map(|(_, member)| member.link());
    if let Some(link) = links.find(is_same) {
        return link.sums.clone();
    }
    let contexts: Vec<_> = members.iter().map(|(context, _)| *context).collect();
    let made = Sums::new(&contexts);
    match (&made, contexts.first()) {
        (Err(reason), Some(first)) => {
            let library = first.facts().platform.collectives();
            tracing::debug!(library, %reason, "sums run as kernels");
        }
        _ => tracing::debug!(n_members = members.len(), "members connected for sums"),
    }
    made
}

//! Collectives: copies for one member; for the members of a group that reach each other's memory, exchanges through
//! their mailboxes inside the run, large sums by the platform's library if it connects them. Others are a meta device's business.

use bytemuck::{Pod, Zeroable};
use ggrs_core::Unsupported;
use ggrs_core::error::RefusalReason;
use ggrs_core::ops::{Collective, CollectiveKind, OpSpec, Share};

use crate::driver::DevicePtr;
use crate::kernel::{Args, Choice, FaultKind, Launch, ModuleKey, Request, Sum};
use crate::params::FaultCell;
use crate::peers::{Link, MARKED, MAX_MEMBERS, PeerGroup};

/// `CopyParams` of `collective.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct CopyParams {
    from: u64,
    to: u64,
    n_bytes: i64,
}

const _: () = assert!(size_of::<CopyParams>() == 24);

/// `PeerReduce` of `peer.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct PeerReduce {
    group: PeerGroup,
    x: u64,
    out: u64,
    n: i64,
    late: FaultCell,
}

const _: () = assert!(size_of::<PeerReduce>() == 120);

/// `PeerSum` of `peer.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct PeerSum {
    sum: PeerReduce,
    piece: i64,
    is_aligned: i64,
}

const _: () = assert!(size_of::<PeerSum>() == 136);

/// `PeerGather` of `peer.cu`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct PeerGather {
    group: PeerGroup,
    x: u64,
    out: u64,
    outer: i64,
    inner: i64,
    start: [i64; MAX_MEMBERS],
    len: [i64; MAX_MEMBERS],
    whole: i64,
    late: FaultCell,
}

const _: () = assert!(size_of::<PeerGather>() == 264);

const COPY_THREADS: u32 = 256;
const MARKED_THREADS: u32 = 256;
const MARKED_PER_BLOCK: u64 = 256;
const STAGED_THREADS: u32 = 512;
const SUM_THREADS: u32 = 1024;

/// A copy, an exchange with peers, or a refusal.
pub(crate) fn collective(op: &Collective, request: &Request<'_>) -> Result<Choice, Unsupported> {
    if op.members == 1 {
        let name = format!("{}/copy", op.stem());
        return Ok(Choice::new(name, "one member: a copy", copy));
    }
    let refusal = || Unsupported::one("copy", RefusalReason::Members { n: op.members });
    let link = request.link.map(|link| (link, link.group()));
    let link = link.filter(|(_, group)| group.n_members as usize == op.members);
    let (link, group) = link.ok_or_else(refusal)?;
    let choice = match op.kind {
        CollectiveKind::AllReduce => return Ok(reduce(link, group, request)),
        CollectiveKind::AllGather { axis } => {
            let parts = parts(op, request, axis).ok_or_else(refusal)?;
            let reason = "members write into each other's mailboxes inside the run";
            Choice::new("all_gather/peers", reason, move |args| {
                gather(group, parts, axis, args)
            })
        }
        CollectiveKind::ReduceScatter { .. } => return Err(refusal()),
    };
    Ok(choice.fault(FaultKind::PeerLate))
}

fn copy(args: &Args<'_>) -> Vec<Launch> {
    let (x, out) = (args.input(0), args.output(0));
    let bytes = x.elems().saturating_mul(4);
    if bytes == 0 {
        return Vec::new();
    }
    let params = CopyParams {
        from: x.data,
        to: out.data,
        n_bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
    };
    let blocks = bytes.div_ceil(16 * u64::from(COPY_THREADS)).min(4096);
    let module = ModuleKey::plain("collective");
    vec![Launch::new(
        module,
        "copy",
        blocks as u32,
        COPY_THREADS,
        &params,
    )]
}

fn reduce(link: &Link, group: PeerGroup, request: &Request<'_>) -> Choice {
    let n = request.input(0).shape.elems().unwrap_or(0) as u64;
    if n <= MARKED {
        return marked(group, n);
    }
    let staged = "each member adds up its share, sums in member order";
    if request.is_exact() {
        let reason = format!("large, exact: {staged}");
        return in_turns(link, group, n, &IN_F32, reason);
    }
    let library = request.facts.platform.collectives();
    match link.sums() {
        Ok(_) => {
            let name = format!("all_reduce/{}", library.to_lowercase());
            let reason = format!("large: {library} adds up, in an order of its own");
            Choice::sum(name, reason, move |args| Sum {
                from: DevicePtr(args.input(0).data),
                to: DevicePtr(args.output(0).data),
                n,
            })
        }
        Err(why) => {
            let reason = format!("large: {staged}, BF16 on the way; no {library}: {why}");
            in_turns(link, group, n, &IN_BF16, reason)
        }
    }
}

/// How elements of a large sum travel: 16 bytes at once.
struct Message {
    name: &'static str,
    kernel: &'static str,
    elems: u64,
}

const IN_F32: Message = Message {
    name: "all_reduce/peers staged",
    kernel: "all_reduce_staged",
    elems: 4,
};
const IN_BF16: Message = Message {
    name: "all_reduce/peers bf16",
    kernel: "all_reduce_bf16",
    elems: 8,
};
const MESSAGE_BYTES: u64 = 16;

/// A large sum: so many messages for each block in a turn that all blocks have some, but not more than one for each
/// thread.
fn in_turns(
    link: &Link,
    group: PeerGroup,
    n: u64,
    message: &'static Message,
    reason: String,
) -> Choice {
    let blocks = link.blocks();
    let share = n.div_ceil(message.elems).div_ceil(group.n_members as u64);
    let most = u64::from(SUM_THREADS).min(group.slot_bytes() / MESSAGE_BYTES);
    let piece = share.div_ceil(blocks.into()).next_multiple_of(32).min(most);
    let choice = Choice::new(message.name, reason, move |args| {
        let sum = peer_reduce(group, n, args);
        let p = PeerSum {
            sum,
            piece: piece as i64,
            is_aligned: (sum.x.is_multiple_of(32) && sum.out.is_multiple_of(32)).into(),
        };
        let module = ModuleKey::plain("peer");
        let launch = Launch::new(module, message.kernel, blocks, SUM_THREADS, &p);
        vec![launch]
    });
    choice.fault(FaultKind::PeerLate)
}

fn peer_reduce(group: PeerGroup, n: u64, args: &Args<'_>) -> PeerReduce {
    PeerReduce {
        group,
        x: args.input(0).data,
        out: args.output(0).data,
        n: n as i64,
        late: args.cell(0),
    }
}

/// A small sum.
fn marked(group: PeerGroup, n: u64) -> Choice {
    let reason = "small: every element travels with a mark, sums in member order";
    let choice = Choice::new("all_reduce/peers marked", reason, move |args| {
        if n == 0 {
            return Vec::new();
        }
        let p = peer_reduce(group, n, args);
        let module = ModuleKey::plain("peer");
        let blocks = n.div_ceil(MARKED_PER_BLOCK) as u32;
        let launch = Launch::new(module, "all_reduce_marked", blocks, MARKED_THREADS, &p);
        vec![launch]
    });
    choice.fault(FaultKind::PeerLate)
}

/// Start and length of each member's part along the axis; `None` for cuts in several runs.
type Parts = ([i64; MAX_MEMBERS], [i64; MAX_MEMBERS]);

fn parts(op: &Collective, request: &Request<'_>, axis: usize) -> Option<Parts> {
    let own = request.input(0).shape.dim(axis)?.fixed()?;
    let (mut start, mut len) = ([0; MAX_MEMBERS], [0; MAX_MEMBERS]);
    for (m, (start, len)) in start.iter_mut().zip(&mut len).take(op.members).enumerate() {
        (*start, *len) = match &op.share {
            None => ((m * own) as i64, own as i64),
            Some(Share { split, .. }) => match split.part(m) {
                [] => (0, 0),
                [range] => (range.start as i64, range.len() as i64),
                _ => return None,
            },
        };
    }
    Some((start, len))
}

fn gather(group: PeerGroup, (start, len): Parts, axis: usize, args: &Args<'_>) -> Vec<Launch> {
    let (x, out) = (args.input(0), args.output(0));
    let sizes = args.output_sizes(0);
    let product = |axes: &[usize]| axes.iter().map(|n| *n as i64).product::<i64>();
    let (Some(before), Some(behind)) = (sizes.get(..axis), sizes.get(axis + 1..)) else {
        return Vec::new();
    };
    if out.elems() == 0 {
        return Vec::new();
    }
    let params = PeerGather {
        group,
        x: x.data,
        out: out.data,
        outer: product(before),
        inner: product(behind),
        start,
        len,
        whole: sizes.get(axis).map_or(0, |n| *n as i64),
        late: args.cell(0),
    };
    let blocks = out.elems().div_ceil(u64::from(STAGED_THREADS) * 4);
    let blocks = blocks.clamp(1, 32) as u32;
    let module = ModuleKey::plain("peer");
    vec![Launch::new(
        module,
        "all_gather_staged",
        blocks,
        STAGED_THREADS,
        &params,
    )]
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![ModuleKey::plain("collective"), ModuleKey::plain("peer")]
}

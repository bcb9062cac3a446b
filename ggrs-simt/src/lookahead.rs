//! Weights that are on their way before the launch that reads them: launches that leave the memory idle bring those of
//! later ones into the second cache (`ahead.cuh`).

use bytemuck::{Pod, Zeroable};

use crate::driver::DevicePtr;
use crate::kernel::Entry;

/// Ranges of a launch at most.
const MAX_RANGES: usize = 4;

/// Bytes that one launch brings at most: what the memory gives in the time of a short launch.
const MAX_BYTES: u64 = 8 << 20;

/// A launch that reads more weights than this itself leaves the memory to do.
const IDLE_BYTES: u64 = 2 << 20;

/// `Ahead` of `ahead.cuh`. Kernels that look ahead have it at the start of their parameters.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub(crate) struct Ahead {
    start: [u64; MAX_RANGES],
    n_bytes: [u32; MAX_RANGES],
}

const _: () = assert!(size_of::<Ahead>() == 48);

/// Weights that a launch reads, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: DevicePtr,
    pub(crate) bytes: u64,
}

/// Does a launch have a place for what comes, and time?
fn is_idle(entry: &Entry) -> bool {
    let Entry::Launch(launch) = entry else {
        return false;
    };
    let own: u64 = launch.weights.iter().map(|span| span.bytes).sum();
    launch.looks_ahead && own <= IDLE_BYTES
}

/// The weights that an entry reads whole.
fn weights(entry: &Entry) -> &[Span] {
    match entry {
        Entry::Launch(launch) => &launch.weights,
        Entry::Sum(_) => &[],
    }
}

/// Tells launches that have time what those behind them read, up to the next that has time as well.
pub(crate) fn look_ahead(entries: &mut [Entry], l2_bytes: u64) {
    let most = MAX_BYTES.min(l2_bytes / 4);
    for i in 0..entries.len() {
        let Some((entry, behind)) = entries.get_mut(i..).and_then(<[_]>::split_first_mut) else {
            return;
        };
        if !is_idle(entry) {
            continue;
        }
        let next = behind.iter().position(is_idle);
        let behind = behind.iter().take(next.map_or(behind.len(), |at| at + 1));
        let ahead = Ahead::new(behind.flat_map(weights), most);
        if let Entry::Launch(launch) = entry
            && let Some(place) = launch.params.get_mut(..size_of::<Ahead>())
        {
            place.copy_from_slice(bytemuck::bytes_of(&ahead));
        }
    }
}

impl Ahead {
    /// The first of `spans`, of so many bytes at most.
    fn new<'a>(spans: impl Iterator<Item = &'a Span>, most: u64) -> Self {
        let mut ahead = Self::default();
        let mut left = most;
        let places = ahead.start.iter_mut().zip(&mut ahead.n_bytes);
        for ((start, n_bytes), span) in places.zip(spans) {
            let bytes = span.bytes.min(left);
            left -= bytes;
            *start = span.start.0;
            *n_bytes = bytes as u32;
        }
        ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Launch, ModuleKey};

    fn launch(looks_ahead: bool, weights: &[(u64, u64)]) -> Entry {
        let span = |&(start, bytes)| Span {
            start: DevicePtr(start),
            bytes,
        };
        let launch = Launch::new(ModuleKey::plain("test"), "test", 1, 32, &Ahead::default());
        let launch = launch.reading(weights.iter().map(span).collect());
        Entry::Launch(if looks_ahead {
            launch.looking_ahead()
        } else {
            launch
        })
    }

    fn told(entry: &Entry) -> Ahead {
        let Entry::Launch(launch) = entry else {
            unreachable!("a launch")
        };
        bytemuck::pod_read_unaligned(&launch.params)
    }

    #[test]
    fn idle_launches_bring_what_is_read_before_the_next_idle_one_has_run() {
        let mut all = [
            launch(true, &[]),
            launch(false, &[(1000, 100)]),
            launch(true, &[(2000, 200)]),
            launch(true, &[(3000, 3 << 20)]),
            launch(false, &[(4000, 400)]),
        ];
        look_ahead(&mut all, 32 << 20);
        let ahead = |start, n_bytes| Ahead { start, n_bytes };
        assert_eq!(told(&all[0]), ahead([1000, 2000, 0, 0], [100, 200, 0, 0]));
        assert_eq!(told(&all[1]), Ahead::default());
        assert_eq!(
            told(&all[2]),
            ahead([3000, 4000, 0, 0], [3 << 20, 400, 0, 0])
        );
        // It has enough to read itself.
        assert_eq!(told(&all[3]), Ahead::default());
    }

    #[test]
    fn no_more_is_brought_than_the_cache_has_room_for() {
        let mut all = [launch(true, &[]), launch(false, &[(0, 300), (512, 300)])];
        look_ahead(&mut all, 1600);
        assert_eq!(told(&all[0]).n_bytes, [300, 100, 0, 0]);
    }
}

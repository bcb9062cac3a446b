//! Moving bytes between the host and the members' parts of a tensor, through the members' queues. It must not know who
//! asks: buffers, weights and collectives all move bytes here.
//!
//! Runs that lie one behind the other in a member's part go over in one transfer, gathered in staging memory.

use std::ops::Range;

use ggrs_core::device::{BufferSlice, Queue};
use ggrs_core::{DeviceError, ExecError};

use crate::ranges::{RangeMap, Run, Runs};

/// A tensor over members' memory.
#[derive(Clone, Copy)]
pub(crate) struct Sharded<'a> {
    /// Where its bytes lie.
    pub(crate) map: &'a RangeMap,
    /// The members' parts; `None` for a member that has none.
    pub(crate) parts: &'a [Option<BufferSlice>],
}

/// Runs that lie one behind the other in a member's part.
struct Stretch<'a> {
    at: usize,
    bytes: usize,
    first: Run,
    n_runs: usize,
    runs: Runs<'a>,
}

impl<'a> Stretch<'a> {
    /// The next stretch; of several runs only if they fit in `limit` bytes.
    fn next(runs: &mut Runs<'a>, limit: usize) -> Option<Self> {
        let start = runs.clone();
        let first = runs.next()?;
        let mut stretch = Self {
            at: first.at,
            bytes: first.bytes,
            first,
            n_runs: 1,
            runs: start,
        };
        loop {
            let mut ahead = runs.clone();
            match ahead.next() {
                Some(run)
                    if run.at == stretch.at + stretch.bytes
                        && stretch.bytes + run.bytes <= limit =>
                {
                    stretch.bytes += run.bytes;
                    stretch.n_runs += 1;
                    *runs = ahead;
                }
                _ => return Some(stretch),
            }
        }
    }

    /// Where the run lies in host memory that begins with byte `base` of the tensor.
    fn on_host(run: &Run, base: usize) -> Range<usize> {
        let start = run.logical.saturating_sub(base);
        start..start + run.bytes
    }

    fn slice(&self, part: &BufferSlice) -> Result<BufferSlice, DeviceError> {
        part.range("a member", self.at as u64, self.bytes as u64)
    }

    /// The stretch's runs with their places in staging memory.
    fn staged(&self) -> impl Iterator<Item = (Run, Range<usize>)> + use<'a> {
        let at = self.at;
        let place = move |run: Run| (run, run.at - at..run.at - at + run.bytes);
        self.runs.clone().take(self.n_runs).map(place)
    }
}

/// Writes `data` to the tensor from byte `start` on, on every member that holds it.
pub(crate) fn write(
    to: Sharded<'_>,
    start: usize,
    data: &[u8],
    queues: &mut [Box<dyn Queue>],
    staging: &mut [u8],
) -> Result<(), DeviceError> {
    for (member, (part, queue)) in to.parts.iter().zip(queues).enumerate() {
        let Some(part) = part else {
            continue;
        };
        let mut runs = to.map.held(member, start..start.saturating_add(data.len()));
        while let Some(stretch) = Stretch::next(&mut runs, staging.len()) {
            let target = stretch.slice(part)?;
            if stretch.n_runs == 1 {
                let range = Stretch::on_host(&stretch.first, start);
                queue.upload(&target, data.get(range).unwrap_or_default())?;
                continue;
            }
            for (run, place) in stretch.staged() {
                let source = data.get(Stretch::on_host(&run, start));
                if let (Some(source), Some(place)) = (source, staging.get_mut(place)) {
                    place.copy_from_slice(source);
                }
            }
            queue.upload(&target, staging.get(..stretch.bytes).unwrap_or_default())?;
        }
    }
    Ok(())
}

/// Reads the tensor from byte `start` on, each byte from the first member that holds it.
pub(crate) fn read(
    from: Sharded<'_>,
    start: usize,
    data: &mut [u8],
    queues: &mut [Box<dyn Queue>],
    staging: &mut [u8],
) -> Result<(), ExecError> {
    for (member, (part, queue)) in from.parts.iter().zip(queues).enumerate() {
        let Some(part) = part else {
            continue;
        };
        let mut runs = from
            .map
            .answered(member, start..start.saturating_add(data.len()));
        while let Some(stretch) = Stretch::next(&mut runs, staging.len()) {
            let source = stretch.slice(part)?;
            if stretch.n_runs == 1 {
                let range = Stretch::on_host(&stretch.first, start);
                queue.download(&source, data.get_mut(range).unwrap_or_default())?;
                continue;
            }
            let gathered = staging.get_mut(..stretch.bytes).unwrap_or_default();
            queue.download(&source, gathered)?;
            for (run, place) in stretch.staged() {
                let target = data.get_mut(Stretch::on_host(&run, start));
                if let (Some(target), Some(place)) = (target, gathered.get(place)) {
                    target.copy_from_slice(place);
                }
            }
        }
    }
    Ok(())
}

/// Sets bytes of the tensor, on every member that holds them.
pub(crate) fn fill(
    to: Sharded<'_>,
    range: Range<usize>,
    byte: u8,
    queues: &mut [Box<dyn Queue>],
) -> Result<(), DeviceError> {
    for (member, (part, queue)) in to.parts.iter().zip(queues).enumerate() {
        let Some(part) = part else {
            continue;
        };
        let mut runs = to.map.held(member, range.clone());
        while let Some(stretch) = Stretch::next(&mut runs, usize::MAX) {
            queue.fill(&stretch.slice(part)?, byte)?;
        }
    }
    Ok(())
}

/// Copies `range` of a tensor over the bytes of another from `start` on, member by member; both must lie alike.
pub(crate) fn copy(
    from: Sharded<'_>,
    range: &Range<usize>,
    to: Sharded<'_>,
    start: usize,
    queues: &mut [Box<dyn Queue>],
) -> Result<(), DeviceError> {
    let target = start..start.saturating_add(range.len());
    let parts = from.parts.iter().zip(to.parts).zip(queues).enumerate();
    for (member, ((source, part), queue)) in parts {
        let (Some(source), Some(part)) = (source, part) else {
            continue;
        };
        let mut reads = from.map.held(member, range.clone());
        let mut writes = to.map.held(member, target.clone());
        while let (Some(read), Some(write)) = (
            Stretch::next(&mut reads, usize::MAX),
            Stretch::next(&mut writes, usize::MAX),
        ) {
            queue.copy(&read.slice(source)?, &write.slice(part)?)?;
        }
    }
    Ok(())
}

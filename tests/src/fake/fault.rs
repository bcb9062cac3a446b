//! Events of devices, counted, and the faults that are to happen at some of them. It must not know devices.

use std::collections::BTreeMap;
use std::fmt;

/// Where a device may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// Memory asked for: buffers, states, the arena and constants of an executable.
    Alloc,
    /// A weight loaded.
    LoadWeight,
    /// Host to device.
    Upload,
    /// Device to host, weights read back included.
    Download,
    /// Copies and fills within a device.
    Copy,
    /// A run of steps.
    Launch,
    /// A wait for a fence.
    Fence,
    /// A collective of several devices.
    Collective,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Alloc,
        Self::LoadWeight,
        Self::Upload,
        Self::Download,
        Self::Copy,
        Self::Launch,
        Self::Fence,
        Self::Collective,
    ];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alloc => "alloc",
            Self::LoadWeight => "load_weight",
            Self::Upload => "upload",
            Self::Download => "download",
            Self::Copy => "copy",
            Self::Launch => "launch",
            Self::Fence => "fence",
            Self::Collective => "collective",
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a device fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// No memory, this once.
    OutOfMemory,
    /// The device is gone until it is revived.
    Lost,
    /// No answer in time, this once.
    Timeout,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OutOfMemory, Self::Lost, Self::Timeout];
}

/// A failure to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Of which device events are counted; `None` for all devices together.
    pub device: Option<usize>,
    /// At which kind of event.
    pub point: Point,
    /// Which of them, counted from 0 since the world began or its counts were restarted.
    pub nth: u64,
    /// How the device at which it happens fails.
    pub kind: FaultKind,
}

/// Events at a point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub events: u64,
    /// Bytes that they asked for or moved.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.events += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Counts and the faults to come.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// By point, then by device.
    tallies: BTreeMap<(Point, usize), Tally>,
    faults: Vec<Fault>,
    fired: Vec<Fault>,
}

impl Schedule {
    /// Events at a point of all devices together.
    pub(super) fn total(&self, point: Point) -> Tally {
        let of_point = self.tallies.range((point, 0)..=(point, usize::MAX));
        of_point.fold(Tally::default(), |sum, (_, t)| Tally {
            events: sum.events + t.events,
            bytes: sum.bytes.saturating_add(t.bytes),
        })
    }

    /// Events at a point of one device.
    pub(super) fn of_device(&self, device: usize, point: Point) -> Tally {
        self.tallies
            .get(&(point, device))
            .copied()
            .unwrap_or_default()
    }

    /// An event happens; if a fault was waiting for it, that.
    pub(super) fn happen(&mut self, device: usize, point: Point, bytes: u64) -> Option<FaultKind> {
        let (own, all) = (self.of_device(device, point), self.total(point));
        self.tallies.entry((point, device)).or_default().add(bytes);
        let hit = self.faults.iter().position(|fault| {
            let count = match fault.device {
                Some(wanted) if wanted != device => return false,
                Some(_) => own.events,
                None => all.events,
            };
            fault.point == point && fault.nth == count
        })?;
        let fault = self.faults.remove(hit);
        self.fired.push(fault);
        Some(fault.kind)
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Forgets the faults to come.
    pub(super) fn clear_faults(&mut self) {
        self.faults.clear();
    }

    pub(super) fn fired(&self) -> &[Fault] {
        &self.fired
    }

    /// Counts from 0 again, without faults.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }
}

/// Up to `limit` of `0..n`, evenly spread, the first and the last among them.
pub(super) fn spread(n: u64, limit: u64) -> Vec<u64> {
    if n <= limit {
        return (0..n).collect();
    }
    match limit {
        0 => Vec::new(),
        1 => vec![0],
        _ => (0..limit).map(|i| i * (n - 1) / (limit - 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_fires_once_at_its_event() {
        let mut schedule = Schedule::default();
        let kind = FaultKind::Timeout;
        let fault = |device, nth| Fault {
            device,
            point: Point::Upload,
            nth,
            kind,
        };
        schedule.inject(fault(Some(1), 1));
        schedule.inject(fault(None, 4));
        let devices = [0, 1, 0, 1, 0, 1];
        let fired = devices.map(|device| {
            schedule.happen(device, Point::Download, 1);
            schedule.happen(device, Point::Upload, 10)
        });
        assert_eq!(fired, [None, None, None, Some(kind), Some(kind), None]);
        assert_eq!(schedule.fired(), [fault(Some(1), 1), fault(None, 4)]);
        let total = Tally {
            events: 6,
            bytes: 60,
        };
        assert_eq!(schedule.total(Point::Upload), total);
        assert_eq!(schedule.of_device(1, Point::Upload).events, 3);
        assert_eq!(schedule.total(Point::Copy), Tally::default());
    }

    #[test]
    fn a_spread_has_both_ends() {
        assert_eq!(spread(3, 5), [0, 1, 2]);
        assert_eq!(spread(101, 3), [0, 50, 100]);
        assert_eq!(spread(10, 10), (0..10).collect::<Vec<_>>());
        assert_eq!((spread(9, 1), spread(9, 0)), (vec![0], vec![]));
    }
}

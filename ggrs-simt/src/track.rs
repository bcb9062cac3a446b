//! What an executable puts into the stream, in order: launches with their kernels loaded, and sums by the platform's
//! library; walked one by one, or recorded and replayed as one.

use std::ops::Range;
use std::sync::Arc;

use ggrs_core::DeviceError;

use crate::context::{Context, Gate};
use crate::driver::{Function, Geometry, Recording};
use crate::kernel::{Entry, Sum};
use crate::sums::{Meeting, Sums};

/// One thing to put into the stream.
pub(crate) enum Ready {
    /// A launch.
    Kernel {
        function: Function,
        geometry: Geometry,
        params: Box<[u8]>,
    },
    /// A sum, at this node.
    Sum { sum: Sum, node: Arc<str> },
}

/// All of an executable. The memory that it names is the executable's, and whoever drops that waits for the stream
/// first.
pub(crate) struct Track {
    context: Arc<Context>,
    all: Vec<Ready>,
    /// The group with which it sums, and the device's number in it.
    group: Option<(Arc<Sums>, usize)>,
}

impl Track {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
            all: Vec::new(),
            group: None,
        }
    }

    /// Adds what a node puts into the stream.
    pub(crate) fn push(&mut self, entry: Entry, node: &str) -> Result<(), DeviceError> {
        let ready = match entry {
            Entry::Launch(launch) => {
                let mut geometry = launch.geometry;
                // What a library puts into a stream says nothing of when the next may start.
                geometry.overlaps &= !matches!(self.all.last(), Some(Ready::Sum { .. }));
                Ready::Kernel {
                    function: self.context.library.function(&launch)?,
                    geometry,
                    params: launch.params,
                }
            }
            Entry::Sum(sum) => {
                let link = self.context.membership.link();
                let link = link.ok_or_else(|| given_up(&self.context))?;
                let sums = link.sums().map_err(|_| given_up(&self.context))?;
                self.group = Some((Arc::clone(sums), link.rank()));
                let node = node.into();
                Ready::Sum { sum, node }
            }
        };
        self.all.push(ready);
        Ok(())
    }

    fn part(&self, part: &Range<usize>) -> &[Ready] {
        self.all.get(part.clone()).unwrap_or_default()
    }

    /// The nodes of the sums of a part.
    fn sums(&self, part: &Range<usize>) -> impl Iterator<Item = &Arc<str>> {
        self.part(part).iter().filter_map(|ready| match ready {
            Ready::Kernel { .. } => None,
            Ready::Sum { node, .. } => Some(node),
        })
    }

    /// Has a part nothing in which other members have to take part by the library?
    pub(crate) fn is_alone(&self, part: &Range<usize>) -> bool {
        self.sums(part).next().is_none()
    }

    /// Has to be called before a part is put into the stream: its sums are waited for with care.
    ///
    /// # Errors
    /// The group was given up.
    pub(crate) fn meet(&self, gate: &mut Gate, part: &Range<usize>) -> Result<(), DeviceError> {
        let (Some((sums, rank)), Some(node)) = (&self.group, self.sums(part).next()) else {
            return Ok(());
        };
        if sums.is_given_up() {
            return Err(given_up(&self.context));
        }
        gate.meeting.get_or_insert_with(|| Meeting {
            sums: Arc::clone(sums),
            rank: *rank,
            node: Arc::clone(node),
        });
        Ok(())
    }

    /// Tells the others that the stream is to run so many sums.
    fn came(&self, n: usize) {
        if let Some((sums, rank)) = &self.group {
            sums.came(*rank, n as u64);
        }
    }

    /// Puts a part into the stream.
    pub(crate) fn walk(&self, gate: &Gate, part: &Range<usize>) -> Result<(), DeviceError> {
        for ready in self.part(part) {
            self.put(gate, ready)?;
            if matches!(ready, Ready::Sum { .. }) {
                self.came(1);
            }
        }
        Ok(())
    }

    fn put(&self, gate: &Gate, ready: &Ready) -> Result<(), DeviceError> {
        let put = match (ready, &self.group) {
            (
                Ready::Kernel {
                    function,
                    geometry,
                    params,
                },
                _,
            ) => {
                let driver = &self.context.driver;
                // SAFETY: the parameter block was built by the kernel's own family over the executable's memory.
                unsafe { driver.launch(gate.stream, *function, geometry, params) }
            }
            // SAFETY: the places are of the executable's memory.
            (Ready::Sum { sum, .. }, Some((sums, rank))) => unsafe {
                sums.put(*rank, gate.stream, sum)
            },
            (Ready::Sum { .. }, None) => return Err(given_up(&self.context)),
        };
        put.map_err(|e| self.context.error(e))
    }

    /// Records parts as one.
    pub(crate) fn record(
        &self,
        gate: &Gate,
        parts: &[Range<usize>],
    ) -> Result<Recording, DeviceError> {
        let driver = &self.context.driver;
        driver
            .begin_recording(gate.stream)
            .map_err(|e| self.context.error(e))?;
        let mut all = parts.iter().flat_map(|part| self.part(part));
        let put = all.try_for_each(|ready| self.put(gate, ready));
        let ended = driver.end_recording(gate.stream);
        put?;
        ended.map_err(|e| self.context.error(e))
    }

    /// Puts the recording of a part into the stream.
    pub(crate) fn replay(
        &self,
        gate: &Gate,
        recording: Recording,
        part: &Range<usize>,
    ) -> Result<(), DeviceError> {
        // SAFETY: as for launches.
        let replayed = unsafe { self.context.driver.replay(gate.stream, recording) };
        replayed.map_err(|e| self.context.error(e))?;
        self.came(self.sums(part).count());
        Ok(())
    }
}

fn given_up(context: &Context) -> DeviceError {
    DeviceError::Unavailable {
        device: context.name.clone(),
        reason:
            "its group was given up when a member was late; make the device of its members anew"
                .to_owned(),
    }
}

//! Sums by the platform's library of collectives: what the members of a group share for them, and waiting for a stream
//! that has some without hanging if a member does not come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ggrs_core::DeviceError;

use crate::communicator::{Communicator, NoCommunicators};
use crate::context::Context;
use crate::driver::{Driver, DriverError, DriverFailure, Stream};
use crate::kernel::Sum;

/// Elements of the sums that members try when they are connected: what the library allocates, it allocates then.
const TRIED: [u64; 3] = [1 << 15, 1 << 20, 1 << 22];

/// Once all members have put their parts into their streams, only the devices' work is waited for: so many times longer
/// than for a member.
const WORK_PER_PATIENCE: u32 = 12;

/// Until a wait is so long the processor is only offered to others; from then on the thread sleeps in between.
const SHORT: Duration = Duration::from_millis(1);
const NAP: Duration = Duration::from_micros(50);

struct Member {
    communicator: Box<dyn Communicator>,
    /// Sums that it has put into its stream.
    n_put: AtomicU64,
}

/// A group's communicators.
pub(crate) struct Sums {
    members: Vec<Member>,
    given_up: AtomicBool,
}

/// Why a stream with sums was not waited for to its end.
enum Stop {
    /// Another member did not come; the stream is empty now.
    Late(Duration),
    /// The stream does not end.
    Stuck,
    Failed(DriverError),
}

impl Sums {
    /// Connects the members and lets them try it.
    pub(crate) fn new(contexts: &[&Arc<Context>]) -> Result<Arc<Self>, NoCommunicators> {
        let Some(first) = contexts.first() else {
            return Err(NoCommunicators::Unused);
        };
        let ordinals: Vec<usize> = contexts.iter().map(|c| c.driver.ordinal()).collect();
        let communicators = first.driver.communicators(&ordinals)?;
        let member = |communicator| Member {
            communicator,
            n_put: AtomicU64::new(0),
        };
        let sums = Arc::new(Self {
            members: communicators.into_iter().map(member).collect(),
            given_up: AtomicBool::new(false),
        });
        // Each on a thread of its own, as later in runs: the first sums may wait for each other.
        let tried = std::thread::scope(|scope| {
            let sums = &*sums;
            let each = contexts.iter().enumerate();
            let threads =
                each.map(|(rank, context)| scope.spawn(move || sums.try_out(rank, context)));
            let threads: Vec<_> = threads.collect();
            let results = threads
                .into_iter()
                .map(|t| t.join().unwrap_or(Err(NoCommunicators::Stuck)));
            results.fold(Ok(()), Result::and)
        });
        match tried {
            Ok(()) => Ok(sums),
            Err(reason) => {
                sums.give_up();
                Err(reason)
            }
        }
    }

    /// A member's first sums, over zeros.
    fn try_out(&self, rank: usize, context: &Context) -> Result<(), NoCommunicators> {
        let driver = &*context.driver;
        let most = TRIED.into_iter().max().unwrap_or(0);
        let place = driver.alloc(4 * most)?;
        let gate = context.gate();
        let put = || -> Result<(), DriverError> {
            // SAFETY: the memory was just allocated, and is freed once the stream is empty.
            unsafe { driver.fill(gate.stream, place, 0, 4 * most) }?;
            for n in TRIED {
                let sum = Sum {
                    from: place,
                    to: place,
                    n,
                };
                // SAFETY: as above.
                unsafe { self.put(rank, gate.stream, &sum) }?;
                self.came(rank, 1);
            }
            Ok(())
        };
        let put = put();
        if put.is_err() {
            self.give_up();
        }
        let waited = self.wait(rank, driver, gate.stream, context.patience);
        if !matches!(waited, Err(Stop::Stuck)) {
            driver.free(place);
        }
        put?;
        waited.map_err(|stop| match stop {
            Stop::Failed(error) => error.into(),
            Stop::Late(_) | Stop::Stuck => NoCommunicators::Stuck,
        })
    }

    /// Puts a member's part of a sum into its stream, or into what is recorded there.
    ///
    /// # Safety
    /// The memory that the sum names is the member's and alive until the stream has done it.
    pub(crate) unsafe fn put(
        &self,
        rank: usize,
        stream: Stream,
        sum: &Sum,
    ) -> Result<(), DriverError> {
        let Some(member) = self.members.get(rank) else {
            return Ok(());
        };
        // SAFETY: as the caller promises.
        unsafe {
            member
                .communicator
                .all_reduce(stream, sum.from, sum.to, sum.n)
        }
    }

    /// Counts sums of a member that its stream is to run: by this the others see that it has come.
    pub(crate) fn came(&self, rank: usize, n: u64) {
        if let Some(member) = self.members.get(rank) {
            member.n_put.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Do the members no longer meet?
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    fn give_up(&self) {
        if !self.given_up.swap(true, Ordering::AcqRel) {
            for member in &self.members {
                member.communicator.abort();
            }
        }
    }

    /// How long a member may wait: less while another has not come to a sum at which it is itself.
    fn limit(&self, rank: usize, patience: Duration) -> Duration {
        let n_put = |member: &Member| member.n_put.load(Ordering::Relaxed);
        let own = self.members.get(rank).map_or(0, n_put);
        if self.members.iter().any(|other| n_put(other) < own) {
            patience
        } else {
            patience.saturating_mul(WORK_PER_PATIENCE)
        }
    }

    /// Waits until a member's stream is empty. If that takes too long or fails, the group is given up.
    fn wait(
        &self,
        rank: usize,
        driver: &dyn Driver,
        stream: Stream,
        patience: Duration,
    ) -> Result<(), Stop> {
        let start = Instant::now();
        let stop = loop {
            match driver.is_done(stream) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => break Stop::Failed(error),
            }
            let waited = start.elapsed();
            if self.is_given_up() || waited > self.limit(rank, patience) {
                break Stop::Late(waited);
            }
            let checked = self.members.get(rank).map(|m| m.communicator.check());
            if let Some(Err(error)) = checked {
                break Stop::Failed(error);
            }
            pause(waited);
        };
        self.give_up();
        // A device that is lost has nothing in flight.
        if matches!(&stop, Stop::Failed(e) if e.failure == DriverFailure::Lost) {
            return Err(stop);
        }
        // Kernels behind may each wait for others as well.
        let (start, limit) = (Instant::now(), patience.saturating_mul(WORK_PER_PATIENCE));
        while !driver.is_done(stream).map_err(Stop::Failed)? {
            if start.elapsed() > limit {
                return Err(Stop::Stuck);
            }
            pause(start.elapsed());
        }
        Err(stop)
    }
}

/// Lets others have the processor while a stream is waited for.
fn pause(waited: Duration) {
    if waited < SHORT {
        std::thread::yield_now();
    } else {
        std::thread::sleep(NAP);
    }
}

/// Sums in a stream that nobody has waited for yet.
pub(crate) struct Meeting {
    pub(crate) sums: Arc<Sums>,
    pub(crate) rank: usize,
    /// The node of the first of them.
    pub(crate) node: Arc<str>,
}

impl Meeting {
    /// Waits until the stream is empty.
    pub(crate) fn wait(self, context: &Context, stream: Stream) -> Result<(), DeviceError> {
        let waited = self
            .sums
            .wait(self.rank, &*context.driver, stream, context.patience);
        let device = context.name.clone();
        waited.map_err(|stop| match stop {
            Stop::Failed(error) => context.error(error),
            Stop::Late(waited) => DeviceError::Timeout {
                device,
                what: format!("another member's part of \"{}\"", self.node),
                waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            },
            Stop::Stuck => DeviceError::Lost {
                device,
                cause: format!("\"{}\" does not end, though it was given up", self.node),
            },
        })
    }
}

//! Workers that do one thing at a time side by side: the first on the calling thread, each other one on a thread of its
//! own. It must not know what they do.
//!
//! A worker that fails or panics hangs nobody: all finish what they were given, then the first failure is reported. One
//! that does not come back in time is left behind, with all that it owns.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// What can be given work.
pub(crate) trait Work: Send + 'static {
    /// A piece of work.
    type Job: Send;
    /// What may go wrong.
    type Error: Send;

    /// Does it.
    fn work(&mut self, job: Self::Job) -> Result<(), Self::Error>;
}

/// What went wrong with a worker, by its number.
#[derive(Debug, PartialEq)]
pub(crate) enum Failure<E> {
    /// It said so. It can be given work again.
    Failed(usize, E),
    /// It panicked, with these words.
    Panicked(usize, String),
    /// It did not come back.
    Late(usize),
}

/// The workers.
pub(crate) struct Crew<W: Work> {
    lead: W,
    desks: Vec<(Arc<Desk<W>>, JoinHandle<()>)>,
    patience: Duration,
}

/// Where a worker waits for work.
struct Desk<W: Work> {
    state: AtomicU8,
    stop: AtomicBool,
    slot: Mutex<Slot<W>>,
}

const IDLE: u8 = 0;
const ASKED: u8 = 1;
const DONE: u8 = 2;

struct Slot<W: Work> {
    worker: W,
    job: Option<W::Job>,
    /// Who waits for it.
    asker: Option<Thread>,
    result: Result<(), Problem<W::Error>>,
}

enum Problem<E> {
    Failed(E),
    Panicked(String),
}

impl<E> Problem<E> {
    fn of(self, worker: usize) -> Failure<E> {
        match self {
            Self::Failed(error) => Failure::Failed(worker, error),
            Self::Panicked(words) => Failure::Panicked(worker, words),
        }
    }
}

impl<W: Work> Desk<W> {
    fn slot(&self) -> MutexGuard<'_, Slot<W>> {
        // Panics of workers are caught while the slot is held.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Work> Crew<W> {
    /// A crew of the lead, who works on the thread that asks, and others.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn new(lead: W, others: Vec<W>, patience: Duration) -> std::io::Result<Self> {
        let mut crew = Self {
            lead,
            desks: Vec::with_capacity(others.len()),
            patience,
        };
        for (i, worker) in others.into_iter().enumerate() {
            let desk = Arc::new(Desk {
                state: AtomicU8::new(IDLE),
                stop: AtomicBool::new(false),
                slot: Mutex::new(Slot {
                    worker,
                    job: None,
                    asker: None,
                    result: Ok(()),
                }),
            });
            let own = Arc::clone(&desk);
            let builder = std::thread::Builder::new().name(format!("ggrs-member-{}", i + 1));
            let thread = builder.spawn(move || attend(&own))?;
            crew.desks.push((desk, thread));
        }
        Ok(crew)
    }

    /// Gives each worker its job, `None` for nothing to do, and waits for all.
    ///
    /// # Errors
    /// The failure of the first worker that has one. After [`Failure::Late`] the crew must not be asked again.
    pub(crate) fn run(
        &mut self,
        mut job: impl FnMut(usize) -> Option<W::Job>,
    ) -> Result<(), Failure<W::Error>> {
        let lead = job(0);
        for (i, (desk, thread)) in self.desks.iter().enumerate() {
            if let Some(job) = job(i + 1) {
                let mut slot = desk.slot();
                slot.job = Some(job);
                slot.asker = Some(std::thread::current());
                drop(slot);
                desk.state.store(ASKED, Ordering::Release);
                thread.thread().unpark();
            }
        }
        let mut first = lead
            .map_or(Ok(()), |job| guarded(&mut self.lead, job))
            .map_err(|problem| problem.of(0));
        // Whoever waits has been as long at work as the lead.
        let deadline = Instant::now() + self.patience;
        for (i, (desk, _)) in self.desks.iter().enumerate() {
            let came = Self::await_done(desk, deadline);
            let result = if came {
                let result = std::mem::replace(&mut desk.slot().result, Ok(()));
                desk.state.store(IDLE, Ordering::Relaxed);
                result.map_err(|problem| problem.of(i + 1))
            } else {
                Err(Failure::Late(i + 1))
            };
            first = match (first, result) {
                (Ok(()), result) => result,
                // One that is still at work outweighs what others report: nothing can go on.
                (Err(_), Err(late @ Failure::Late(_))) => Err(late),
                (first, _) => first,
            };
        }
        first
    }

    /// Waits until a worker that was asked is done; true at once if it was not asked.
    fn await_done(desk: &Desk<W>, deadline: Instant) -> bool {
        let mut wait = Wait::default();
        loop {
            if desk.state.load(Ordering::Acquire) != ASKED {
                return true;
            }
            if wait.is_short() {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return desk.state.load(Ordering::Acquire) != ASKED;
            }
            std::thread::park_timeout(left);
        }
    }

    /// Does something with every worker. None may be at work.
    pub(crate) fn each<R>(&mut self, mut what: impl FnMut(&mut W) -> R) -> Vec<R> {
        let mut all = vec![what(&mut self.lead)];
        all.extend(
            self.desks
                .iter()
                .map(|(desk, _)| what(&mut desk.slot().worker)),
        );
        all
    }

    /// Looks at every worker. None may be at work.
    pub(crate) fn look<R>(&self, what: impl Fn(&W) -> R) -> Vec<R> {
        let mut all = vec![what(&self.lead)];
        all.extend(self.desks.iter().map(|(desk, _)| what(&desk.slot().worker)));
        all
    }
}

impl<W: Work> Drop for Crew<W> {
    fn drop(&mut self) {
        for (desk, thread) in &self.desks {
            desk.stop.store(true, Ordering::Release);
            thread.thread().unpark();
        }
        for (desk, thread) in self.desks.drain(..) {
            // One that never came back is not waited for.
            if desk.state.load(Ordering::Acquire) != ASKED {
                let _ = thread.join();
            }
        }
    }
}

/// How long somebody has been waiting.
#[derive(Default)]
struct Wait {
    rounds: u32,
}

impl Wait {
    /// Passes a moment; false when it has been so long that the thread should sleep.
    fn is_short(&mut self) -> bool {
        /// Some 5 microseconds: what it takes if everybody has a processor.
        const SPINS: u32 = 200;
        /// Some 20 more, in which others may have the processor.
        const YIELDS: u32 = 50;
        self.rounds = self.rounds.saturating_add(1);
        match self.rounds {
            0..=SPINS => std::hint::spin_loop(),
            _ => std::thread::yield_now(),
        }
        self.rounds <= SPINS + YIELDS
    }
}

/// A worker's life on its thread.
fn attend<W: Work>(desk: &Desk<W>) {
    let mut wait = Wait::default();
    while !desk.stop.load(Ordering::Acquire) {
        if desk.state.load(Ordering::Acquire) != ASKED {
            if !wait.is_short() {
                std::thread::park();
            }
            continue;
        }
        wait = Wait::default();
        let mut slot = desk.slot();
        let job = slot.job.take();
        slot.result = job.map_or(Ok(()), |job| guarded(&mut slot.worker, job));
        let asker = slot.asker.take();
        drop(slot);
        desk.state.store(DONE, Ordering::Release);
        if let Some(asker) = asker {
            asker.unpark();
        }
    }
}

/// Does a job and contains its panic.
fn guarded<W: Work>(worker: &mut W, job: W::Job) -> Result<(), Problem<W::Error>> {
    match catch_unwind(AssertUnwindSafe(|| worker.work(job))) {
        Ok(result) => result.map_err(Problem::Failed),
        Err(panic) => Err(Problem::Panicked(words(&*panic))),
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds to its own sum; 13 fails, 99 panics, anything above 1000 takes that many milliseconds.
    struct Adder(u64);

    impl Work for Adder {
        type Job = u64;
        type Error = u64;

        fn work(&mut self, job: u64) -> Result<(), u64> {
            assert!(job != 99, "told to");
            if job == 13 {
                return Err(13);
            }
            if job > 1000 {
                std::thread::sleep(Duration::from_millis(job - 1000));
            }
            self.0 += job;
            Ok(())
        }
    }

    fn crew(n: usize, patience: Duration) -> Crew<Adder> {
        Crew::new(Adder(0), (1..n).map(|_| Adder(0)).collect(), patience).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn everybody_does_each_job_once() {
        for n in [1, 2, 3, 7] {
            let mut crew = crew(n, LONG);
            for round in 1..=300 {
                let jobs = |worker: usize| (round % 5 != worker as u64).then_some(2 * round);
                assert_eq!(crew.run(jobs), Ok(()));
            }
            let expected = |worker: u64| 2 * (1..=300).filter(|r| r % 5 != worker).sum::<u64>();
            let sums = crew.look(|adder| adder.0);
            assert_eq!(sums, (0..n as u64).map(expected).collect::<Vec<_>>());
        }
    }

    #[test]
    fn workers_wake_up_even_if_they_slept() {
        let mut crew = crew(2, LONG);
        for pause in [0, 1, 30] {
            std::thread::sleep(Duration::from_millis(pause));
            assert_eq!(crew.run(|_| Some(1)), Ok(()));
        }
    }

    #[test]
    fn all_finish_before_the_first_failure_is_reported() {
        let mut crew = crew(4, LONG);
        let jobs = [1030, 13, 99, 1030];
        assert_eq!(crew.run(|w| Some(jobs[w])), Err(Failure::Failed(1, 13)));
        assert_eq!(crew.look(|adder| adder.0), [1030, 0, 0, 1030]);
        let jobs = [99, 13, 5, 5];
        let told = Failure::Panicked(0, "told to".to_owned());
        assert_eq!(crew.run(|w| Some(jobs[w])), Err(told));
        assert_eq!(crew.run(|_| Some(2)), Ok(()));
        assert_eq!(crew.look(|adder| adder.0), [1032, 2, 7, 1037]);
    }

    #[test]
    fn one_that_does_not_come_back_is_left_behind() {
        let start = Instant::now();
        let mut crew = crew(3, Duration::from_millis(50));
        // Being late outweighs an error.
        let jobs = [13, 4000, 5];
        assert_eq!(crew.run(|w| Some(jobs[w])), Err(Failure::Late(1)));
        drop(crew);
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

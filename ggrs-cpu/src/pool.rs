//! Threads that run one job together: a fork-join of very low latency. They must not know what the job is.
//!
//! The calling thread takes part. The others spin for a moment between jobs, then sleep. A job that panics is contained
//! and reported, and the pool stays usable.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// What all threads call with their number.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// A job panicked on at least one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// The threads.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// A value that no neighbour shares a cache line with.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

struct Shared {
    /// Counts jobs; moves on when one is ready.
    job_number: Apart<AtomicUsize>,
    /// Workers that have not finished the current job.
    running: Apart<AtomicUsize>,
    panicked: AtomicBool,
    stop: AtomicBool,
    /// The current job; written by the caller while no worker runs, read by workers after `job_number` moved.
    job: UnsafeCell<Option<*const Job<'static>>>,
}

// SAFETY: `job` is written only while `running` is 0 and before `job_number` is released, read only after it is acquired;
// what it points at is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `n_threads` threads, the caller included; at least 1.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn new(n_threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            job_number: Apart::default(),
            running: Apart::default(),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            job: UnsafeCell::new(None),
        });
        let mut pool = Self {
            shared,
            workers: Vec::new(),
        };
        for thread in 1..n_threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("ggrs-cpu-{thread}"));
            pool.workers
                .push(builder.spawn(move || work(&shared, thread))?);
        }
        Ok(pool)
    }

    /// Threads, the caller included.
    pub(crate) fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job` once on every thread, with the thread's number, and waits for all.
    ///
    /// # Errors
    /// The job panicked.
    pub(crate) fn run(&mut self, job: &Job<'_>) -> Result<(), Panicked> {
        if self.workers.is_empty() {
            return catch_unwind(AssertUnwindSafe(|| job(0))).map_err(|_| Panicked);
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; no worker uses the job after `running` is back at 0, which is waited for below.
        let job_ptr: *const Job<'static> = unsafe { std::mem::transmute(std::ptr::from_ref(job)) };
        // SAFETY: `&mut self` and `running` at 0: nobody reads the cell now.
        unsafe { *shared.job.get() = Some(job_ptr) };
        shared
            .running
            .0
            .store(self.workers.len(), Ordering::Relaxed);
        shared.job_number.0.fetch_add(1, Ordering::Release);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        let mine = catch_unwind(AssertUnwindSafe(|| job(0)));
        spin_until(|| shared.running.0.load(Ordering::Acquire) == 0);
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        if mine.is_err() || panicked {
            Err(Panicked)
        } else {
            Ok(())
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.job_number.0.fetch_add(1, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker contains the panics of its jobs; there is nothing to report.
            let _ = worker.join();
        }
    }
}

fn work(shared: &Shared, thread: usize) {
    /// About 50 microseconds between jobs before a worker sleeps.
    const SPINS: usize = 2000;
    let mut seen = 0;
    loop {
        let mut spins = 0;
        let number = loop {
            let number = shared.job_number.0.load(Ordering::Acquire);
            if number != seen {
                break number;
            }
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::park();
            }
        };
        seen = number;
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: the job was written before `job_number` moved, and stays until `running` is back at 0.
        let job = unsafe { *shared.job.get() };
        if let Some(job) = job {
            // SAFETY: as above: `Pool::run` keeps the job alive until this worker has counted itself out.
            let job = unsafe { &*job };
            if catch_unwind(AssertUnwindSafe(|| job(thread))).is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
        }
        shared.running.0.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for something that is almost there; gives the processor away if it is not, because the thread that is waited for
/// may need it.
fn spin_until(done: impl Fn() -> bool) {
    const SPINS: usize = 4000;
    let mut spins = 0;
    while !done() {
        if spins < SPINS {
            spins += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// Where the threads of a job wait for each other.
pub(crate) struct Barrier {
    n_threads: usize,
    arrived: Apart<AtomicUsize>,
    passed: Apart<AtomicUsize>,
}

impl Barrier {
    /// For `n_threads` threads.
    pub(crate) fn new(n_threads: usize) -> Self {
        Self {
            n_threads,
            arrived: Apart::default(),
            passed: Apart::default(),
        }
    }

    /// Waits for all threads; the last one calls `last` before any goes on.
    pub(crate) fn wait(&self, last: impl FnOnce()) {
        if self.n_threads == 1 {
            return last();
        }
        let passed = self.passed.0.load(Ordering::Relaxed);
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == self.n_threads {
            last();
            self.arrived.0.store(0, Ordering::Relaxed);
            self.passed
                .0
                .store(passed.wrapping_add(1), Ordering::Release);
        } else {
            spin_until(|| self.passed.0.load(Ordering::Acquire) != passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_every_job_once() {
        for n_threads in [1, 2, 3, 5] {
            let mut pool = Pool::new(n_threads).unwrap();
            assert_eq!(pool.n_threads(), n_threads);
            for _ in 0..200 {
                let seen: Vec<AtomicUsize> = (0..n_threads).map(|_| AtomicUsize::new(0)).collect();
                pool.run(&|thread| {
                    seen[thread].fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
                assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_panic_is_contained_and_the_pool_goes_on() {
        for culprit in [0, 2] {
            let mut pool = Pool::new(3).unwrap();
            assert_eq!(
                pool.run(&|thread| assert!(thread != culprit, "on purpose")),
                Err(Panicked)
            );
            assert_eq!(pool.run(&|_| ()), Ok(()));
        }
    }

    #[test]
    fn nobody_passes_a_barrier_early() {
        let n_threads = 4;
        let mut pool = Pool::new(n_threads).unwrap();
        let barrier = Barrier::new(n_threads);
        let (sum, checked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        pool.run(&|_| {
            for round in 1..=100 {
                sum.fetch_add(1, Ordering::Relaxed);
                barrier.wait(|| {
                    checked.fetch_add(
                        usize::from(sum.load(Ordering::Relaxed) == round * n_threads),
                        Ordering::Relaxed,
                    );
                });
            }
        })
        .unwrap();
        assert_eq!(checked.load(Ordering::Relaxed), 100);
    }
}

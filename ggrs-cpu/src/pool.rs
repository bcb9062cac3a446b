//! Threads that share one job at a time: a fork-join of very low latency. They must not know what the job is.
//!
//! The calling thread does the job; the others join in while it is open. Whoever comes too late is not waited for, so a
//! processor that the system gives to somebody else costs its help and nothing more. Helpers spin for a moment between
//! jobs, then sleep. A job that panics is contained and reported, and the pool stays usable.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// What threads call with their number: 0 is the caller's. It divides its work by itself.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// A job panicked on at least one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// The threads.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

/// A value that no neighbour shares a cache line with.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// The gate's word: helpers inside (low bits), whether it is open, the number of the job (high bits).
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const NEXT_JOB: u64 = 1 << 32;

struct Shared {
    /// Helpers enter a job by counting themselves in while it is open, and leave by counting themselves out.
    gate: Apart<AtomicU64>,
    /// Helpers that sleep, or are about to.
    sleepers: Apart<AtomicUsize>,
    panicked: AtomicBool,
    stop: AtomicBool,
    /// The current job; written while the gate is closed and nobody is inside, read by those inside.
    job: UnsafeCell<Option<*const Job<'static>>>,
}

// SAFETY: `job` is written only while the gate keeps everybody out, and read only by helpers that the gate let in; what
// it points at is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of the calling thread alone.
    pub(crate) fn alone() -> Self {
        let shared = Arc::new(Shared {
            gate: Apart::default(),
            sleepers: Apart::default(),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            job: UnsafeCell::new(None),
        });
        Self {
            shared,
            helpers: Vec::new(),
        }
    }

    /// A pool of `n_threads` threads, the caller included; at least 1.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn new(n_threads: usize) -> std::io::Result<Self> {
        let mut pool = Self::alone();
        for thread in 1..n_threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("ggrs-cpu-{thread}"));
            pool.helpers
                .push(builder.spawn(move || help(&shared, thread))?);
        }
        Ok(pool)
    }

    /// Threads, the caller included.
    pub(crate) fn n_threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `job` on this thread and on helpers that come while it runs, each at most once. When it returns, nobody is
    /// in the job any more. The job's call on this thread must leave nothing undone but what helpers have taken.
    ///
    /// # Errors
    /// The job panicked.
    pub(crate) fn run(&mut self, job: &Job<'_>) -> Result<(), Panicked> {
        let alone = self.helpers.is_empty();
        if !alone {
            self.open(job);
        }
        let mine = catch_unwind(AssertUnwindSafe(|| job(0)));
        if !alone {
            self.close();
        }
        let theirs = self.shared.panicked.swap(false, Ordering::Relaxed);
        if mine.is_err() || theirs {
            Err(Panicked)
        } else {
            Ok(())
        }
    }

    /// Lets helpers into a job. It must be closed before the job ends.
    fn open(&mut self, job: &Job<'_>) {
        // SAFETY: only the lifetime changes; nobody uses the job after `close`, which `run` always reaches.
        let job: *const Job<'static> = unsafe { std::mem::transmute(std::ptr::from_ref(job)) };
        // SAFETY: the gate is closed and nobody is inside.
        unsafe { *self.shared.job.get() = Some(job) };
        let closed = self.shared.gate.0.load(Ordering::Relaxed);
        self.shared
            .gate
            .0
            .store(closed.wrapping_add(NEXT_JOB) | OPEN, Ordering::SeqCst);
        // A helper says that it sleeps before it looks at the gate for the last time.
        if self.shared.sleepers.0.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    /// Lets nobody in any more, and waits for those inside.
    fn close(&mut self) {
        /// A helper inside is nearly done, unless the system took its processor away.
        const SPINS: usize = 4000;
        let gate = &self.shared.gate.0;
        let mut inside = gate.fetch_and(!OPEN, Ordering::AcqRel) & INSIDE;
        let mut spins = 0;
        while inside > 0 {
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
            inside = gate.load(Ordering::Acquire) & INSIDE;
        }
    }

    fn wake(&self) {
        for helper in &self.helpers {
            helper.thread().unpark();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake();
        for helper in self.helpers.drain(..) {
            // A helper contains the panics of its jobs; there is nothing to report.
            let _ = helper.join();
        }
    }
}

/// A helper's life.
fn help(shared: &Shared, thread: usize) {
    let mut last_job = 0;
    while enter(shared, &mut last_job) {
        // SAFETY: this thread is inside: the job was written before the gate opened and stays until all have left.
        let job = unsafe { (*shared.job.get()).map(|job| &*job) };
        if let Some(job) = job
            && catch_unwind(AssertUnwindSafe(|| job(thread))).is_err()
        {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.gate.0.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for an open job that this helper was not in, and enters it. False if the pool ends.
fn enter(shared: &Shared, last_job: &mut u64) -> bool {
    /// Between jobs, before a helper sleeps: some 100 microseconds.
    const SPINS: usize = 5000;
    let mut spins = 0;
    loop {
        if try_enter(shared, last_job) {
            return true;
        }
        if shared.stop.load(Ordering::Relaxed) {
            return false;
        }
        if spins < SPINS {
            spins += 1;
            std::hint::spin_loop();
            continue;
        }
        spins = 0;
        shared.sleepers.0.fetch_add(1, Ordering::SeqCst);
        let entered = try_enter(shared, last_job);
        if !entered && !shared.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        shared.sleepers.0.fetch_sub(1, Ordering::SeqCst);
        if entered {
            return true;
        }
    }
}

fn try_enter(shared: &Shared, last_job: &mut u64) -> bool {
    let gate = &shared.gate.0;
    let mut word = gate.load(Ordering::SeqCst);
    while word & OPEN != 0 && word / NEXT_JOB != *last_job {
        match gate.compare_exchange_weak(word, word + 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => {
                *last_job = word / NEXT_JOB;
                return true;
            }
            Err(now) => word = now,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does units of work until none are left.
    fn share(next: &AtomicUsize, n: usize, mut unit: impl FnMut(usize)) {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= n {
                return;
            }
            unit(i);
        }
    }

    #[test]
    fn every_unit_is_done_once_and_before_the_run_ends() {
        for n_threads in [1, 2, 3, 5] {
            let mut pool = Pool::new(n_threads).unwrap();
            assert_eq!(pool.n_threads(), n_threads);
            for round in 0..300 {
                let next = AtomicUsize::new(0);
                let units: Vec<AtomicUsize> =
                    (0..round % 40).map(|_| AtomicUsize::new(0)).collect();
                pool.run(&|thread| {
                    assert!(thread < n_threads);
                    share(&next, units.len(), |i| {
                        units[i].fetch_add(1, Ordering::Relaxed);
                    });
                })
                .unwrap();
                assert!(units.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn helpers_come_even_if_they_slept() {
        let mut pool = Pool::new(2).unwrap();
        for pause in [0, 1, 20] {
            std::thread::sleep(std::time::Duration::from_millis(pause));
            let helped = AtomicBool::new(false);
            pool.run(&|thread| {
                if thread == 1 {
                    helped.store(true, Ordering::Release);
                }
                // The caller works until a helper has come.
                while !helped.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            })
            .unwrap();
        }
    }

    #[test]
    fn a_panic_is_contained_and_the_pool_goes_on() {
        let mut pool = Pool::new(3).unwrap();
        for culprit in [0, 2] {
            let came = AtomicBool::new(false);
            let run = pool.run(&|thread| {
                came.fetch_or(thread == culprit, Ordering::AcqRel);
                assert!(thread != culprit, "on purpose");
                while thread == 0 && !came.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            });
            assert_eq!(run, Err(Panicked));
            assert_eq!(pool.run(&|_| ()), Ok(()));
        }
    }
}

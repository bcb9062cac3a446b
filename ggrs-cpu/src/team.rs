//! A whole run on all threads: every thread walks the same list of kernels, with a barrier after each phase.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ggrs_core::error::Fault;

use crate::kernel::Kernel;
use crate::part::Part;
use crate::pool::{Apart, Barrier, Pool};

/// A fault and the position of its kernel in the list.
pub(crate) type Failure = (usize, Fault);

/// What the threads of a run share.
struct Team {
    barrier: Barrier,
    /// Units given out in the current phase.
    next: Apart<AtomicUsize>,
    failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
    /// Set at a barrier, so that all threads stop at the same one.
    stop: AtomicBool,
}

/// Runs kernels one after the other on all threads of the pool.
///
/// # Errors
/// The fault that ended the run. If several threads found one in the same phase, that of the lowest row.
pub(crate) fn run(pool: &mut Pool, kernels: &[Box<dyn Kernel>]) -> Result<(), Failure> {
    let n_threads = pool.n_threads();
    let team = Team {
        barrier: Barrier::new(n_threads),
        next: Apart::default(),
        failed: AtomicBool::new(false),
        failure: Mutex::new(None),
        stop: AtomicBool::new(false),
    };
    let ran = pool.run(&|thread| team.walk(thread, n_threads, kernels));
    match team
        .failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        Some(failure) => Err(failure),
        None => ran.map_err(|_| (0, Fault::Panicked)),
    }
}

impl Team {
    fn walk(&self, thread: usize, n_threads: usize, kernels: &[Box<dyn Kernel>]) {
        for (position, kernel) in kernels.iter().enumerate() {
            for phase in 0..kernel.phases() {
                let mut part = Part::new(thread, n_threads, &self.next.0);
                let result = catch_unwind(AssertUnwindSafe(|| kernel.run(phase, &mut part)));
                if let Err(fault) = result.unwrap_or(Err(Fault::Panicked)) {
                    self.fail(position, fault);
                }
                self.barrier.wait(|| {
                    self.next.0.store(0, Ordering::Relaxed);
                    self.stop
                        .store(self.failed.load(Ordering::Acquire), Ordering::Relaxed);
                });
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }

    fn fail(&self, position: usize, fault: Fault) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let first = failure
            .as_ref()
            .is_none_or(|(_, known)| row(&fault) < row(known));
        if first {
            *failure = Some((position, fault));
        }
        self.failed.store(true, Ordering::Release);
    }
}

fn row(fault: &Fault) -> usize {
    match fault {
        Fault::IndexOutOfRange { row, .. } | Fault::NotANumber { row, .. } => *row,
        _ => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts its phases; faults or panics on one thread in one of them.
    struct Probe<'a> {
        count: &'a AtomicUsize,
        trouble: Option<(usize, Fault)>,
    }

    impl Kernel for Probe<'_> {
        fn phases(&self) -> usize {
            3
        }

        fn run(&self, phase: usize, part: &mut Part<'_>) -> Result<(), Fault> {
            let mut chunks = part.work.chunks(5, 2);
            while let Some(share) = chunks.next() {
                self.count.fetch_add(share.units().len(), Ordering::Relaxed);
                match self.trouble {
                    Some((at, Fault::Panicked)) if at == phase && share.units().start == 0 => {
                        panic!("on purpose")
                    }
                    Some((at, fault)) if at == phase && share.units().start == 0 => {
                        return Err(fault);
                    }
                    _ => (),
                }
            }
            Ok(())
        }
    }

    fn run_two(pool: &mut Pool, trouble: Option<(usize, Fault)>) -> (Result<(), Failure>, usize) {
        let count: &'static AtomicUsize = Box::leak(Box::default());
        let kernels: Vec<Box<dyn Kernel>> = vec![
            Box::new(Probe {
                count,
                trouble: None,
            }),
            Box::new(Probe { count, trouble }),
        ];
        (run(pool, &kernels), count.load(Ordering::Relaxed))
    }

    #[test]
    fn all_units_of_all_phases_run() {
        for n_threads in 1..4 {
            let mut pool = Pool::new(n_threads).unwrap();
            assert_eq!(run_two(&mut pool, None), (Ok(()), 30));
        }
    }

    #[test]
    fn faults_and_panics_end_the_run_and_nothing_else() {
        for n_threads in 1..4 {
            let mut pool = Pool::new(n_threads).unwrap();
            for fault in [Fault::Panicked, Fault::NotANumber { role: "x", row: 3 }] {
                let (result, count) = run_two(&mut pool, Some((1, fault)));
                assert_eq!(result, Err((1, fault)));
                assert!(
                    count <= 25,
                    "the phase after the fault did not run: {count}"
                );
            }
            assert_eq!(run_two(&mut pool, None).0, Ok(()));
        }
    }
}

//! A whole run: kernels one after the other, each phase shared by the threads of the pool, or done by one if it is small.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

use ggrs_core::error::Fault;

use crate::kernel::Kernel;
use crate::part::Part;
use crate::pool::{Apart, Pool};

/// A kernel in the list of a run.
pub(crate) struct Launch {
    pub(crate) kernel: Box<dyn Kernel>,
    /// Is all of it too small to be shared?
    pub(crate) is_small: bool,
}

/// Runs kernels one after the other on the threads of the pool.
///
/// # Errors
/// The fault that ended the run, and the position of its kernel in the list. If several threads found one in the same
/// phase, that of the lowest row.
pub(crate) fn run(pool: &mut Pool, launches: &[Launch]) -> Result<(), (usize, Fault)> {
    for (position, launch) in launches.iter().enumerate() {
        let kernel = &*launch.kernel;
        for phase in 0..kernel.phases() {
            let ran = if pool.n_threads() == 1 || launch.is_small || kernel.is_serial(phase) {
                run_alone(kernel, phase)
            } else {
                run_shared(pool, kernel, phase)
            };
            ran.map_err(|fault| (position, fault))?;
        }
    }
    Ok(())
}

/// One thread does the phase.
fn run_alone(kernel: &dyn Kernel, phase: usize) -> Result<(), Fault> {
    let next = AtomicUsize::new(0);
    let mut part = Part::new(0, 1, &next);
    let result = catch_unwind(AssertUnwindSafe(|| kernel.run(phase, &mut part)));
    result.unwrap_or(Err(Fault::Panicked))
}

/// All threads that come share the phase.
fn run_shared(pool: &mut Pool, kernel: &dyn Kernel, phase: usize) -> Result<(), Fault> {
    let n_threads = pool.n_threads();
    let next = Apart(AtomicUsize::new(0));
    let found: Mutex<Option<Fault>> = Mutex::new(None);
    let ran = pool.run(&|thread| {
        loop {
            let mut part = Part::new(thread, n_threads, &next.0);
            if let Err(fault) = kernel.run(phase, &mut part) {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                if found.as_ref().is_none_or(|known| row(&fault) < row(known)) {
                    *found = Some(fault);
                }
            }
            // The shares of threads that have not come.
            if !part.work.has_more() {
                return;
            }
        }
    });
    ran.map_err(|_| Fault::Panicked)?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.map_or(Ok(()), Err)
}

fn row(fault: &Fault) -> usize {
    match fault {
        Fault::IndexOutOfRange { row, .. } | Fault::NotANumber { row, .. } => *row,
        _ => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    /// How a probe divides its phases.
    #[derive(Clone, Copy, Debug)]
    enum Way {
        Even,
        Chunks,
        Alone,
    }

    /// Counts its units; faults or panics in one of its phases.
    struct Probe {
        count: &'static AtomicUsize,
        trouble: Option<(usize, Fault)>,
        serial: Option<usize>,
        way: Way,
    }

    impl Probe {
        fn count(&self, phase: usize, units: std::ops::Range<usize>) -> Result<(), Fault> {
            self.count.fetch_add(units.len(), Ordering::Relaxed);
            match self.trouble {
                Some((at, fault)) if at == phase && units.contains(&0) => match fault {
                    Fault::Panicked => panic!("on purpose"),
                    fault => Err(fault),
                },
                _ => Ok(()),
            }
        }
    }

    impl Kernel for Probe {
        fn phases(&self) -> usize {
            3
        }

        fn is_serial(&self, phase: usize) -> bool {
            self.serial == Some(phase)
        }

        fn run(&self, phase: usize, part: &mut Part<'_>) -> Result<(), Fault> {
            assert!(!self.is_serial(phase) || part.work.n_threads() == 1);
            match self.way {
                Way::Even => self.count(phase, part.work.even(5).units()),
                Way::Alone => self.count(phase, part.work.alone(5).units()),
                Way::Chunks => {
                    let mut chunks = part.work.chunks(5, 2);
                    while let Some(share) = chunks.next() {
                        self.count(phase, share.units())?;
                    }
                    Ok(())
                }
            }
        }
    }

    /// Runs four kernels, the second with trouble; gives the result and the units that ran.
    fn run_four(
        pool: &mut Pool,
        way: Way,
        trouble: Option<(usize, Fault)>,
        (serial, is_small): (Option<usize>, bool),
    ) -> (Result<(), (usize, Fault)>, usize) {
        let count: &'static AtomicUsize = Box::leak(Box::default());
        let launches: Vec<Launch> = (0..4)
            .map(|i| Launch {
                kernel: Box::new(Probe {
                    count,
                    trouble: trouble.filter(|_| i == 1),
                    serial,
                    way,
                }),
                is_small: is_small && i % 2 == 1,
            })
            .collect();
        (run(pool, &launches), count.load(Ordering::Relaxed))
    }

    const WAYS: [Way; 3] = [Way::Even, Way::Chunks, Way::Alone];

    /// Every way to mix shared and serial phases.
    const MIXES: [(Option<usize>, bool); 4] = [
        (None, false),
        (Some(0), false),
        (Some(2), true),
        (None, true),
    ];

    #[test]
    fn all_units_of_all_phases_run() {
        for n_threads in 1..4 {
            let mut pool = Pool::new(n_threads).unwrap();
            for (way, mix) in WAYS.iter().flat_map(|way| MIXES.map(|mix| (*way, mix))) {
                for _ in 0..50 {
                    assert_eq!(run_four(&mut pool, way, None, mix), (Ok(()), 60), "{way:?}");
                }
            }
        }
    }

    #[test]
    fn faults_and_panics_end_the_run_and_nothing_else() {
        for n_threads in 1..4 {
            let mut pool = Pool::new(n_threads).unwrap();
            for (way, mix) in WAYS.iter().flat_map(|way| MIXES.map(|mix| (*way, mix))) {
                for fault in [Fault::Panicked, Fault::NotANumber { role: "x", row: 3 }] {
                    for phase in 0..3 {
                        let (result, count) = run_four(&mut pool, way, Some((phase, fault)), mix);
                        assert_eq!(result, Err((1, fault)));
                        let whole = 15 + 5 * (phase + 1);
                        assert!(count <= whole, "behind the fault: {count} of {whole}");
                    }
                }
                assert_eq!(run_four(&mut pool, way, None, mix).0, Ok(()));
            }
        }
    }
}

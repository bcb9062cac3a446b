//! Where a step's time goes, as a table on stderr: the results on stdout stay as they are.

use ggrs_core::device::KernelTime;

use super::timing::Test;
use crate::console::Console;

/// Prints the kernels of one device, the slowest first.
pub(super) fn print(test: Test, device: &str, times: &[KernelTime], console: &Console) {
    if times.is_empty() {
        console.note(format!(
            "{device} cannot tell where the time of {test} goes"
        ));
        return;
    }
    let total: f64 = times.iter().map(|t| t.seconds).sum();
    let n_launches: usize = times.iter().map(|t| t.n_launches).sum();
    console.note(format!(
        "{test}, one step on {device}: {:.1} us in {n_launches} launches, each kernel on its own",
        total * 1e6
    ));
    console.note("     us  share  us each  times  launches  kernel");
    for t in times {
        console.note(format!(
            "{:7.1} {:5.1}% {:8.2} {:6} {:9}  {}",
            t.seconds * 1e6,
            100.0 * t.seconds / total,
            t.seconds * 1e6 / t.n_times as f64,
            t.n_times,
            t.n_launches,
            t.kernel
        ));
    }
}

//! `ggrs kernels`: compiles all kernels of a GPU's architecture before they are needed, in several processes.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use ggrs_cuda::simt::{Ahead, compile_ahead, kernel_pack};
use ggrs_cuda::{CudaBackend, Nvrtc};

use crate::console::Console;
use crate::error::CliError;

/// Compile all kernels of a GPU into the cache, so that the first run need not
///
/// Kernels are compiled when a model first needs them, one by one, and kept in GGRS_KERNEL_CACHE (or the user's cache
/// folder). This does it for all of them at once, on all processors. No GPU is needed if the architecture is given.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The architecture, as the compiler names it: sm_90a [default: that of cuda:0]
    #[arg(long)]
    arch: Option<String>,
    /// Processes [default: one for each processor]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// Also write a pack of them, to be embedded in a build with the feature `kernel-pack`
    #[arg(long, value_name = "FILE")]
    pack: Option<PathBuf>,
    /// What one of the processes does: part I of N
    #[arg(long, hide = true, num_args = 2, value_names = ["I", "N"])]
    part: Option<Vec<usize>>,
}

pub(crate) fn run(args: &Args, console: &mut Console) -> Result<(), CliError> {
    let arch = match &args.arch {
        Some(arch) => arch.clone(),
        None => {
            let driver = CudaBackend::from_env().driver(&"cuda:0".parse()?)?;
            driver.facts().arch.clone()
        }
    };
    if let Some([part, of]) = args.part.as_deref() {
        return compile(&arch, (*part, *of), console);
    }
    let start = Instant::now();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(processors, |n| n as usize);
    let started = (0..jobs).map(|i| start_part(&arch, i, jobs));
    let started = started.collect::<Result<Vec<Child>, io::Error>>();
    let children = started.map_err(|source| CliError::Process { source })?;
    for child in children {
        let done = child.wait_with_output();
        let done = done.map_err(|source| CliError::Process { source })?;
        for line in String::from_utf8_lossy(&done.stdout).lines() {
            console.line(line)?;
        }
        if !done.status.success() {
            let error = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            return Err(CliError::Kernels { arch, error });
        }
    }
    if let Some(path) = &args.pack {
        let pack = kernel_pack(&Nvrtc::from_env(), &arch)?;
        std::fs::write(path, pack).map_err(|source| CliError::Write {
            path: path.clone(),
            source,
        })?;
    }
    let seconds = start.elapsed().as_secs_f64();
    console.note(format!(
        "all kernels for {arch} are ready, {seconds:.1} s with {jobs} processes"
    ));
    Ok(())
}

/// One process with its part.
fn start_part(arch: &str, part: usize, of: usize) -> Result<Child, io::Error> {
    Command::new(std::env::current_exe()?)
        .args(["kernels", "--arch", arch, "--part"])
        .args([part.to_string(), of.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn compile(arch: &str, part: (usize, usize), console: &mut Console) -> Result<(), CliError> {
    let mut lines = Vec::new();
    compile_ahead(&Nvrtc::from_env(), arch, part, &mut |key, ahead| {
        lines.push(match ahead {
            Ahead::Kept => format!("{key}: in the cache"),
            Ahead::Compiled(_) => format!("{key}: compiled"),
        });
    })?;
    lines.into_iter().try_for_each(|line| console.line(line))
}

//! Every kernel module compiled by NVRTC for every kind of device, with limits on what kernels may take. Takes minutes
//! and needs no device: `GGRS_NVRTC_DIR=... cargo test -p ggrs-cuda --test compile_all -- --ignored`.
//!
//! NVRTC compiles one thing at a time in a process, so that the work is shared by processes of this same test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Write as _, stderr, stdout};
use std::process::{Command, Stdio};
use std::time::Instant;

use ggrs_cuda::simt::compile::Compiler as _;
use ggrs_cuda::simt::{ModuleKey, modules, source};
use ggrs_cuda::{Nvrtc, kernel_resources};

/// The kinds of devices, with commas between.
const ARCHS_VARIABLE: &str = "GGRS_CUDA_ARCHS";
const ARCHS: &str = "sm_80,sm_89,sm_90a,sm_100a,sm_120a";

/// Which part of the work a process does: "2/8".
const PART_VARIABLE: &str = "GGRS_CUDA_PART";

/// Static shared memory that a block can have without asking.
const MAX_SHARED_BYTES: u32 = 48 << 10;

/// Begins the lines that a process reports with.
const REPORT: &str = "ggrs-module";

/// This test's name, for running it anew.
const TEST: &str = "every_module_compiles_for_every_kind_of_device";

#[test]
#[ignore = "minutes, and needs NVRTC; .ci/run runs it"]
fn every_module_compiles_for_every_kind_of_device() {
    let chosen = std::env::var(ARCHS_VARIABLE).ok();
    let is_all = chosen.is_none();
    let archs = chosen.unwrap_or_else(|| ARCHS.to_owned());
    let archs: Vec<&str> = archs
        .split(',')
        .map(str::trim)
        .filter(|a| !a.is_empty())
        .collect();
    let modules = modules();
    let jobs: Vec<(&str, &ModuleKey)> = archs
        .iter()
        .flat_map(|arch| modules.iter().map(move |module| (*arch, module)))
        .collect();
    if let Ok(part) = std::env::var(PART_VARIABLE) {
        let (index, n_parts) = part.split_once('/').unwrap();
        let (index, n_parts): (usize, usize) = (index.parse().unwrap(), n_parts.parse().unwrap());
        let nvrtc = Nvrtc::from_env();
        let mine = jobs.iter().skip(index).step_by(n_parts);
        mine.for_each(|(arch, module)| work(&nvrtc, arch, module));
        return;
    }
    if let Err(error) = Nvrtc::from_env().probe() {
        let required = std::env::var("GGRS_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|name| name.trim() == "nvrtc"),
            "{error}"
        );
        // Not a print macro: the harness hides those of tests that pass.
        let _ = writeln!(stderr(), "skipped: {error}");
        return;
    }
    let start = Instant::now();
    let n_parts = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(jobs.len());
    let program = std::env::current_exe().unwrap();
    let processes: Vec<_> = (0..n_parts)
        .map(|index| {
            Command::new(&program)
                .args([TEST, "--exact", "--ignored", "--nocapture"])
                .env(PART_VARIABLE, format!("{index}/{n_parts}"))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut tally: BTreeMap<String, Tally> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut kernels_of: BTreeMap<String, usize> = BTreeMap::new();
    for process in processes {
        let output = process.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "a process of the compiler ended with {}",
            output.status
        );
        let text = String::from_utf8(output.stdout).unwrap();
        for line in text.lines() {
            let Some((_, report)) = line.split_once(REPORT) else {
                continue;
            };
            let fields: Vec<&str> = report.split('\t').skip(1).collect();
            let [arch, module, n_kernels, registers, shared, fault] = fields[..] else {
                panic!("a report that cannot be read: {line}")
            };
            let tally = tally.entry(arch.to_owned()).or_default();
            let n_kernels: usize = n_kernels.parse().unwrap();
            *kernels_of.entry(module.to_owned()).or_default() += n_kernels;
            tally.n_modules += 1;
            tally.n_kernels += n_kernels;
            tally.registers = tally.registers.max(registers.parse().unwrap());
            tally.shared = tally.shared.max(shared.parse().unwrap());
            if !fault.is_empty() {
                faults.push(fault.replace('\u{1}', "\n"));
            }
        }
    }
    if is_all {
        // A module may be for one kind of device and empty for the others.
        let empty = kernels_of.iter().filter(|(_, n)| **n == 0);
        faults.extend(empty.map(|(module, _)| format!("{module} has no kernels for any device")));
    }
    let seconds = start.elapsed().as_secs_f32();
    for (arch, tally) in &tally {
        let Tally {
            n_modules,
            n_kernels,
            registers,
            shared,
        } = tally;
        let _ = writeln!(
            stderr(),
            "{arch}: {n_modules} modules, {n_kernels} kernels, at most {registers} registers and {shared} bytes of shared memory"
        );
    }
    let _ = writeln!(
        stderr(),
        "compiled in {seconds:.1} s by {n_parts} processes"
    );
    assert!(
        faults.is_empty(),
        "{} modules are at fault:\n{}",
        faults.len(),
        faults.join("\n")
    );
    let n_done: usize = tally.values().map(|t| t.n_modules).sum();
    assert_eq!(n_done, jobs.len(), "modules are missing");
}

/// What was compiled for a kind of device.
#[derive(Default)]
struct Tally {
    n_modules: usize,
    n_kernels: usize,
    registers: u32,
    shared: u32,
}

/// Compiles a module and reports it as a line.
fn work(nvrtc: &Nvrtc, arch: &str, module: &ModuleKey) {
    let text = source(module.file).unwrap_or_default();
    let mut faults = Vec::new();
    let mut kernels = Vec::new();
    if text.is_empty() {
        faults.push(format!("there is no file {}", module.file));
    }
    match nvrtc.compile(&module.to_string(), &text, &module.defines, arch) {
        Ok(compiled) => kernels = kernel_resources(&compiled.log),
        Err(error) => faults.push(error.to_string()),
    }
    for kernel in &kernels {
        let (name, spilled, shared) = (&kernel.name, kernel.spilled_bytes, kernel.shared_bytes);
        if spilled > 0 {
            faults.push(format!("{name} spills {spilled} bytes"));
        }
        if shared > MAX_SHARED_BYTES {
            faults.push(format!("{name} has {shared} bytes of static shared memory"));
        }
    }
    let n_kernels = kernels.len();
    let registers = kernels.iter().map(|k| k.registers).max().unwrap_or(0);
    let shared = kernels.iter().map(|k| k.shared_bytes).max().unwrap_or(0);
    let fault = match faults.is_empty() {
        true => String::new(),
        false => format!("{module} for {arch}: {}", faults.join("; ")),
    };
    // One line each: the log's own lines are joined again by the reader.
    let fault = fault.replace('\n', "\u{1}").replace('\t', " ");
    let _ = writeln!(
        stdout(),
        "{REPORT}\t{arch}\t{module}\t{n_kernels}\t{registers}\t{shared}\t{fault}"
    );
}

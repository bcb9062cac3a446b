//! Threads of the CPU: planning starts none, compiling does. Alone in its process, because it counts them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use ggrs_core::device::{Backend as _, Bindings};
use ggrs_core::plan::{PlanOptions, plan};
use ggrs_core::{DType, GraphBuilder};
use ggrs_cpu::isa::Isa;
use ggrs_cpu::{CpuBackend, CpuOptions};

/// Threads of this process that the CPU device started.
fn helpers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.map(|t| std::fs::read_to_string(t.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|name| name.starts_with("ggrs-cpu-")).count()
}

#[test]
fn planning_starts_no_thread() {
    let options = CpuOptions {
        threads: Some(3),
        isa: Isa::best(),
    };
    let cpu = CpuBackend::new(options)
        .open(&"cpu".parse().unwrap())
        .unwrap();
    let mut g = GraphBuilder::new();
    let x = g.input("x", DType::F32, [2, 4]).unwrap();
    let y = g.add(x, x).unwrap();
    g.output("y", y).unwrap();
    let plan = plan(&g.seal().unwrap(), &*cpu, &PlanOptions::default()).unwrap();
    assert_eq!(helpers(), 0);

    let compiled = cpu.compile(&Arc::new(plan), &Bindings::new()).unwrap();
    // A thread is named by itself, a moment after it is started.
    let started = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        helpers() == 2
    });
    assert!(started, "{} helpers", helpers());
    drop((compiled, cpu));
    assert_eq!(helpers(), 0, "they end with the device");
}

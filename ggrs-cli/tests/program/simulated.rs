//! CUDA devices without one: the program on the simulator, as a user would run it on GPUs, and with what goes wrong there.

use ggrs_tests::gpu::simulator_folder;

use crate::process::{Run, program, run};

/// The program with the simulator as its CUDA driver and compiler, and more of the environment; `None` where no C++
/// compiler builds the simulator.
fn simulated(environment: &[(&str, &str)], args: &[&str]) -> Option<Run> {
    let folder = simulator_folder(32)?;
    let mut command = program();
    command
        .env("GGRS_CUDA_DIR", folder)
        .env("GGRS_NVRTC_DIR", folder);
    command.envs(environment.iter().copied()).args(args);
    Some(run(command, b""))
}

#[test]
fn devices_are_listed_and_answer() {
    let Some(listed) = simulated(&[("GGRS_SIM_DEVICES", "3")], &["devices"]) else {
        return;
    };
    for name in ["cuda:0: GGRS simulator", "cuda:1", "cuda:2"] {
        assert!(listed.stdout.contains(name), "{}", listed.stdout);
    }
    let question = "What is 17 + 25?";
    for placement in [
        &["--devices", "cuda:0"][..],
        &["--devices", "cuda:0,cuda:1", "--split", "tensor"],
        &["--devices", "cuda:0,cuda:1", "--split", "layer"],
    ] {
        let args = [&["run"], placement, &[question]].concat();
        let answered = simulated(&[], &args).expect("it was there").succeeded();
        assert_eq!(answered.stdout.trim(), "17 + 25 = 42.");
    }
}

#[test]
fn memory_that_is_not_there_and_kernels_that_fail_are_said() {
    let run = ["run", "--devices", "cuda:0", "hi"];
    let Some(no_memory) = simulated(&[("GGRS_SIM_MEMORY", "6000000")], &run) else {
        return;
    };
    no_memory.failed(1, &["out of memory: weight", "are free"]);
    // The simulator says which kernel before the program does.
    let failed = simulated(&[("GGRS_SIM_FAULT", "launch:40")], &run).expect("it was there");
    assert_eq!(failed.status, 1);
    assert!(
        failed.stderr.contains("cuda:0 was lost"),
        "{}",
        failed.stderr
    );
}

#[test]
fn loading_onto_two_members_is_timed_and_a_step_profiled_with_the_sums_between_them() {
    let args = "bench -p 0 -n 2 -r 1 --bus --profile --devices cuda:0,cuda:1 --split tensor";
    let args: Vec<&str> = args.split(' ').collect();
    // See "How it runs" in the simulator's README.
    let Some(run) = simulated(&[("GGRS_SIM_THREADS", "1")], &args) else {
        return;
    };
    let told = run.succeeded().stderr;
    assert!(
        told.contains(" of weights loaded in ") && told.contains(" % of the bus ("),
        "{told}"
    );
    assert!(told.contains("tg2, one step on cuda:0+cuda:1: "), "{told}");
    let kernels: Vec<Vec<&str>> = told
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let sums = kernels
        .iter()
        .find(|row| row.get(5).is_some_and(|k| k.starts_with("all_reduce/")));
    let sums = sums.unwrap_or_else(|| panic!("no sums in {told}"));
    // A sum after attention and one after the experts of each of the demo model's four layers.
    assert_eq!(sums[3], "8", "{told}");
    assert!(sums[0].parse::<f64>().unwrap() > 0.0, "{told}");
}

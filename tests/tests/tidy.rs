//! Rules of the repository that a compiler does not check: who depends on whom, who may know what, how long a file
//! may be and what it may be called.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file: wished for, and the hard stop. Tests and tables may reach the hard stop.
const BUDGET: usize = 500;
const HARD_STOP: usize = 800;

/// Names that say nothing about a file.
const FORBIDDEN: &[&str] = &[
    "utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "stuff",
];

/// What a program sees.
const FAMILY: &[&str] = &[
    "ggrs-core",
    "ggrs-cpu",
    "ggrs-cuda",
    "ggrs-sched",
    "ggrs-meta",
    "ggrs-model",
];

/// What tests and benches see.
const TESTED: &[&str] = &[
    "ggrs-core",
    "ggrs-cpu",
    "ggrs-cuda",
    "ggrs-simt",
    "ggrs-sched",
    "ggrs-meta",
    "ggrs-model",
    "ggrs",
    "ggrs-tests",
];

/// Which of our packages each may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("ggrs-core", &[]),
    ("ggrs-cpu", &["ggrs-core"]),
    ("ggrs-simt", &["ggrs-core"]),
    ("ggrs-cuda", &["ggrs-core", "ggrs-simt"]),
    ("ggrs-sched", &["ggrs-core"]),
    ("ggrs-meta", &["ggrs-core"]),
    ("ggrs-model", &["ggrs-core", "ggrs-sched", "ggrs-meta"]),
    ("ggrs", FAMILY),
    ("ggrs-cli", FAMILY),
    ("tests", TESTED),
    ("benches", TESTED),
];

/// Libraries that only some files may name: word, where it is allowed.
const CONFINED: &[(&str, &[&str])] = &[
    ("petgraph", &["ggrs-core/src/graph/topo.rs"]),
    ("memmap2", &["ggrs-model/src/gguf/"]),
    ("minijinja", &["ggrs-model/src/chat/"]),
    ("wgpu", &["ggrs-vulkan/"]),
    ("cudarc", &["ggrs-cuda/"]),
    ("libloading", &["ggrs-cuda/src/"]),
    ("libc", &["ggrs-cpu/src/"]),
];

/// What `ggrs-core` must not touch: devices, files, threads, the environment, clocks.
const NOT_IN_CORE: &[&str] = &[
    "std::fs",
    "std::env",
    "std::thread",
    "std::net",
    "std::time",
    "std::process",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ has a parent")
        .to_path_buf()
}

/// Every Rust file of the repository with its path from the root.
fn sources() -> Vec<(String, String)> {
    let (root, mut found) = (root(), Vec::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules"
            {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("a readable source");
                found.push((
                    path.strip_prefix(&root)
                        .expect("below the root")
                        .to_string_lossy()
                        .into_owned(),
                    text,
                ));
            }
        }
    }
    found.sort();
    assert!(found.len() > 100, "the sources were not found");
    found
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path)
        .collect();
    assert!(
        silent.is_empty(),
        "these files do not start with //! and a purpose: {silent:#?}"
    );
}

#[test]
fn files_keep_their_budget_and_have_names() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        let is_test = path.contains("/tests/") || path.starts_with("tests/");
        let limit = if is_test { HARD_STOP } else { BUDGET };
        if lines > limit {
            faults.push(format!("{path}: {lines} lines, budget {limit}"));
        }
        let words = Path::new(&path).with_extension("");
        for word in words.iter().map(|w| w.to_string_lossy()) {
            if FORBIDDEN.contains(&&*word) {
                faults.push(format!("{path}: \"{word}\" says nothing"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Our own packages under `[dependencies]` of a manifest.
fn own_dependencies(manifest: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut own = BTreeSet::new();
    for line in manifest.lines() {
        if let Some(s) = line.strip_prefix('[') {
            section = s.trim_end_matches(']');
        } else if section == "dependencies" && line.starts_with("ggrs") {
            own.extend(line.split(['.', ' ', '=']).next().map(str::to_owned));
        }
    }
    own
}

#[test]
fn packages_depend_only_along_the_arrows() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for (package, allowed) in arrows {
        let folder = if package == "ggrs" {
            String::new()
        } else {
            format!("{package}/")
        };
        let manifest =
            fs::read_to_string(root().join(format!("{folder}Cargo.toml"))).expect("a manifest");
        let own = own_dependencies(&manifest);
        let wrong: Vec<&String> = own
            .iter()
            .filter(|d| !allowed.contains(&d.as_str()))
            .collect();
        assert!(wrong.is_empty(), "{package} may not depend on {wrong:?}");
    }
}

/// Code lines, without comments and doc text.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|l| l.split("//").next().unwrap_or_default())
}

#[test]
fn libraries_stay_behind_their_files() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        if path.starts_with("tests/") || path.contains("/tests/") {
            continue;
        }
        for (word, allowed) in CONFINED {
            let named = code(&text).any(|l| l.contains(&format!("{word}::")));
            if named && !allowed.iter().any(|a| path.starts_with(a)) {
                faults.push(format!("{path} names {word}"));
            }
        }
        if path.starts_with("ggrs-core/src") {
            for word in NOT_IN_CORE {
                if code(&text).any(|l| l.contains(word)) {
                    faults.push(format!("{path} uses {word}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn petgraph_is_in_no_public_signature() {
    let text = fs::read_to_string(root().join("ggrs-core/src/graph/topo.rs")).expect("topo.rs");
    assert!(!code(&text).any(|l| l.trim_start().starts_with("pub ") || l.contains("pub fn ")));
}

/// Where unsafe code may stand. Everything else is safe Rust.
const UNSAFE: &[&str] = &[
    "benches/src/roof.rs",
    "ggrs-cpu/examples/gemm_bench.rs",
    "ggrs-cpu/src/math/",
    "ggrs-cpu/src/gemm/",
    "ggrs-cpu/src/formats/",
    "ggrs-cpu/src/pack/",
    "ggrs-cpu/src/view/",
    "ggrs-cpu/src/part.rs",
    "ggrs-cpu/src/pool.rs",
    "ggrs-cpu/src/team.rs",
    "ggrs-cpu/src/memory.rs",
    "ggrs-cpu/src/isa.rs",
    "ggrs-cuda/src/communicator.rs",
    "ggrs-cuda/src/driver.rs",
    "ggrs-cuda/src/facts.rs",
    "ggrs-cuda/src/graph.rs",
    "ggrs-cuda/src/launch.rs",
    "ggrs-cuda/src/library.rs",
    "ggrs-cuda/src/memory.rs",
    "ggrs-cuda/src/nccl.rs",
    "ggrs-cuda/src/nvrtc.rs",
    "ggrs-cuda/src/probe.rs",
    "ggrs-cuda/src/table.rs",
    "ggrs-model/src/gguf/file_bytes.rs",
    "ggrs-simt/src/bulk.rs",
    "ggrs-simt/src/bus.rs",
    "ggrs-simt/src/communicator.rs",
    "ggrs-simt/src/context.rs",
    "ggrs-simt/src/driver.rs",
    "ggrs-simt/src/executable.rs",
    "ggrs-simt/src/faults.rs",
    "ggrs-simt/src/sums.rs",
    "ggrs-simt/src/track.rs",
];

#[test]
fn unsafe_stands_only_in_named_files() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let is_unsafe = code(&text).any(|l| {
            l.contains("unsafe {") || l.contains("unsafe fn") || l.contains("unsafe impl")
        });
        if is_unsafe && !path.contains("/tests/") && !UNSAFE.iter().any(|a| path.starts_with(a)) {
            faults.push(path);
        }
    }
    assert!(faults.is_empty(), "unsafe code in {faults:#?}");
}

#[test]
fn every_op_is_documented_and_placed() {
    // The op enum lists its variants in one macro call; each names a struct of the same name in one file.
    let all = fs::read_to_string(root().join("ggrs-core/src/ops/mod.rs")).expect("ops/mod.rs");
    let list = all.split("\nops! {").nth(1).expect("the list of ops");
    let ops: Vec<&str> = list
        .lines()
        .map(str::trim)
        .filter(|l| l.ends_with(',') && !l.starts_with("//"))
        .map(|l| l.trim_end_matches(','))
        .collect();
    assert!(ops.len() > 30, "{ops:?}");
    let files: Vec<(String, String)> = sources()
        .into_iter()
        .filter(|(p, _)| p.starts_with("ggrs-core/src/ops/"))
        .collect();
    for op in ops {
        let homes = files
            .iter()
            .filter(|(_, t)| t.contains(&format!("impl OpSpec for {op} ")))
            .count();
        assert_eq!(homes, 1, "{op} must have one file");
    }
}

//! NVRTC itself, where `GGRS_NVRTC_DIR` or the system has it; elsewhere that is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::borrow::Cow;
use std::io::Write as _;

use ggrs_cuda::simt::compile::{CompileError, Compiler as _};
use ggrs_cuda::{Nvrtc, kernel_resources};

const SOURCE: &str =
    "extern \"C\" __global__ void k(float *x) { x[threadIdx.x] = FACTOR * x[threadIdx.x]; }";

fn nvrtc() -> Option<Nvrtc> {
    let nvrtc = Nvrtc::from_env();
    match nvrtc.probe() {
        Ok(()) => Some(nvrtc),
        Err(error) => {
            // Not a print macro: the harness hides those of tests that pass.
            let _ = writeln!(std::io::stderr(), "skipped: {error}");
            None
        }
    }
}

#[test]
fn machine_code_and_a_log() {
    let Some(nvrtc) = nvrtc() else { return };
    assert!(
        nvrtc.version().starts_with("NVRTC 1"),
        "{}",
        nvrtc.version()
    );
    let defines = [("FACTOR", Cow::Borrowed("2.0f"))];
    let compiled = nvrtc.compile("twice", SOURCE, &defines, "sm_90a").unwrap();
    assert!(compiled.image.starts_with(b"\x7fELF"));
    let kernels = kernel_resources(&compiled.log);
    assert_eq!(kernels.len(), 1, "{}", compiled.log);
    assert_eq!(
        (kernels[0].name.as_str(), kernels[0].spilled_bytes),
        ("k", 0)
    );
    assert!(kernels[0].registers > 0);
}

#[test]
fn a_wrong_source_is_told_with_its_log() {
    let Some(nvrtc) = nvrtc() else { return };
    let error = nvrtc.compile("twice", SOURCE, &[], "sm_90a").unwrap_err();
    let CompileError::Source { module, log, .. } = &error else {
        panic!("{error}")
    };
    assert!(
        module == "twice" && log.contains("FACTOR") && log.contains("undefined"),
        "{log}"
    );
}

#[test]
fn an_unknown_target_is_told() {
    let Some(nvrtc) = nvrtc() else { return };
    for arch in ["sm_999", "gfx1100"] {
        let error = nvrtc.compile("twice", SOURCE, &[], arch).unwrap_err();
        assert!(
            matches!(&error, CompileError::Arch { arch: a, .. } if a == arch),
            "{error}"
        );
    }
}

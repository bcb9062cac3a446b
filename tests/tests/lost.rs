//! A kernel that writes where nothing is: the GPU is lost to the process, its sessions say so, and those of other devices
//! go on. On the simulator, or on this machine's first devices if `GGRS_TEST_DEVICE` names a CUDA device: there, the
//! driver may take the other GPUs from the process as well, and their sessions say so.
//!
//! Without a C++ compiler it is told on the terminal; `GGRS_REQUIRE=simulator` makes that a failure. A test program of its
//! own: after it the process has no such device any more.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::Arc;

use ggrs_core::device::{Backend as _, Bindings, Device, Precision, Runner};
use ggrs_core::{DType, DeviceError, ExecError, Graph, GraphBuilder};
use ggrs_cuda::simt::SimtDevice;
use ggrs_cuda::simt::compile::{CompileError, Compiled, Compiler};
use ggrs_cuda::{CudaBackend, Nvrtc};
use ggrs_tests::members::{backend, compiler, floats, is_real, name, planned, runners};
use ggrs_tests::placed::cpu_members;

/// Elements: whole fours.
const N: usize = 64;

/// The compiler, but what it makes of one kernel writes to an address that nobody has.
struct Breaking(Nvrtc);

impl Compiler for Breaking {
    fn version(&self) -> String {
        format!("{}, breaking", self.0.version())
    }

    fn compile(
        &self,
        module: &str,
        source: &str,
        defines: &[(&'static str, Cow<'static, str>)],
        arch: &str,
    ) -> Result<Compiled, CompileError> {
        let sound = "KERNEL(linear_4, MapParams, 256, 4) {";
        assert!(source.contains(sound), "{module} has another text");
        let broken = source.replace(sound, &format!("{sound} *(volatile int*)64 = 1;"));
        self.0.compile(module, &broken, defines, arch)
    }
}

/// `y = 2 x + 1`.
fn line() -> Graph {
    let mut b = GraphBuilder::new();
    let x = b.input("x", DType::F32, [N]).unwrap();
    let y = b.scale(x, 2.0, 1.0).unwrap();
    b.output("y", y).unwrap();
    b.seal().unwrap()
}

/// A session on a device: a plan and its memory.
fn session(device: &Arc<dyn Device>) -> Runner {
    runners(std::slice::from_ref(device), &line(), Precision::Fast).remove(0)
}

/// A step of a session, whose answer is right if there is one.
fn step(session: &mut Runner, seed: f32) -> Result<(), ExecError> {
    let x: Vec<f32> = (0..N).map(|i| seed + i as f32).collect();
    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    session.set("x", &bytes)?;
    session.run()?;
    let y = floats(&session.get("y")?);
    let expected: Vec<f32> = x.iter().map(|x| 2.0 * x + 1.0).collect();
    assert_eq!(y, expected);
    Ok(())
}

/// A step of a new session on the first device, opened once more.
fn new_session(backend: &CudaBackend) -> Result<(), String> {
    let device = backend.open(&name(0)).map_err(|e| e.to_string())?;
    let plan = planned(&device, &line(), Precision::Fast);
    let session = Runner::new(&*device, &plan, &Bindings::new());
    let mut session = session.map_err(|e| e.to_string())?;
    step(&mut session, 7.0).map_err(|e| e.to_string())
}

/// What is said of a device that is lost.
fn is_lost(error: &ExecError, lost: &str) {
    let ExecError::Device(DeviceError::Lost { device, cause }) = error else {
        unreachable!("{error}")
    };
    assert_eq!(device, lost);
    assert!(cause.contains("CUDA_ERROR_"), "{cause}");
    let way_out = "open it again, and if that fails start the program again";
    assert!(error.to_string().contains(way_out), "{error}");
}

#[test]
fn other_devices_outlive_one_that_a_kernel_has_lost() {
    let Some(backend) = backend() else { return };
    let compiler = Arc::new(Breaking(compiler()));
    let driver = backend.driver(&name(0)).unwrap();
    let broken = SimtDevice::new(name(0), String::new(), driver, compiler);
    let broken: Arc<dyn Device> = Arc::new(broken.unwrap());
    let beside = backend.open(&name(0)).unwrap();
    let cpu = cpu_members(1).remove(0);
    let (mut same, mut on_cpu) = (session(&beside), session(&cpu));
    let mut other = backend.open(&name(1)).ok().as_ref().map(session);
    assert!(is_real() || other.is_some());
    for session in [&mut same, &mut on_cpu].into_iter().chain(&mut other) {
        step(session, 1.0).unwrap();
    }

    let mut lost = session(&broken);
    is_lost(&step(&mut lost, 2.0).unwrap_err(), "cuda:0");
    // It stays so, for all that use the device.
    is_lost(&step(&mut lost, 3.0).unwrap_err(), "cuda:0");
    is_lost(&step(&mut same, 4.0).unwrap_err(), "cuda:0");
    // Nor is it any better for who opens it while others hold it.
    let told = new_session(&backend).err().unwrap();
    assert!(told.contains("start the program again"), "{told}");

    step(&mut on_cpu, 5.0).unwrap();
    step(&mut session(&cpu), 6.0).unwrap();
    match other.as_mut().map(|other| step(other, 7.0)) {
        Some(Err(error)) if is_real() => is_lost(&error, "cuda:1"),
        gone_on => gone_on.unwrap_or(Ok(())).unwrap(),
    }

    // Once nobody holds it, it may come back: the simulator's does.
    drop((lost, broken, same, beside));
    let again = new_session(&backend);
    let _ = writeln!(std::io::stderr(), "opened again: {again:?}");
    assert!(is_real() || again.is_ok());
}

//! The driver of a real device (or of a simulator that `GGRS_CUDA_DIR` names): memory, launches, recordings, order, errors.
//! Without one that is told.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::sync::Arc;

use ggrs_core::device::{Backend as _, DeviceName};
use ggrs_cuda::simt::compile::Compiler as _;
use ggrs_cuda::simt::driver::{
    DevicePtr, Driver, DriverError, DriverFailure, Function, Geometry, Pinned, Stream,
};
use ggrs_cuda::{CudaBackend, Nvrtc};

/// `to[i] = from[i] + add`, and sums over more shared memory than a block has without asking. The two macros are those of
/// the kernels' prelude; the simulator brings its own.
const SOURCE: &str = r#"
#if !defined(GGRS_SIM)
#define KERNEL(name, Params, n_threads, n_blocks) extern "C" __global__ void name(Params p)
#define DYNAMIC_SHARED(name) extern __shared__ unsigned char name[]
#endif
struct AddParams { float *to; const float *from; long long n; float add; int pad; };
KERNEL(add, AddParams, 128, 1) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.n) p.to[i] = p.from[i] + p.add;
}
KERNEL(large, AddParams, 128, 1) {
    DYNAMIC_SHARED(bytes);
    float *values = (float *)bytes;
    for (int i = threadIdx.x; i < p.n; i += blockDim.x) values[i] = p.add;
    __syncthreads();
    float sum = 0.0f;
    for (int i = 0; i < p.n; i++) sum += values[i];
    p.to[threadIdx.x] = sum;
}
"#;

const N: usize = 1000;

#[repr(C)]
struct AddParams {
    to: u64,
    from: u64,
    n: i64,
    add: f32,
    pad: i32,
}

impl AddParams {
    fn bytes(to: DevicePtr, from: DevicePtr, n: usize, add: f32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(to.0.to_le_bytes());
        bytes.extend(from.0.to_le_bytes());
        bytes.extend((n as i64).to_le_bytes());
        bytes.extend(add.to_le_bytes());
        bytes.extend(0i32.to_le_bytes());
        assert_eq!(bytes.len(), size_of::<Self>());
        bytes
    }
}

/// An open device with two arrays, a stream and the kernels.
struct Bench {
    driver: Arc<dyn Driver>,
    stream: Stream,
    add: Function,
    large: Function,
    from: DevicePtr,
    to: DevicePtr,
    host: Pinned,
}

/// Shared memory that `large` is given.
const LARGE_BYTES: u32 = 64 << 10;

fn geometry(n: usize) -> Geometry {
    Geometry {
        grid: [n.div_ceil(128) as u32, 1, 1],
        threads: 128,
        shared_bytes: 0,
        overlaps: false,
    }
}

/// The first device; `None`, told on the terminal, where there is none.
fn bench() -> Option<Bench> {
    let name: DeviceName = "cuda:0".parse().unwrap();
    let backend = CudaBackend::from_env();
    let opened = backend.probe().map_err(|e| e.to_string());
    let compiler = Nvrtc::from_env();
    if let Err(reason) = opened.and_then(|_| compiler.probe().map_err(|e| e.to_string())) {
        let required = std::env::var("GGRS_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|name| name.trim() == "cuda"),
            "{reason}"
        );
        // Not a print macro: the harness hides those of tests that pass.
        let _ = writeln!(std::io::stderr(), "skipped: {reason}");
        return None;
    }
    let driver = backend.driver(&name).unwrap();
    let arch = driver.facts().arch.clone();
    let compiled = compiler.compile("test", SOURCE, &[], &arch).unwrap();
    let module = driver.load(&compiled.image).unwrap();
    let bench = Bench {
        stream: driver.create_stream().unwrap(),
        add: driver.function(module, "add", 0).unwrap(),
        large: driver.function(module, "large", LARGE_BYTES).unwrap(),
        from: driver.alloc(4 * N as u64).unwrap(),
        to: driver.alloc(4 * N as u64).unwrap(),
        host: driver.alloc_pinned(4 * N).unwrap(),
        driver,
    };
    let missing = bench.driver.function(module, "missing", 0).unwrap_err();
    assert_eq!(missing.name, "CUDA_ERROR_NOT_FOUND");
    Some(bench)
}

impl Bench {
    fn launch(
        &self,
        function: Function,
        geometry: &Geometry,
        params: &[u8],
    ) -> Result<(), DriverError> {
        // SAFETY: the parameters are the kernel's, over this test's memory.
        unsafe { self.driver.launch(self.stream, function, geometry, params) }
    }

    fn set(&self, to: DevicePtr, values: impl Fn(usize) -> f32) {
        for i in 0..N {
            // SAFETY: the memory has room for N floats.
            unsafe { self.host.host.cast::<f32>().add(i).write(values(i)) };
        }
        // SAFETY: both places have room and live on; the copy is waited for.
        unsafe { self.driver.upload(self.stream, to, self.host.host, 4 * N) }.unwrap();
        self.driver.synchronize(self.stream).unwrap();
    }

    fn get(&self, from: DevicePtr) -> Vec<f32> {
        // SAFETY: both places have room and live on; the copy is waited for.
        unsafe {
            self.driver
                .download(self.stream, from, self.host.host, 4 * N)
        }
        .unwrap();
        self.driver.synchronize(self.stream).unwrap();
        // SAFETY: the memory holds N floats.
        (0..N)
            .map(|i| unsafe { self.host.host.cast::<f32>().add(i).read() })
            .collect()
    }
}

#[test]
fn launches_and_transfers() {
    let Some(bench) = bench() else { return };
    bench.set(bench.from, |i| i as f32);
    for overlaps in [false, true] {
        let geometry = Geometry {
            overlaps,
            ..geometry(N)
        };
        let add = if overlaps { 2.0 } else { 1.0 };
        bench
            .launch(
                bench.add,
                &geometry,
                &AddParams::bytes(bench.to, bench.from, N, add),
            )
            .unwrap();
        let expected: Vec<f32> = (0..N).map(|i| i as f32 + add).collect();
        assert_eq!(bench.get(bench.to), expected);
    }
    // SAFETY: the places are this test's, and waited for.
    unsafe {
        bench
            .driver
            .copy(bench.stream, bench.to, bench.from, 4 * N as u64)
            .unwrap();
        bench
            .driver
            .fill(bench.stream, bench.to, 0, 4 * N as u64)
            .unwrap();
    }
    assert_eq!(bench.get(bench.to), vec![0.0; N]);
    assert_eq!(bench.get(bench.from)[7], 9.0);
    // A kernel writes to pinned memory.
    bench
        .launch(
            bench.add,
            &geometry(N),
            &AddParams::bytes(bench.host.device, bench.from, N, 0.5),
        )
        .unwrap();
    bench.driver.synchronize(bench.stream).unwrap();
    // SAFETY: the memory holds N floats, and nothing writes any more.
    assert_eq!(unsafe { bench.host.host.cast::<f32>().add(7).read() }, 9.5);
    assert!(bench.driver.is_done(bench.stream).unwrap());
    let (free, total) = bench.driver.memory().unwrap();
    assert!(free > 0 && free <= total);
}

#[test]
fn shared_memory_beyond_the_usual() {
    let Some(bench) = bench() else { return };
    let n = LARGE_BYTES as usize / 4;
    let geometry = Geometry {
        grid: [1, 1, 1],
        threads: 128,
        shared_bytes: LARGE_BYTES,
        overlaps: false,
    };
    bench
        .launch(
            bench.large,
            &geometry,
            &AddParams::bytes(bench.to, bench.from, n, 1.0),
        )
        .unwrap();
    assert_eq!(bench.get(bench.to)[..128], vec![n as f32; 128]);
}

#[test]
fn recordings_replay_and_can_fail() {
    let Some(bench) = bench() else { return };
    let driver = &bench.driver;
    bench.set(bench.to, |_| 0.0);
    let params = AddParams::bytes(bench.to, bench.to, N, 1.0);
    driver.begin_recording(bench.stream).unwrap();
    for _ in 0..3 {
        let overlaps = false;
        let geometry = Geometry {
            overlaps,
            ..geometry(N)
        };
        bench.launch(bench.add, &geometry, &params).unwrap();
    }
    let recording = driver.end_recording(bench.stream).unwrap();
    assert_eq!(bench.get(bench.to)[0], 0.0, "recording runs nothing");
    let (start, end) = (
        driver.create_event().unwrap(),
        driver.create_event().unwrap(),
    );
    driver.record(start, bench.stream).unwrap();
    for _ in 0..4 {
        // SAFETY: the recording is over this test's memory.
        unsafe { driver.replay(bench.stream, recording) }.unwrap();
    }
    driver.record(end, bench.stream).unwrap();
    assert_eq!(bench.get(bench.to), vec![12.0; N]);
    assert!(driver.elapsed_ms(start, end).unwrap() >= 0.0);
    driver.wait_event(bench.stream, end).unwrap();
    driver.destroy_event(start);
    driver.destroy_event(end);
    driver.destroy_recording(recording);

    // Waiting for a stream that is recorded spoils the recording; the stream works again.
    driver.begin_recording(bench.stream).unwrap();
    bench.launch(bench.add, &geometry(N), &params).unwrap();
    assert!(driver.synchronize(bench.stream).is_err());
    let error = driver.end_recording(bench.stream).unwrap_err();
    assert_eq!(error.failure, DriverFailure::Other, "{error}");
    bench.launch(bench.add, &geometry(N), &params).unwrap();
    assert_eq!(bench.get(bench.to), vec![13.0; N]);
}

#[test]
fn threads_record_at_once() {
    let Some(first) = bench() else { return };
    drop(first);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let bench = bench().unwrap();
                bench.set(bench.to, |_| 0.0);
                let params = AddParams::bytes(bench.to, bench.to, N, 1.0);
                for _ in 0..20 {
                    bench.driver.begin_recording(bench.stream).unwrap();
                    bench.launch(bench.add, &geometry(N), &params).unwrap();
                    // What others do at that time must not matter.
                    let other = bench.driver.alloc(1 << 20).unwrap();
                    bench.driver.free(other);
                    let recording = bench.driver.end_recording(bench.stream).unwrap();
                    // SAFETY: the recording is over this thread's memory.
                    unsafe { bench.driver.replay(bench.stream, recording) }.unwrap();
                    bench.driver.synchronize(bench.stream).unwrap();
                    bench.driver.destroy_recording(recording);
                }
                assert_eq!(bench.get(bench.to), vec![20.0; N]);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn what_the_driver_refuses() {
    let Some(bench) = bench() else { return };
    let error = bench.driver.alloc(1 << 60).unwrap_err();
    assert_eq!(error.failure, DriverFailure::OutOfMemory, "{error}");
    let error = bench.driver.load(b"no machine code").unwrap_err();
    assert_eq!(error.name, "CUDA_ERROR_INVALID_IMAGE");
    let mut too_many = geometry(N);
    too_many.threads = 1 << 20;
    let params = AddParams::bytes(bench.to, bench.from, N, 0.0);
    let error = bench.launch(bench.add, &too_many, &params).unwrap_err();
    assert_eq!(error.failure, DriverFailure::Other, "{error}");
    bench.launch(bench.add, &geometry(N), &params).unwrap();
    bench.driver.synchronize(bench.stream).unwrap();
}

#[test]
fn listing_and_opening() {
    if bench().is_none() {
        return;
    }
    let backend = CudaBackend::from_env();
    let all = backend.enumerate().unwrap();
    for info in &all {
        let _ = writeln!(std::io::stderr(), "{info:?}");
        let driver = backend.driver(&info.name).unwrap();
        let _ = writeln!(std::io::stderr(), "{:?}", driver.facts());
        assert_eq!(driver.facts().hardware, info.hardware);
        assert!(info.memory.free <= info.memory.total);
        backend.open(&info.name).unwrap();
    }
    let beyond: DeviceName = format!("cuda:{}", all.len()).parse().unwrap();
    let error = backend.open(&beyond).err().unwrap().to_string();
    assert!(
        error.starts_with(&format!("no device \"{beyond}\"; available: cuda:0")),
        "{error}"
    );
}

#[test]
fn peers_reach_each_other() {
    let Some(first) = bench() else { return };
    let backend = CudaBackend::from_env();
    let n_devices = backend.probe().unwrap().n_devices;
    assert!(first.driver.reach_peer(0).unwrap());
    if n_devices < 2 {
        return;
    }
    let second = backend.driver(&"cuda:1".parse().unwrap()).unwrap();
    if !first.driver.reach_peer(1).unwrap() {
        return;
    }
    assert!(first.driver.reach_peer(1).unwrap(), "asking twice");
    let there = second.alloc(4 * N as u64).unwrap();
    first.set(first.from, |i| i as f32);
    first
        .launch(
            first.add,
            &geometry(N),
            &AddParams::bytes(there, first.from, N, 1.0),
        )
        .unwrap();
    // SAFETY: both places have room and live on; `get` waits.
    unsafe {
        first
            .driver
            .copy(first.stream, there, first.to, 4 * N as u64)
    }
    .unwrap();
    assert_eq!(first.get(first.to)[..3], [1.0, 2.0, 3.0]);
    second.free(there);
}

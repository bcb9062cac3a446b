//! Sums over devices that reach each other's memory: checked bit by bit, then timed on all devices at once.

use std::any::Any;
use std::error::Error;
use std::sync::Arc;
use std::thread;

use ggrs_core::device::{Bindings, Device, KernelTime, Runner};
use ggrs_core::ops::CollectiveKind;
use ggrs_core::plan::plan;
use ggrs_core::{DType, ExecError, Graph, GraphBuilder, GraphError};
use ggrs_tests::random::RandomInputs;

use crate::gpu::options;

/// Sums in one recording.
const SUMS: usize = 16;

/// Values after which those of a member repeat.
const DRAWN: usize = 1 << 16;

/// Devices that run collectives themselves.
pub struct Group {
    devices: Vec<Arc<dyn Device>>,
    /// What keeps them together.
    _links: Vec<Arc<dyn Any + Send + Sync>>,
}

/// A sum, timed.
pub struct SumTimed {
    /// Seconds on the slowest device.
    seconds: f64,
    /// Bytes that the bus of each device carries in each direction.
    bytes: f64,
    kernel: String,
}

impl Group {
    /// The devices as one group; `None` if they do not reach each other's memory.
    ///
    /// # Errors
    /// A device has no memory for the exchange.
    pub fn link(devices: Vec<Arc<dyn Device>>) -> Result<Option<Self>, Box<dyn Error>> {
        let links = devices.iter().enumerate().map(|(i, d)| d.link(i, &devices));
        let links: Option<Vec<_>> = links.collect::<Result<_, _>>()?;
        Ok(links.map(|links| Self {
            devices,
            _links: links,
        }))
    }

    /// How many they are.
    pub fn n_members(&self) -> usize {
        self.devices.len()
    }

    /// The sum of `n` values over all devices.
    ///
    /// # Errors
    /// A device fails, or a sum is not what it must be.
    pub fn time_all_reduce(&self, n: usize) -> Result<SumTimed, Box<dyn Error>> {
        let graph = sums(self.n_members(), n)?;
        let values: Vec<Vec<f32>> = (0..self.n_members()).map(|m| values(m, n)).collect();
        let mut runners = Vec::new();
        for (device, own) in self.devices.iter().zip(&values) {
            let plan = Arc::new(plan(&graph, &**device, &options())?);
            let mut runner = Runner::new(&**device, &plan, &Bindings::new())?;
            let bytes: Vec<u8> = own.iter().flat_map(|x| x.to_le_bytes()).collect();
            for slot in &plan.inputs {
                runner.set(&slot.name, &bytes)?;
            }
            runners.push(runner);
        }
        side_by_side(&mut runners, |runner| runner.run())?;
        let expected: Vec<u8> = (0..n)
            .filter_map(|i| {
                values
                    .iter()
                    .filter_map(|own| own.get(i))
                    .copied()
                    .reduce(add)
            })
            .flat_map(f32::to_le_bytes)
            .collect();
        for (device, runner) in self.devices.iter().zip(&mut runners) {
            for i in 0..SUMS {
                if runner.get(&format!("y{i}"))? != expected {
                    return Err(format!("sum {i} of {n} is wrong on {}", device.name()).into());
                }
            }
        }
        let times = side_by_side(&mut runners, |runner| runner.executable().profile())?;
        let slowest = times.into_iter().flatten();
        let slowest = slowest.max_by(|a: &KernelTime, b| a.seconds.total_cmp(&b.seconds));
        let slowest = slowest.ok_or("the devices cannot tell where time goes")?;
        let members = self.n_members() as f64;
        Ok(SumTimed {
            seconds: slowest.seconds / SUMS as f64,
            bytes: 2.0 * (members - 1.0) / members * 4.0 * n as f64,
            kernel: slowest.kernel,
        })
    }
}

impl SumTimed {
    /// A line of the report.
    pub fn line(&self, name: &str) -> String {
        format!(
            "{name:44} {:9.2} us {:8.1} GB/s on the bus  {}",
            self.seconds * 1e6,
            self.bytes / self.seconds / 1e9,
            self.kernel
        )
    }
}

fn add(a: f32, b: f32) -> f32 {
    a + b
}

/// Sums of `n` values, each of an input of its own.
fn sums(members: usize, n: usize) -> Result<Graph, GraphError> {
    let mut graph = GraphBuilder::new();
    for i in 0..SUMS {
        let x = graph.input(&format!("x{i}"), DType::F32, [n])?;
        let y = graph.collective(CollectiveKind::AllReduce, members, x)?;
        graph.output(&format!("y{i}"), y)?;
    }
    graph.seal()
}

/// What a member gives: whole numbers so small that neither they nor their sums lose anything in BF16.
fn values(member: usize, n: usize) -> Vec<f32> {
    let drawn = RandomInputs::new(member as u64).normals(&[n.min(DRAWN)], 1.0);
    let drawn = drawn.data.iter().map(|x| (4.0 * x).round() as f32);
    drawn.cycle().take(n).collect()
}

/// The same with every runner, each on a thread of its own: they wait for each other.
fn side_by_side<T: Send>(
    runners: &mut [Runner],
    what: impl Fn(&mut Runner) -> Result<T, ExecError> + Sync,
) -> Result<Vec<T>, Box<dyn Error>> {
    thread::scope(|scope| {
        let what = &what;
        let threads: Vec<_> = runners
            .iter_mut()
            .map(|runner| scope.spawn(move || what(runner)))
            .collect();
        let joined = threads.into_iter().map(|t| match t.join() {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err("a thread panicked".into()),
        });
        joined.collect()
    })
}

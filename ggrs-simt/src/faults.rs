//! Bad data that kernels find: a cell of device memory for each kind of fault of each step, and one flag in host memory,
//! so that a run without faults costs nothing.

use std::sync::Arc;
use std::time::Duration;

use ggrs_core::error::Fault;
use ggrs_core::plan::Plan;
use ggrs_core::{DeviceError, ExecError};

use crate::context::{Context, Gate};
use crate::driver::{DevicePtr, Pinned};
use crate::kernel::FaultKind;
use crate::params::FaultCell;

/// How long another member is waited for. Kernels do it for about as long (`PEER_PATIENCE` of `peer.cuh`).
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a cell holds while nothing is wrong.
const NONE: u64 = u64::MAX;

/// The fault cells of an executable.
pub(crate) struct FaultBoard {
    context: Arc<Context>,
    plan: Arc<Plan>,
    cells: DevicePtr,
    flag: Pinned,
    /// For each cell, the step and what it finds.
    kinds: Vec<(usize, FaultKind)>,
}

// SAFETY: the flag is read and reset only with the context's gate in hand.
unsafe impl Send for FaultBoard {}
// SAFETY: as above.
unsafe impl Sync for FaultBoard {}

impl FaultBoard {
    /// Cells for these faults, in this order.
    pub(crate) fn new(
        context: &Arc<Context>,
        plan: &Arc<Plan>,
        kinds: Vec<(usize, FaultKind)>,
    ) -> Result<Self, DeviceError> {
        let flag = context
            .driver
            .alloc_pinned(4)
            .map_err(|e| context.error(e))?;
        // SAFETY: 4 bytes were just allocated, aligned for more than a word.
        unsafe { flag.host.cast::<u32>().write_volatile(0) };
        let bytes = bytes_of(&kinds);
        let cells = context.alloc(bytes, "fault cells").inspect_err(|_| {
            context.driver.free_pinned(flag);
        })?;
        let board = Self {
            context: Arc::clone(context),
            plan: Arc::clone(plan),
            cells,
            flag,
            kinds,
        };
        board.reset(&mut context.gate())?;
        Ok(board)
    }

    fn reset(&self, gate: &mut Gate) -> Result<(), DeviceError> {
        self.context
            .fill(gate, self.cells, 0xff, bytes_of(&self.kinds))
    }

    /// All cells, in the order of the faults.
    pub(crate) fn cells(&self) -> Vec<FaultCell> {
        let cell = |i: usize| FaultCell {
            least: self.cells.plus(8 * i as u64).0,
            flag: self.flag.device.0,
        };
        (0..self.kinds.len()).map(cell).collect()
    }

    /// What the runs until now found, the first step's first; the stream is empty. Forgets it.
    pub(crate) fn check(&self, gate: &mut Gate) -> Result<(), ExecError> {
        let flag = self.flag.host.cast::<u32>();
        // SAFETY: see `new`.
        if unsafe { flag.read_volatile() } == 0 {
            return Ok(());
        }
        let mut bytes = vec![0; self.kinds.len() * 8];
        self.context.download(gate, self.cells, &mut bytes)?;
        self.reset(gate)?;
        self.context.synchronize(gate)?;
        // SAFETY: see `new`.
        unsafe { flag.write_volatile(0) };
        let (cells, _) = bytes.as_chunks::<8>();
        let found = self
            .kinds
            .iter()
            .zip(cells)
            .map(|(k, c)| (k, u64::from_le_bytes(*c)));
        match found.into_iter().find(|(_, cell)| *cell != NONE) {
            Some(((step, kind), cell)) => Err(self.error(*step, *kind, cell)),
            None => Ok(()),
        }
    }

    /// What a cell says: the row in the upper half, the index plus 2^31 in the lower.
    fn error(&self, position: usize, kind: FaultKind, cell: u64) -> ExecError {
        let row = (cell >> 32) as usize;
        let fault = match kind {
            FaultKind::IndexOutOfRange { role, bound } => Fault::IndexOutOfRange {
                role,
                row,
                index: i64::from(((cell as u32) ^ 0x8000_0000).cast_signed()),
                bound,
            },
            FaultKind::NotANumber { role } => Fault::NotANumber { role, row },
            FaultKind::PeerLate => {
                let node = self
                    .plan
                    .steps
                    .get(position)
                    .map(|s| self.plan.graph.node(s.node));
                let node = node.map_or("a collective", |n| &*n.name);
                return DeviceError::Timeout {
                    device: self.context.name.clone(),
                    what: format!("another member's part of \"{node}\""),
                    waited_ms: PATIENCE.as_millis() as u64,
                }
                .into();
            }
        };
        self.plan.fault(&self.context.name, position, fault)
    }
}

impl Drop for FaultBoard {
    fn drop(&mut self) {
        self.context.free(self.cells, bytes_of(&self.kinds));
        self.context.driver.free_pinned(self.flag);
    }
}

fn bytes_of(kinds: &[(usize, FaultKind)]) -> u64 {
    8 * kinds.len() as u64
}

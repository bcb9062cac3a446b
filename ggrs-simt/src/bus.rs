//! What the bus gives: plain copies from pinned memory, timed by the device. Loading is compared with it.

use ggrs_core::DeviceError;

use crate::context::Context;
use crate::driver::DevicePtr;

/// Bytes of one copy: more than caches hold.
const PIECE: u64 = 256 << 20;

/// Times that the copies are made; the best counts.
const RUNS: usize = 2;

impl Context {
    /// Seconds that `bytes` bytes take from pinned memory, in copies one behind the other.
    pub(crate) fn time_upload(&self, bytes: u64) -> Result<f64, DeviceError> {
        let piece = bytes.clamp(1, PIECE);
        let n = bytes.div_ceil(piece).max(1);
        let to = self.alloc(piece, "measuring the bus")?;
        let timed = self.time_copies(to, piece, n);
        self.free(to, piece);
        Ok(timed? * bytes as f64 / (n * piece) as f64)
    }

    fn time_copies(&self, to: DevicePtr, piece: u64, n: u64) -> Result<f64, DeviceError> {
        let driver = &*self.driver;
        let n_bytes = usize::try_from(piece).unwrap_or(usize::MAX);
        let from = driver.alloc_pinned(n_bytes).map_err(|e| self.error(e))?;
        let gate = self.gate();
        let put = || {
            // SAFETY: both ends hold so many bytes, and copies are done before they are given back.
            let copy = || unsafe { driver.upload(gate.stream, to, from.host, from.bytes) };
            (0..n).try_for_each(|_| copy()).map_err(|e| self.error(e))
        };
        let timed = self.best_seconds(&gate, RUNS, &put);
        driver.free_pinned(from);
        timed
    }
}

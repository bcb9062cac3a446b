//! Time as the device measures it. It must not know what is timed.

use ggrs_core::DeviceError;

use crate::context::{Context, Gate};
use crate::driver::Event;

impl Context {
    /// Seconds from the first thing that `put` puts into the stream until the last is done: the best of `n` times, all of
    /// them done when this returns. With the same `n` on all members, what meets other members meets them each time.
    pub(crate) fn best_seconds(
        &self,
        gate: &Gate,
        n: usize,
        put: &dyn Fn() -> Result<(), DeviceError>,
    ) -> Result<f64, DeviceError> {
        let event = || self.driver.create_event().map_err(|e| self.error(e));
        let start = event()?;
        let best = event().and_then(|end| {
            let once = |best: f64| Ok(best.min(self.seconds(gate, (start, end), put)?));
            let best = (0..n).try_fold(f64::INFINITY, |best, _| once(best));
            self.driver.destroy_event(end);
            best
        });
        self.driver.destroy_event(start);
        best
    }

    fn seconds(
        &self,
        gate: &Gate,
        (start, end): (Event, Event),
        put: &dyn Fn() -> Result<(), DeviceError>,
    ) -> Result<f64, DeviceError> {
        let driver = &*self.driver;
        let record = |event| driver.record(event, gate.stream).map_err(|e| self.error(e));
        record(start)?;
        let all = put().and_then(|()| record(end));
        // Also after an error: what was put there is not left behind.
        let done = driver.synchronize(gate.stream);
        all?;
        let elapsed = done.and_then(|()| driver.elapsed_ms(start, end));
        Ok(f64::from(elapsed.map_err(|e| self.error(e))?) / 1e3)
    }
}

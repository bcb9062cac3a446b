//! Time as the device measures it. It must not know what is timed.

use crate::context::{Context, Gate};
use crate::driver::{DriverError, Event};

impl Context {
    /// Seconds from the first thing that `put` puts into the stream until the last is done: the best of `n` times, all of
    /// them done when this returns. With the same `n` on all members, what meets other members meets them each time.
    pub(crate) fn best_seconds(
        &self,
        gate: &Gate,
        n: usize,
        put: &dyn Fn() -> Result<(), DriverError>,
    ) -> Result<f64, DriverError> {
        let start = self.driver.create_event()?;
        let best = self.driver.create_event().and_then(|end| {
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
        put: &dyn Fn() -> Result<(), DriverError>,
    ) -> Result<f64, DriverError> {
        let driver = &*self.driver;
        driver.record(start, gate.stream)?;
        let all = put().and_then(|()| driver.record(end, gate.stream));
        // Also after an error: what was put there is not left behind.
        let done = driver.synchronize(gate.stream);
        all.and(done)?;
        Ok(f64::from(driver.elapsed_ms(start, end)?) / 1e3)
    }
}

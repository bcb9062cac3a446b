//! Capture and replay as one state machine for all devices: a device supplies only what a transition brackets.

use crate::ExecError;

/// Where an executable stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureState {
    /// Every run walks the plan.
    Eager,
    /// The next run is recorded.
    Armed,
    /// Runs replay the recording.
    Captured,
}

impl CaptureState {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Armed => "armed",
            Self::Captured => "captured",
        }
    }
}

/// A recording `R` and the state it is in.
#[derive(Debug)]
pub struct Capture<R> {
    armed: bool,
    recording: Option<R>,
}

impl<R> Default for Capture<R> {
    fn default() -> Self {
        Self {
            armed: false,
            recording: None,
        }
    }
}

impl<R> Capture<R> {
    /// The state.
    pub fn state(&self) -> CaptureState {
        match (&self.recording, self.armed) {
            (Some(_), _) => CaptureState::Captured,
            (None, true) => CaptureState::Armed,
            (None, false) => CaptureState::Eager,
        }
    }

    /// Asks for the next run to be recorded.
    pub fn arm(&mut self) -> Result<(), ExecError> {
        match self.state() {
            CaptureState::Eager => {
                self.armed = true;
                Ok(())
            }
            state => Err(ExecError::Capture {
                asked: "capture",
                state: state.name(),
            }),
        }
    }

    /// Back to eager; gives the recording back, if there was one.
    pub fn release(&mut self) -> Option<R> {
        std::mem::take(self).recording
    }

    /// One run: `record` walks the plan and says what it did, `replay` does that. A recording is kept if armed and if
    /// its first replay succeeds.
    pub fn run(
        &mut self,
        record: impl FnOnce() -> Result<R, ExecError>,
        replay: impl FnOnce(&mut R) -> Result<(), ExecError>,
    ) -> Result<(), ExecError> {
        if let Some(recording) = &mut self.recording {
            return replay(recording);
        }
        let mut recording = record()?;
        replay(&mut recording)?;
        if self.armed {
            self.recording = Some(recording);
            self.armed = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_records_once_and_replays() {
        let mut capture = Capture::<u32>::default();
        let (mut records, mut replays) = (0, 0);
        let mut step = |capture: &mut Capture<u32>| {
            capture
                .run(
                    || {
                        records += 1;
                        Ok(7)
                    },
                    |r| {
                        replays += *r;
                        Ok(())
                    },
                )
                .unwrap();
        };
        step(&mut capture);
        capture.arm().unwrap();
        assert_eq!(capture.state(), CaptureState::Armed);
        assert!(capture.arm().is_err());
        step(&mut capture);
        step(&mut capture);
        assert_eq!(capture.state(), CaptureState::Captured);
        assert_eq!((records, replays), (2, 21));
    }

    #[test]
    fn a_failed_run_is_not_captured() {
        let mut capture = Capture::<u32>::default();
        capture.arm().unwrap();
        let failed = ExecError::StaleBinding { name: "kv".into() };
        assert_eq!(capture.run(|| Ok(1), |_| Err(failed.clone())), Err(failed));
        assert_eq!(capture.state(), CaptureState::Armed);
        capture.release();
        assert_eq!(capture.state(), CaptureState::Eager);
    }
}

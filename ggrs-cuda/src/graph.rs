//! Recordings: a stream captured as a graph, made ready, run.

use cudarc::driver::sys;
use ggrs_simt::driver::{DriverError, Recording, Stream};

use crate::api::{handle, raw};
use crate::driver::CudaDriver;

/// Other threads and other devices go on as they like while one stream is captured.
const MODE: sys::CUstreamCaptureMode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;

impl CudaDriver {
    pub(crate) fn begin_capture(&self, stream: Stream) -> Result<(), DriverError> {
        // SAFETY: the stream is of this device.
        unsafe { self.enter()?.cuStreamBeginCapture_v2(raw(stream.0), MODE) }
    }

    pub(crate) fn end_capture(&self, stream: Stream) -> Result<Recording, DriverError> {
        let api = self.enter()?;
        let mut graph = std::ptr::null_mut();
        // A capture that failed on the way ends here too, with an error and without a graph.
        // SAFETY: the stream is of this device; the place outlives the call.
        unsafe { api.cuStreamEndCapture(raw(stream.0), &raw mut graph) }?;
        let mut ready = std::ptr::null_mut();
        // SAFETY: the graph is whole; the place outlives the call.
        let made = unsafe { api.cuGraphInstantiateWithFlags(&raw mut ready, graph, 0) };
        // SAFETY: the graph is ours; what was made of it stands alone.
        let destroyed = unsafe { api.cuGraphDestroy(graph) };
        made?;
        let recording = Recording(handle(ready));
        // SAFETY: the recording was just made, the stream is of this device and no longer captured.
        let uploaded = destroyed.and_then(|()| unsafe { api.cuGraphUpload(ready, raw(stream.0)) });
        uploaded.inspect_err(|_| self.end_graph(recording))?;
        Ok(recording)
    }

    /// # Safety
    /// As for [`ggrs_simt::driver::Driver::replay`].
    pub(crate) unsafe fn start_graph(
        &self,
        stream: Stream,
        recording: Recording,
    ) -> Result<(), DriverError> {
        // SAFETY: the recording is of `end_capture`; the rest is as the caller promises.
        unsafe { self.enter()?.cuGraphLaunch(raw(recording.0), raw(stream.0)) }
    }

    pub(crate) fn end_graph(&self, recording: Recording) {
        if let Ok(api) = self.enter() {
            // SAFETY: the recording is of `end_capture`; the driver keeps what still runs.
            let _ = unsafe { api.cuGraphExecDestroy(raw(recording.0)) };
        }
    }
}

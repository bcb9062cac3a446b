//! A transport of a device made of several whose collectives are events of the fake members, so that they can fail.

use std::sync::Arc;

use ggrs_core::ExecError;
use ggrs_core::device::{Queue, Route};
use ggrs_core::ops::{Collective, OpSpec};
use ggrs_meta::{Exchange, Transport};

use super::buffer::FakeBuffer;
use super::fault::Point;

/// Another transport, before which every fake member has an event [`Point::Collective`]. Members that are no fakes have
/// none.
pub struct FaultyTransport {
    inner: Arc<dyn Transport>,
}

impl FaultyTransport {
    /// Around a transport.
    pub fn new(inner: impl Transport + 'static) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }
}

impl Transport for FaultyTransport {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn route(&self) -> Route {
        self.inner.route()
    }

    fn staging_bytes(&self, exchange: &Exchange) -> usize {
        self.inner.staging_bytes(exchange)
    }

    fn exchange(
        &self,
        exchange: &Exchange,
        queues: &mut [Box<dyn Queue>],
        staging: &mut [u8],
    ) -> Result<(), ExecError> {
        let op = Collective::even(exchange.kind(), queues.len()).stem();
        for (operand, result) in exchange.ins().iter().zip(exchange.outs()) {
            let Some(slice) = operand.as_ref().or(result.as_ref()) else {
                continue;
            };
            if let Some(fake) = slice.buffer.as_any().downcast_ref::<FakeBuffer>() {
                let event = |bytes| {
                    fake.owner()
                        .event(Point::Collective, bytes, || op.to_owned())
                };
                event(slice.bytes)?;
            }
        }
        self.inner.exchange(exchange, queues, staging)
    }
}

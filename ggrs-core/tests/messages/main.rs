//! Every message a user can get from building, binding or planning a graph, as they read it. Locations are cut: they
//! change with every edit of this file.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod memory;
mod ops;
mod views;

use ggrs_core::device::DeviceName;
use ggrs_core::device::null::NullDevice;
use ggrs_core::{DType, GraphBuilder, GraphError, Pages, Value};

const F: DType = DType::F32;

fn shown(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.find(", at ggrs-core") {
        text.truncate(at);
    }
    text
}

/// What `build` fails with.
#[track_caller]
fn refuses<T: std::fmt::Debug>(
    build: impl FnOnce(&mut GraphBuilder) -> Result<T, GraphError>,
    message: &str,
) {
    let error = build(&mut GraphBuilder::new()).expect_err("the op must be refused");
    assert_eq!(shown(&error), message);
}

fn input(b: &mut GraphBuilder, name: &str, shape: &[usize]) -> Value {
    b.input(name, F, shape).expect("a valid leaf")
}

fn null() -> NullDevice {
    NullDevice::new(
        DeviceName {
            backend: "null".into(),
            index: 0,
            members: 1,
        },
        1 << 20,
    )
}

fn pages(b: &mut GraphBuilder) -> Result<Pages, GraphError> {
    Ok(Pages {
        positions: b.input("positions", DType::I32, [3])?,
        slots: b.input("slots", DType::I32, [3])?,
        table: b.input("table", DType::I32, [1, 1])?,
    })
}

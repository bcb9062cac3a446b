//! The demo model, which is part of the program: a small trained Qwen3-MoE. Knows only its bytes.

use ggrs_model::gguf::{GgufError, GgufFile};

/// What errors and listings call it.
pub(crate) const NAME: &str = "the demo model";

/// Bytes aligned like a file's mapping, so that weights can be read in place.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!("../assets/demo-q8_0.gguf"));

/// Opens the demo model.
pub(crate) fn open() -> Result<GgufFile, GgufError> {
    GgufFile::from_bytes(NAME, &BYTES.0)
}

//! AMX int8 tiles, by inline assembly: Rust's intrinsics for them are not stable.

/// Does the machine have AMX int8, and does the system let this process use it?
pub(crate) fn amx_is_available() -> bool {
    false
}

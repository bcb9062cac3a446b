//! An op parameter that is a number: an `f32` compared and hashed by its bits, so that ops can be compared and
//! hashed.

use std::fmt;
use std::hash::{Hash, Hasher};

/// An `f32` parameter of an op. Equality is by bits: `-0.0 != 0.0`, a NaN equals itself.
#[derive(Clone, Copy, Default, serde::Serialize)]
pub struct Real(pub f32);

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Real {}

impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl From<f32> for Real {
    fn from(x: f32) -> Self {
        Self(x)
    }
}

impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

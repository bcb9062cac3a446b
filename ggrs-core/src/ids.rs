//! Typed indices. Each is meaningful only inside the graph, plan or registry that made it.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        pub struct $name(pub(crate) u32);

        impl $name {
            /// Position in the table this id indexes.
            pub const fn index(self) -> usize {
                self.0 as usize
            }

            /// The id of a row of a table that is known to have fewer than `u32::MAX` rows.
            #[allow(clippy::cast_possible_truncation, reason = "tables are limited to u32::MAX rows where they grow")]
            #[allow(dead_code, reason = "not every table makes its ids by position")]
            pub(crate) const fn from_index(index: usize) -> Self {
                Self(index as u32)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

id!(
    /// A node of a graph.
    NodeId,
    "n"
);
id!(
    /// A value of a graph: one output of a node.
    ValueId,
    "%"
);
id!(
    /// A symbolic dimension of a graph.
    SymbolId,
    "s"
);
id!(
    /// A device of a plan.
    DeviceIdx,
    "d"
);

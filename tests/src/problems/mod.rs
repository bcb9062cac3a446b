//! The problems: for every op its table rows and a strategy for random cases, one file per family.

mod attention;
mod attention_paged;
mod cache;
mod collective;
mod elementwise;
mod experts;
mod family;
mod fixture;
mod glu;
mod kinds;
mod layers;
mod leaf;
mod matmul;
mod movement;
mod norm;
mod recurrent;
mod reduce;
mod rope;
mod router;
mod sample;
mod select;
mod softmax;
mod strategies;
mod view;

pub use family::{Family, of};
pub use fixture::FixtureProblem;
pub use layers::{Layer, layers};

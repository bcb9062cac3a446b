//! The program `ggrs`.
fn main() {}

//! Kernels by op and format.

fn main() {}

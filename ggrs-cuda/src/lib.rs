//! The CUDA devices of GGRS.

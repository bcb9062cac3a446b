//! Several devices as one: split plans, sharded tensors, collectives.

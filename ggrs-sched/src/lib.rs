//! Which device runs which op: assignment by pins, homes, support and bytes copied; cuts; copies; per-device memory.

// What stands between two products, for several tokens: rows with their norms, in one launch.

#include "norm_q8.cuh"

// One block per row.
KERNEL(norm_q8, NormQ8, 1024, 1) {
    DYNAMIC_SHARED(memory);
    __shared__ float space[32];
    TRIGGER();
    make_row<1>(p, blockIdx.x, {(float*)memory, {}}, true, space);
}

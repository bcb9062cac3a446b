// Converts the activations of a product by matrix units.

#include "gemm_rows.cuh"

KERNEL(convert_activations, ActivationRows, 256, 4) {
    WAIT();
    TRIGGER();
    convert_rows(p, (int)blockIdx.x * N_WARPS + WARP_ID, (int)gridDim.x * N_WARPS);
}

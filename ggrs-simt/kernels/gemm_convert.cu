// Converts the activations of a product by matrix units.

#include "gemm_rows.cuh"

KERNEL(convert_activations, ActivationRows, 256, 3) {
    WAIT();
    TRIGGER();
    convert_rows(p, blockIdx.x, gridDim.x);
}

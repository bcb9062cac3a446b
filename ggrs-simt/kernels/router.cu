// The router of a mixture of experts as a launch of its own, one warp per token.

#include "router.cuh"

template <typename Experts> DEVICE void route(const RouterParams& p) {
    WAIT();
    TRIGGER();
    i64 row = (i64)blockIdx.x * N_WARPS + WARP_ID;
    if (row < view_rows(p.logits)) route_token<Experts>(p, row);
}

KERNEL(route_4, RouterParams, 128, 4) { route<Held<4>>(p); }
KERNEL(route_8, RouterParams, 128, 4) { route<Held<8>>(p); }
KERNEL(route_any, RouterParams, 128, 4) { route<Streamed>(p); }

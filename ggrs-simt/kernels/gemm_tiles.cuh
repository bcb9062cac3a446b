// What the sort of pairs by expert hands to the product.

#include "prelude.cuh"

// A run of the pairs sorted by expert, all of one: made by moe_sort.cu.
struct Tile {
    // Place among the experts that are held; -1: elsewhere, results are zeros.
    i32 expert;
    i32 first;
    // 0: nothing to do.
    i32 count;
    i32 pad;
};

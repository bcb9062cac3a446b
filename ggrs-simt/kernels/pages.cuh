// Where the tokens of a step are written in a paged cache.

#include "axes.cuh"

// `Pages` of pages.rs. A slot's row of the table has the number of the block that holds each of its blocks of positions.
struct Pages {
    const i32* positions;
    const i32* slots;
    const i32* table;
    i64 n_cells;
    // Cells of a block.
    Divisor block;
    i32 n_slots, n_blocks;
    i32 pad;
};
static_assert(sizeof(Pages) == 56, "Pages of pages.rs");

struct PageFaults {
    FaultCell slot, position, table;
};

// The cell of a token; below 0 for padding and for what is nowhere, which is reported if it is this thread's to say.
DEVICE i64 cell_of(const Pages& p, i64 token, const PageFaults& faults, bool reports) {
    i32 slot = p.slots[token], position = p.positions[token];
    if (slot < 0) return -1;
    if (slot >= p.n_slots) {
        if (reports) report_fault(faults.slot, token, slot);
        return -1;
    }
    if (position < 0 || position >= (i64)p.n_blocks * p.block.n) {
        if (reports) report_fault(faults.position, token, position);
        return -1;
    }
    u32 page = divide((u32)position, p.block);
    i32 block = p.table[(i64)slot * p.n_blocks + page];
    i64 cell = (i64)block * p.block.n + (position - page * p.block.n);
    if (block < 0 || cell >= p.n_cells) {
        if (reports) report_fault(faults.table, slot, block);
        return -1;
    }
    return cell;
}

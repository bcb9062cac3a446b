// What the attention kernels share: the parameter block, who sees which keys, where keys lie, parts of the keys.

#include "axes.cuh"
#include "planes.cuh"

enum Visibility { FULL, MASK, PAGED };

// `AttentionParams` of attention.rs. q, out: [1, batch, tokens, heads, width]; k, v: [1, batch, keys, key heads, width],
// of a paged cache [1, 1, cells, key heads, width]; mask: [1, batch or 1, heads or 1, tokens, keys].
struct AttentionParams {
    View q, k, v, mask, out;
    Planes key_planes, value_planes;
    const i32* positions;
    const i32* slots;
    // [slots, pages]
    const i32* table;
    // Null if there are none.
    const float* sinks;
    // For each row of the result and each split of its keys: largest score, sum of weights; weighted sum of values.
    float2* partial_stats;
    float* partial_sums;
    // For each block of a split, zero before and after: the splits that are done.
    u32* counters;
    FaultCell slot_fault, position_fault, page_fault;
    float scale;
    // 0 if there is none.
    float softcap;
    i32 visibility;
    // Cells of a page.
    Divisor block;
    i32 n_slots;
    i32 n_pages;
    // 0 if there is none.
    i32 window;
    // Query heads of a key head.
    i32 group;
    // Splits of the keys there is room for.
    i32 n_splits;
    // Does every split leave a result, even of no key?
    i32 has_all_splits;
    // So many keys are not worth a second split.
    i32 whole_keys;
    // Tokens of a block of `attention_prefill` where it leaves blocks of many runs to `attention_decode`; else 0.
    i32 tile_tokens;
};
static_assert(sizeof(AttentionParams) == 616, "AttentionParams of attention.rs");

// The keys of a token: a range, through the pages of its slot if the cache has pages.
struct Seen {
    i32 first, end;
    const i32* pages;
};

// What a token of a slot sees from its position.
DEVICE Seen seen_from(const AttentionParams& p, i32 slot, i32 position) {
    i32 first = p.window > 0 && position >= p.window ? position - p.window + 1 : 0;
    return {first, position + 1, p.table + (i64)slot * p.n_pages};
}
// What token `token` sees; nothing if it is padding or its slot or position is bad.
DEVICE Seen seen_by(const AttentionParams& p, i32 token) {
    Seen none = {0, 0, nullptr};
    if (p.visibility != PAGED) {
        none.end = p.k.size[2];
        return none;
    }
    i32 slot = p.slots[token], position = p.positions[token];
    if (slot < 0) return none;
    if (slot >= p.n_slots) {
        report_fault(p.slot_fault, token, slot);
        return none;
    }
    if (position < 0 || position >= (i64)p.n_pages * p.block.n) {
        report_fault(p.position_fault, token, position);
        return none;
    }
    return seen_from(p, slot, position);
}

// Does a run of tokens end with this one: neighbours of one slot, of which together they see all keys in between?
DEVICE bool ends_run(const AttentionParams& p, i32 token) {
    i32 slot = p.slots[token], next_slot = p.slots[token + 1];
    i64 step = (i64)p.positions[token + 1] - p.positions[token];
    if (slot < 0 && next_slot < 0) return false;
    return slot != next_slot || step < 0 || (p.window > 0 && step > p.window);
}
// Are there so many runs among some tokens that each token had better be for itself?
DEVICE bool is_mixed(i32 n_runs, i32 n_tokens) { return n_runs > 4 + n_tokens / 16; }

// The row of `k` and `v` where key `key` lies; -1 if the page is none.
DEVICE i64 row_of_key(const AttentionParams& p, const Seen& seen, i32 key, i32 token) {
    if (seen.pages == nullptr) return key;
    u32 at = divide((u32)key, p.block);
    i32 page = seen.pages[at];
    i64 cell = (i64)page * p.block.n + ((u32)key - at * p.block.n);
    if (page >= 0 && cell < p.k.size[2]) return cell;
    report_fault(p.page_fault, token, page);
    return -1;
}

// Keys are dealt out to the splits in turn, so many at a time.
#define KEYS_AT_A_TIME 128

// The splits that have keys. The host cannot know: it is data.
DEVICE i32 splits_in_use(const AttentionParams& p, i32 n_keys) {
    i32 wanted = (n_keys + KEYS_AT_A_TIME - 1) / KEYS_AT_A_TIME;
    if (n_keys <= p.whole_keys) return 1;
    return wanted < p.n_splits ? wanted : p.n_splits;
}

DEVICE float soft_capped(const AttentionParams& p, float score) {
    return p.softcap > 0.0f ? p.softcap * tanhf(score / p.softcap) : score;
}

// The weight of a score beside the largest one; 0 of a hidden key.
DEVICE float weight_of(float score, float largest) { return score == -INFINITY_F ? 0.0f : expf(score - largest); }

// The sink of a head: a score that has no value.
DEVICE float sink_of(const AttentionParams& p, i32 head) { return p.sinks == nullptr ? -INFINITY_F : p.sinks[head]; }

DEVICE i64 out_offset(const AttentionParams& p, i32 batch, i32 token, i32 head) {
    return batch * p.out.stride[1] + token * p.out.stride[2] + head * p.out.stride[3];
}

//! Pools of random blocks, from which weights of any size are cut at the speed of a copy.
//!
//! Each piece begins at a random block, so no two weights are equal, and the bytes do not compress. What is done with
//! the pieces is not known here.

use std::collections::HashMap;

use ggrs_core::DType;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::blocks::random_blocks;

/// The largest pool: more than caches hold, and enough that repetitions lie far apart.
const MAX_POOL_BYTES: usize = 8 << 20;
/// Pieces have random lengths in this range, where the pool has as much.
const PIECE_BYTES: std::ops::Range<usize> = 64 << 10..4 << 20;

/// The random numbers for what `label` names: the same for the same seed, in whatever order things are written.
pub(super) fn stream(seed: u64, label: &str) -> ChaCha8Rng {
    // FNV-1a.
    let hash = label
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(hash);
    rng
}

/// One pool for each dtype and standard deviation, made when it is first needed.
pub(super) struct Pools {
    seed: u64,
    pool_bytes: usize,
    pools: HashMap<(DType, u32), Vec<u8>>,
}

impl Pools {
    /// Pools for weights of which the largest has `largest` bytes.
    pub(super) fn new(seed: u64, largest: u64) -> Self {
        let pool_bytes = usize::try_from(largest)
            .unwrap_or(MAX_POOL_BYTES)
            .min(MAX_POOL_BYTES);
        Self {
            seed,
            pool_bytes,
            pools: HashMap::new(),
        }
    }

    /// A random piece of at most `max_bytes` bytes, in whole blocks.
    pub(super) fn piece(
        &mut self,
        dtype: DType,
        std: f32,
        max_bytes: u64,
        rng: &mut impl Rng,
    ) -> &[u8] {
        let block_bytes = dtype.block_bytes();
        let n_blocks = (self.pool_bytes / block_bytes).max(1);
        let pool = self.pools.entry((dtype, std.to_bits())).or_insert_with(|| {
            let mut rng = stream(self.seed, &format!("{dtype} {:x}", std.to_bits()));
            random_blocks(dtype, std, n_blocks, &mut rng)
        });
        let begin = rng.random_range(0..n_blocks) * block_bytes;
        let wanted = rng.random_range(PIECE_BYTES).next_multiple_of(block_bytes);
        let rest = pool.get(begin..).unwrap_or_default();
        let len = rest
            .len()
            .min(wanted)
            .min(usize::try_from(max_bytes).unwrap_or(usize::MAX));
        rest.get(..len).unwrap_or_default()
    }
}

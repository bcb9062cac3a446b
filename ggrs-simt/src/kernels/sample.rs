//! The choice of the next token. Settings are data: every launch looks for itself at what a sequence needs.

use bytemuck::{Pod, Zeroable};
use ggrs_core::Unsupported;

use crate::driver::DevicePtr;
use crate::kernel::{Choice, FaultKind, Launch, ModuleKey, Request};
use crate::params::{FaultCell, View};

/// `SampleParams` of `sample.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SampleParams {
    logits: View,
    cursor: u64,
    settings: u64,
    seeds: u64,
    fault: FaultCell,
    scores: u64,
    keys: u64,
    joined: u64,
    sums: u64,
    n_sequences: i32,
    n_vocab: i32,
    ring: i32,
    n_tiles: i32,
    joined_keys: i32,
    round: i32,
    n_lists: i32,
    unused: i32,
}

const _: () = assert!(size_of::<SampleParams>() == 176);

/// Tokens that one block sees at a time; threads of a block.
const TILE: u32 = 2048;
const THREADS: u32 = 1024;

/// The longest list of first keys (`MAX_LIST`), and the keys that are joined at once (`LIST_KEYS`).
const MAX_LIST: u32 = 512;
const LIST_KEYS: u32 = 5120;

const KEY_BYTES: u32 = 8;

/// What a vocabulary is cut into.
#[derive(Clone, Copy)]
struct Parts {
    n_vocab: u32,
    n_tiles: u32,
    /// Lists of a sequence after each round of joining.
    joined: [u32; 8],
}

impl Parts {
    const GROUP: u32 = LIST_KEYS / MAX_LIST;

    fn of(n_vocab: u32) -> Self {
        let n_tiles = n_vocab.div_ceil(TILE);
        let mut n = n_tiles;
        let joined = [(); 8].map(|()| {
            let is_over = n <= Self::GROUP;
            n = n.div_ceil(Self::GROUP);
            if is_over { 0 } else { n }
        });
        Self {
            n_vocab,
            n_tiles,
            joined,
        }
    }

    /// Keys of the lists made of tiles, whatever their length.
    fn joined_keys(&self) -> u32 {
        let of_length = |length: u32| {
            let group = LIST_KEYS / length;
            if self.n_tiles <= group {
                0
            } else {
                self.n_tiles.div_ceil(group) * length
            }
        };
        let lengths = (1..)
            .map(|i| 1 << i)
            .take_while(|length| *length <= MAX_LIST);
        lengths.map(of_length).max().unwrap_or(0)
    }

    /// Bytes of a sequence's scores, keys, joined keys and sums.
    fn bytes(&self) -> [u64; 4] {
        [
            4 * u64::from(self.n_vocab),
            u64::from(KEY_BYTES * MAX_LIST) * u64::from(self.n_tiles),
            u64::from(KEY_BYTES) * u64::from(self.joined_keys()),
            8 * u64::from(self.n_tiles),
        ]
    }

    /// Where they start for so many sequences, and where they end.
    fn places(&self, n_sequences: u64, scratch: DevicePtr) -> ([u64; 4], u64) {
        let mut end = scratch;
        let starts = self.bytes().map(|bytes| {
            let start = end;
            end = end.plus((n_sequences * bytes).next_multiple_of(256));
            start.0
        });
        (starts, end.0)
    }
}

/// The next token of each sequence.
pub(crate) fn sample(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let logits = View::new(DevicePtr(0), &request.input(1));
    let parts = Parts::of(logits.width());
    let (_, scratch) = parts.places(logits.rows(), DevicePtr(0));
    let reason = "the first of every tile, then a draw among those";
    let choice = Choice::new("sample/tiles", reason, move |args| {
        let (logits, cursor) = (args.input(1), args.output(0));
        let n = logits.rows();
        if n == 0 {
            return Vec::new();
        }
        let ([scores, keys, joined, sums], _) = parts.places(n, args.scratch);
        let [.., cursor_rows, _] = cursor.size;
        let params = SampleParams {
            logits,
            cursor: cursor.data,
            settings: args.input(2).data,
            seeds: args.input(3).data,
            fault: args.cell(0),
            scores,
            keys,
            joined,
            sums,
            n_sequences: n as i32,
            n_vocab: parts.n_vocab as i32,
            ring: cursor_rows.saturating_sub(4),
            n_tiles: parts.n_tiles as i32,
            joined_keys: parts.joined_keys() as i32,
            ..SampleParams::zeroed()
        };
        let n = n as u32;
        let mut all = vec![
            launch("sample_tiles", n * parts.n_tiles, &params),
            launch("sample_weights", n * parts.n_tiles, &params).shared(LIST_KEYS * KEY_BYTES),
        ];
        let mut round = 0;
        for n_lists in parts.joined.into_iter().take_while(|n| *n > 0) {
            if round > 0 {
                let params = SampleParams {
                    round,
                    n_lists: n_lists as i32,
                    ..params
                };
                let launch = launch("sample_join", n * n_lists, &params);
                all.push(launch.shared(LIST_KEYS * KEY_BYTES));
            }
            round += 1;
        }
        let params = SampleParams { round, ..params };
        all.push(launch("sample_choose", n, &params).shared(LIST_KEYS * KEY_BYTES));
        all
    });
    let role = "logits";
    Ok(choice
        .scratch(scratch)
        .fault(FaultKind::NotANumber { role }))
}

fn launch(kernel: &'static str, blocks: u32, params: &SampleParams) -> Launch {
    Launch::new(ModuleKey::plain("sample"), kernel, blocks, THREADS, params)
}

pub(crate) fn modules() -> Vec<ModuleKey> {
    vec![ModuleKey::plain("sample")]
}

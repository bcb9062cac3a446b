//! Real files, damaged at random: every one is read or refused, without a panic and without memory beyond its size.
//!
//! What a certain damage is called is tested in `gguf_suite/errors.rs`.

#![cfg(test)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use ggrs_model::gguf::{GgufFile, Value};
use proptest::prelude::*;

/// The system's allocator; it remembers how much the current thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(change: impl Fn(usize) -> usize) {
    // Ignored while a thread ends: its counters are gone then.
    let _ = HELD.try_with(|held| {
        held.set(change(held.get()));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|held| held.saturating_add(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(|held| held.saturating_sub(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `work` held at once, beyond what was held before.
fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    drop(work());
    PEAK.get() - before
}

/// Opens bytes as a file and looks at everything in it.
fn read_all(bytes: Vec<u8>) -> bool {
    let Ok(file) = GgufFile::from_bytes("damaged.gguf", bytes) else {
        return false;
    };
    for (key, value) in file.metadata().iter() {
        black_box((key, touch(value)));
    }
    black_box(
        file.metadata()
            .require::<u32>("qwen3moe.block_count")
            .is_ok(),
    );
    black_box(
        file.metadata()
            .require::<Vec<&str>>("tokenizer.ggml.tokens")
            .is_ok(),
    );
    for entry in file.tensors() {
        black_box((entry.n_elems(), entry.shape().len()));
        if let Ok(tensor) = file.tensor(entry.name()) {
            assert_eq!(Some(tensor.bytes.len()), entry.n_bytes());
            black_box(tensor.bytes.iter().fold(0u8, |sum, byte| sum ^ byte));
        }
    }
    true
}

fn touch(value: Value<'_>) -> usize {
    match value {
        Value::Str(text) => text.len(),
        Value::Array(array) => array.iter().map(touch).sum(),
        _ => 1,
    }
}

/// Memory that reading a file of this size may take: its bytes, as `from_bytes` keeps them, and as much for the
/// description of what is in them.
fn allowed(file_bytes: usize) -> usize {
    2 * file_bytes + 4096
}

/// A small model with many dtypes.
fn fixture() -> Vec<u8> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/qwen3moe/small-mix32.gguf"
    );
    std::fs::read(path).unwrap()
}

/// Where the data of that model begins: before are header, padding and all that a reader trusts.
const HEADER_BYTES: usize = 16_416;

/// One way to damage a file.
#[derive(Clone, Debug)]
enum Damage {
    SetByte(usize, u8),
    /// Sets the length, count, offset or type at a position; these are what a reader trusts.
    SetU64(usize, u64),
    SetU32(usize, u32),
    Truncate(usize),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    /// Copies a range over another place.
    Copy {
        from: usize,
        to: usize,
        len: usize,
    },
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let clamp = |at: usize| at.min(bytes.len());
        match *self {
            Self::SetByte(at, byte) => {
                if let Some(b) = bytes.get_mut(at) {
                    *b = byte;
                }
            }
            Self::SetU64(at, value) => overwrite(bytes, at, &value.to_le_bytes()),
            Self::SetU32(at, value) => overwrite(bytes, at, &value.to_le_bytes()),
            Self::Truncate(len) => bytes.truncate(len),
            Self::Insert(at, ref new) => {
                let at = clamp(at);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at, len) => {
                let range = clamp(at)..clamp(at + len);
                bytes.drain(range);
            }
            Self::Copy { from, to, len } => {
                let copied = bytes[clamp(from)..clamp(from + len)].to_vec();
                overwrite(bytes, to, &copied);
            }
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, new: &[u8]) {
    for (old, new) in bytes.iter_mut().skip(at).zip(new) {
        *old = *new;
    }
}

fn any_damage() -> impl Strategy<Value = Damage> {
    // Mostly the header, and there mostly the beginning.
    let at = || prop_oneof![2 => 0..64usize, 6 => 0..HEADER_BYTES, 1 => 0..400_000usize];
    let number = || {
        prop_oneof![
            0..300u64,
            any::<u64>(),
            (0..64u32).prop_map(|bit| 1 << bit),
            (0..64u64).prop_map(|below| u64::MAX - below),
        ]
    };
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::SetByte(at, byte)),
        (at(), number()).prop_map(|(at, value)| Damage::SetU64(at, value)),
        (at(), number()).prop_map(|(at, value)| Damage::SetU32(at, value as u32)),
        at().prop_map(Damage::Truncate),
        (at(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, new)| Damage::Insert(at, new)),
        (at(), 1..100usize).prop_map(|(at, len)| Damage::Remove(at, len)),
        (at(), at(), 1..64usize).prop_map(|(from, to, len)| Damage::Copy { from, to, len }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_damaged_file_is_read_or_refused(damages in prop::collection::vec(any_damage(), 1..4)) {
        let mut bytes = fixture();
        for damage in &damages {
            damage.apply(&mut bytes);
        }
        let limit = allowed(bytes.len());
        let peak = peak_of(|| read_all(bytes));
        prop_assert!(peak <= limit, "{peak} bytes held for a file of which {limit} are allowed");
    }

    #[test]
    fn random_bytes_after_a_valid_beginning_are_refused(
        n_tensors in 0..6u64,
        n_keys in 0..6u64,
        rest in prop::collection::vec(prop_oneof![3 => 0..3u8, 1 => any::<u8>()], 0..400),
    ) {
        let bytes = [&b"GGUF\x03\0\0\0"[..], &n_tensors.to_le_bytes(), &n_keys.to_le_bytes(), &rest].concat();
        let limit = allowed(bytes.len());
        let peak = peak_of(|| read_all(bytes));
        prop_assert!(peak <= limit, "{peak} bytes held for a file of which {limit} are allowed");
    }
}

#[test]
fn every_truncation_of_the_header_is_refused() {
    let whole = fixture();
    assert!(read_all(whole.clone()), "the fixture itself is valid");
    for len in 0..=HEADER_BYTES {
        assert!(
            !read_all(whole[..len].to_vec()),
            "the first {len} bytes were taken for a whole file"
        );
    }
    assert!(
        !read_all(whole[..whole.len() - 32].to_vec()),
        "a file that lacks data was taken for a whole one"
    );
}

#[test]
fn huge_counts_do_not_allocate() {
    // 16 MiB of zeros after a header that promises as much as could fit: short keys without names, then short tensors.
    let zeros = vec![0u8; 16 << 20];
    for (n_tensors, n_keys) in [
        (0u64, zeros.len() as u64 / 13),
        (zeros.len() as u64 / 24, 0),
    ] {
        let bytes = [
            &b"GGUF\x03\0\0\0"[..],
            &n_tensors.to_le_bytes(),
            &n_keys.to_le_bytes(),
            &zeros,
        ]
        .concat();
        let file_bytes = bytes.len();
        let peak = peak_of(|| assert!(!read_all(bytes)));
        assert!(
            peak <= file_bytes + 4096,
            "{peak} bytes held for {file_bytes} of input"
        );
    }
}

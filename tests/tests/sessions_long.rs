//! A session that runs long: memory and prepared steps stay what they are.
//!
//! Alone in its program, so that nobody else's memory is measured.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use ggrs_core::DType;
use ggrs_core::device::Precision;
use ggrs_model::{Logits, Session, SessionOptions, SlotId};
use ggrs_tests::fake::{FakeWorld, Point};
use ggrs_tests::placed::{argmax, load};

/// Bytes of the process that are in memory.
#[cfg(target_os = "linux")]
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status
        .lines()
        .find(|l| l.starts_with("VmRSS:"))
        .expect("a line of it");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<u64>().expect("a number") * 1024
}

/// 10,000 decode steps in two slots with rollbacks: no allocation on the device, no growth of the process.
#[test]
fn scenario_22404_22616_23264_ten_thousand_decode_steps() {
    let world = FakeWorld::uniform(1).unwrap();
    let device = world.open(0).unwrap();
    let model = load(
        "../../ggrs-cli/assets/demo-q8_0.gguf",
        device,
        Precision::Fast,
    );
    let options = SessionOptions {
        n_slots: 2,
        n_ctx: Some(192),
        n_batch: 64,
        kv_dtype: DType::F16,
        prompt_cache_bytes: 0,
    };
    let mut session = Session::new(&model, &options).unwrap();
    let checkpoints = [0, 1].map(|i| {
        let mut slot = session.slot(SlotId(i)).unwrap();
        slot.feed(&[1, 2, 3, 4], Logits::Last).unwrap();
        slot.checkpoint()
    });
    let mut next = [5, 6];
    let mut turn = |session: &mut Session, n: usize| {
        for step in 0..n {
            let slot = step % 2;
            if session.slot(SlotId(slot)).unwrap().tokens().len() == 192 {
                session.rollback(&checkpoints[slot]).unwrap();
            }
            let logits = session.step(&[(SlotId(slot), &[next[slot]])]).unwrap();
            next[slot] = argmax(&logits[0]);
        }
    };
    // Everything that is prepared once is prepared now.
    turn(&mut session, 500);
    let (held, allocated) = (world.held_bytes(0), world.count(Point::Alloc));
    #[cfg(target_os = "linux")]
    let resident = resident_bytes();
    turn(&mut session, 10_000);
    assert_eq!(world.held_bytes(0), held, "the device holds other memory");
    assert_eq!(
        world.count(Point::Alloc),
        allocated,
        "a step was prepared anew"
    );
    #[cfg(target_os = "linux")]
    {
        let grown = resident_bytes().saturating_sub(resident);
        assert!(grown < 1 << 20, "the process grew by {grown} bytes");
    }
    world.audit().unwrap();
}

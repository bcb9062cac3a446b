//! The choice of the next token: a phase that chooses for each sequence, and one that moves the cursors on.

use ggrs_core::Unsupported;
use ggrs_core::error::Fault;
use ggrs_core::ops::Sample;
use ggrs_core::sampling::{SampleSettings, choose, random};

use crate::kernel::{Choice, Kernel, Request};
use crate::part::Part;
use crate::view::{In, Out, ScratchLayout, Table};

/// The next token of each sequence.
pub(crate) fn sample(request: &Request<'_>) -> Result<Choice, Unsupported> {
    let logits = request.input(1);
    let n = logits.shape.dim(0).map_or(0, |d| d.bound());
    let mut scratch = ScratchLayout::new();
    let keys = scratch.table::<u64>(n, logits.shape.last().bound());
    let chosen = scratch.table::<i32>(n, 1);
    Ok(Choice::new(
        "sample/sequences",
        "each sequence for itself",
        scratch,
        move |args| ChooseTokens {
            cursor: args.input(0),
            logits: args.input(1),
            settings: args.input(2),
            seeds: args.input(3),
            next: args.output(0),
            keys: args.table(keys),
            chosen: args.table(chosen),
        },
    ))
}

struct ChooseTokens {
    cursor: In,
    logits: In,
    settings: In,
    seeds: In,
    next: Out,
    keys: Table<u64>,
    /// For each sequence; below 0 for padding.
    chosen: Table<i32>,
}

impl ChooseTokens {
    /// What a sequence's column has in a row.
    fn at(&self, row: usize, sequence: usize) -> i32 {
        i32::try_from(self.cursor.id(row, sequence)).unwrap_or(-1)
    }

    fn choose(&self, sequence: usize, keys: &mut [u64]) -> Result<i32, Fault> {
        if self.at(Sample::SLOT, sequence) < 0 {
            return Ok(-1);
        }
        let settings = self.settings.row::<f32>(sequence).try_into();
        let settings = SampleSettings::from(settings.unwrap_or([0.0; SampleSettings::N]));
        let ring = self.cursor.n_rows() - Sample::RING;
        let now = self.at(Sample::POSITION, sequence);
        let recent = (0..ring.min(settings.window as usize)).map(|i| {
            let position = now.wrapping_sub(i32::try_from(i).unwrap_or(0));
            self.at(ring_row(position, ring), sequence)
        });
        let draw = self.at(Sample::DRAWS, sequence) as u32;
        let random = random(self.seeds.id(0, sequence) as u64, draw);
        let token = choose(self.logits.row(sequence), recent, &settings, random, keys);
        let token = token.map_err(|_| Fault::NotANumber {
            role: "logits",
            row: sequence,
        })?;
        Ok(i32::try_from(token).unwrap_or(i32::MAX))
    }
}

/// The row of a position in a ring.
fn ring_row(position: i32, ring: usize) -> usize {
    let ring = i32::try_from(ring).unwrap_or(i32::MAX).max(1);
    Sample::RING + usize::try_from(position.rem_euclid(ring)).unwrap_or(0)
}

impl Kernel for ChooseTokens {
    fn phases(&self) -> usize {
        2
    }

    fn is_serial(&self, phase: usize) -> bool {
        phase == 1 || self.logits.n_rows() == 1
    }

    fn run(&self, phase: usize, part: &mut Part<'_>) -> Result<(), Fault> {
        if phase == 0 {
            let mut shares = part.work.chunks(self.logits.n_rows(), 1);
            while let Some(mut share) = shares.next() {
                for sequence in share.units() {
                    let token = self.choose(sequence, share.table(&self.keys, 1))?;
                    share.table(&self.chosen, 1).fill(token);
                }
            }
            return Ok(());
        }
        let n_rows = self.next.n_rows();
        let mut share = part.work.alone(1);
        if share.units().is_empty() {
            return Ok(());
        }
        let mut rows = share.rows(&self.next, n_rows);
        for (sequence, token) in self.chosen.read().iter().enumerate() {
            if *token < 0 {
                continue;
            }
            let mut set = |row: usize, change: &dyn Fn(i32) -> i32| {
                if let Some(at) = rows.row::<i32>(row).get_mut(sequence) {
                    *at = change(*at);
                }
            };
            let position = self.at(Sample::POSITION, sequence).wrapping_add(1);
            set(Sample::TOKEN, &|_| *token);
            set(Sample::POSITION, &|_| position);
            set(Sample::DRAWS, &|draws| draws.wrapping_add(1));
            if n_rows > Sample::RING {
                set(ring_row(position, n_rows - Sample::RING), &|_| *token);
            }
        }
        Ok(())
    }
}

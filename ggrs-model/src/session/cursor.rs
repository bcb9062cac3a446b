//! The cursor of a step that decodes by itself, as the host knows it: columns of sequences, moved on as the device does
//! it. It must not know devices.

use ggrs_core::ops::Sample;

use crate::blocks::N_RECENT;
use crate::sampling::Sampler;
use crate::tokenizer::TokenId;

/// Rows of a cursor.
const N_ROWS: usize = Sample::RING + N_RECENT;

/// What is no token.
const NONE: i32 = -1;

/// The columns of a cursor.
pub(super) struct Cursor {
    /// `[N_ROWS, n]`.
    cells: Vec<i32>,
    n: usize,
}

impl Cursor {
    /// A cursor of `n` columns that holds these bytes; without any, only padding.
    pub(super) fn holding(bytes: &[u8], n: usize) -> Self {
        let (held, _) = bytes.as_chunks();
        let mut cells: Vec<i32> = held.iter().map(|cell| i32::from_ne_bytes(*cell)).collect();
        if cells.len() != N_ROWS * n {
            cells = vec![NONE; N_ROWS * n];
            // Padding runs, too, and must be a token at a position.
            cells[..Sample::SLOT * n].fill(0);
        }
        Self { cells, n }
    }

    /// Can a cursor remember as many tokens as the sampler's settings ask for?
    pub(super) fn suits(sampler: &Sampler) -> bool {
        sampler.n_recent() <= N_RECENT
    }

    fn set(&mut self, row: usize, column: usize, value: usize) {
        self.cells[row * self.n + column] = value as i32;
    }

    /// Lets a column stand at a token of a slot.
    pub(super) fn place(
        &mut self,
        column: usize,
        slot: usize,
        (token, position): (TokenId, usize),
        sampler: &Sampler,
    ) {
        self.set(Sample::TOKEN, column, token as usize);
        self.set(Sample::POSITION, column, position);
        self.set(Sample::SLOT, column, slot);
        self.set(Sample::DRAWS, column, sampler.draws().1 as usize);
        // Places of the ring that nobody asks for stay as they are.
        let recent = sampler.recent().map(|token| token as i32);
        let recent = recent
            .chain(std::iter::repeat(NONE))
            .take(sampler.n_recent());
        for (i, token) in recent.enumerate() {
            let row = Sample::RING + (position + i * (N_RECENT - 1)) % N_RECENT;
            self.cells[row * self.n + column] = token;
        }
    }

    /// Makes padding of the columns from `first` on.
    pub(super) fn pad(&mut self, first: usize) {
        self.cells[Sample::SLOT * self.n..][first..self.n].fill(NONE);
    }

    /// Moves a column on to the token that was chosen for it.
    pub(super) fn move_on(&mut self, column: usize, token: TokenId) {
        let at = |row: usize| row * self.n + column;
        let position = self.cells[at(Sample::POSITION)] as usize + 1;
        let draws = self.cells[at(Sample::DRAWS)] as u32;
        self.set(Sample::TOKEN, column, token as usize);
        self.set(Sample::POSITION, column, position);
        self.set(Sample::DRAWS, column, draws.wrapping_add(1) as usize);
        self.set(Sample::RING + position % N_RECENT, column, token as usize);
    }

    /// As the device has it.
    pub(super) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::SamplerConfig;

    fn column(cursor: &Cursor, column: usize) -> Vec<i32> {
        let cells = cursor.cells.iter().skip(column).step_by(cursor.n);
        cells.copied().collect()
    }

    #[test]
    fn a_cursor_that_moved_on_stands_where_one_would_be_placed() {
        let config = SamplerConfig {
            repetition_penalty: 1.1,
            repetition_window: 3,
            ..SamplerConfig::default()
        };
        let mut sampler = Sampler::new(config, 0).unwrap();
        for token in [5, 6, 7, 8] {
            sampler.accept(token);
        }
        let mut cursor = Cursor::holding(&[], 2);
        cursor.place(1, 4, (8, 256), &sampler);
        cursor.pad(2);
        let first = column(&cursor, 1);
        assert_eq!(first[..5], [8, 256, 4, 0, 8]);
        assert_eq!(first[N_ROWS - 2..], [6, 7]);

        cursor.move_on(1, 9);
        sampler.accept_drawn(9);
        assert_eq!(column(&cursor, 1)[..6], [9, 257, 4, 1, 8, 9]);
        let mut placed = Cursor::holding(cursor.bytes(), 2);
        placed.place(1, 4, (9, 257), &sampler);
        assert_eq!(column(&cursor, 1), column(&placed, 1));
        assert_eq!(column(&cursor, 0)[..5], [0, 0, NONE, NONE, NONE]);
    }
}

//! The block formats as the integer kernel reads them: unsigned quants, scales and offsets of 16 rows of a packed block.
//!
//! Each format is the ggml struct of `ggrs_core::DType`, one statement per field, on 16 rows at once. A value is
//! `scale * (quant - zero) + offset`, with a scale (and offset) for each group of 32 elements or each half of one.

use ggrs_core::DType;

use super::lanes::Lanes;
use crate::formats::{E2M1_DOUBLED, IQ4_VALUES, e8m0_half};
use crate::pack::{GROUP_ELEMS, TILE_ROWS};

/// A packed block of 16 rows.
///
/// # Safety
/// The methods may be called where the level of `V` exists, with `block` readable for [`Block::BYTES`], `group` below
/// [`Block::GROUPS`], `step` below 8 and `half` below 2.
pub(super) trait Block {
    /// The format.
    const DTYPE: DType;
    /// Bytes of 16 packed blocks.
    const BYTES: usize = TILE_ROWS * Self::DTYPE.block_bytes();
    /// Groups of 32 elements in a block.
    const GROUPS: usize = Self::DTYPE.block_elems() / GROUP_ELEMS;
    /// No quant is above 63.
    const SMALL: bool = true;
    /// The quant that stands for zero is 2 to this power; `None` for 0.
    const ZERO: Option<u32> = None;
    /// Has each half of a group its own scale (and offset)?
    const HALVES: bool = false;
    /// Has the format offsets?
    const OFFSETS: bool = false;

    /// The unsigned quants of elements `32 * group + 4 * step ..` (4 of them) of every row.
    unsafe fn quants<V: Lanes>(block: *const u8, group: usize, step: usize) -> V;

    /// The scale of half a group, or of the group (`half` 0).
    unsafe fn scale<V: Lanes>(block: *const u8, group: usize, half: usize) -> V::Floats;

    /// What is added to every value of half a group, or of the group (`half` 0).
    #[inline(always)]
    unsafe fn offset<V: Lanes>(_block: *const u8, _group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { V::splat_float(0.0) }
    }
}

/// Word `idx` (4 bytes) of the field at byte `at` of the original block, of 16 rows.
#[inline(always)]
unsafe fn word<V: Lanes>(block: *const u8, at: usize, idx: usize) -> V {
    // SAFETY: the field is inside the block, so 16 times its offset is inside the packed one.
    unsafe { V::load(block.add(TILE_ROWS * (at + 4 * idx))) }
}

/// The F16 at byte `at` of the original block, of 16 rows.
#[inline(always)]
unsafe fn halves<V: Lanes>(block: *const u8, at: usize) -> V::Floats {
    // SAFETY: as in `word`.
    unsafe { V::load_halves(block.add(TILE_ROWS * at)) }
}

/// `words` shifted right, then reduced to the bits `mask` of each byte.
#[inline(always)]
unsafe fn bits<V: Lanes>(words: V, shift: usize, mask: u8) -> V {
    // SAFETY: the trait's contract; all shifts are below 32.
    unsafe { words.shr(shift as u32).and(V::splat_byte(mask)) }
}

/// `words` shifted right, then reduced to the low bits `mask` of the lane.
#[inline(always)]
unsafe fn field<V: Lanes>(words: V, shift: usize, mask: i32) -> V {
    // SAFETY: the trait's contract; all shifts are below 32.
    unsafe { words.shr(shift as u32).and(V::splat(mask)) }
}

/// Four-bit quants of the 32-element formats: byte `j` holds elements `j` and `j + 16`.
#[inline(always)]
unsafe fn nibbles32<V: Lanes>(block: *const u8, at: usize, step: usize) -> V {
    // SAFETY: word `step % 4` of four.
    unsafe { bits(word::<V>(block, at, step % 4), 4 * (step / 4), 15) }
}

/// The fifth bits of elements `4 * step ..`, as bit 4 of four bytes: `qh` has element `j`'s at bit `j`.
#[inline(always)]
unsafe fn fifth_bits32<V: Lanes>(block: *const u8, at: usize, step: usize) -> V {
    // SAFETY: the trait's contract.
    unsafe {
        let four = field(word::<V>(block, at, 0), 4 * step, 15);
        // Copies at bits 0, 7, 14 and 21 put bit i of the four at bit 8 * i.
        four.mul(V::splat(0x0020_4081)).and(V::splat_byte(1)).shl(4)
    }
}

/// Four-bit quants of Q4_K and Q5_K: 32 bytes for each 64 elements, low halves first.
#[inline(always)]
unsafe fn nibbles256<V: Lanes>(block: *const u8, at: usize, group: usize, step: usize) -> V {
    // SAFETY: word 8 * (group / 2) + step of 32.
    unsafe {
        bits(
            word::<V>(block, at, 8 * (group / 2) + step),
            4 * (group % 2),
            15,
        )
    }
}

/// Two-bit quants of Q2_K and Q3_K and bit pairs of Q6_K: 32 bytes for each 128 elements, 32 elements in each bit pair.
#[inline(always)]
unsafe fn pairs256<V: Lanes>(block: *const u8, at: usize, group: usize, step: usize) -> V {
    // SAFETY: word 8 * (group / 4) + step of 16.
    unsafe {
        bits(
            word::<V>(block, at, 8 * (group / 4) + step),
            2 * (group % 4),
            3,
        )
    }
}

/// The table with 2^zero added, so that its values are unsigned.
const fn unsigned_table(values: [i8; 16], zero: u32) -> [u8; 16] {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (values[i] as i16 + (1 << zero)) as u8;
        i += 1;
    }
    table
}

pub(super) struct Q4_0;
impl Block for Q4_0 {
    const DTYPE: DType = DType::Q4_0;
    const ZERO: Option<u32> = Some(3);

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, _group: usize, step: usize) -> V {
        // SAFETY: the trait's contract.
        unsafe { nibbles32(block, 2, step) }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, _group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { halves::<V>(block, 0) }
    }
}

pub(super) struct Q4_1;
impl Block for Q4_1 {
    const DTYPE: DType = DType::Q4_1;
    const OFFSETS: bool = true;

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, _group: usize, step: usize) -> V {
        // SAFETY: the trait's contract.
        unsafe { nibbles32(block, 4, step) }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, _group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { halves::<V>(block, 0) }
    }

    #[inline(always)]
    unsafe fn offset<V: Lanes>(block: *const u8, _group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { halves::<V>(block, 2) }
    }
}

pub(super) struct Q5_0;
impl Block for Q5_0 {
    const DTYPE: DType = DType::Q5_0;
    const ZERO: Option<u32> = Some(4);

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, _group: usize, step: usize) -> V {
        // SAFETY: the trait's contract.
        unsafe { nibbles32::<V>(block, 6, step).or(fifth_bits32(block, 2, step)) }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, _group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { halves::<V>(block, 0) }
    }
}

pub(super) struct Q5_1;
impl Block for Q5_1 {
    const DTYPE: DType = DType::Q5_1;
    const OFFSETS: bool = true;

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, _group: usize, step: usize) -> V {
        // SAFETY: the trait's contract.
        unsafe { nibbles32::<V>(block, 8, step).or(fifth_bits32(block, 4, step)) }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, _group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { halves::<V>(block, 0) }
    }

    #[inline(always)]
    unsafe fn offset<V: Lanes>(block: *const u8, _group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { halves::<V>(block, 2) }
    }
}

pub(super) struct Q8_0;
impl Block for Q8_0 {
    const DTYPE: DType = DType::Q8_0;
    const SMALL: bool = false;
    const ZERO: Option<u32> = Some(7);

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, _group: usize, step: usize) -> V {
        // SAFETY: the trait's contract.
        unsafe { word::<V>(block, 2, step).xor(V::splat_byte(0x80)) }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, _group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { halves::<V>(block, 0) }
    }
}

pub(super) struct Q2K;
impl Block for Q2K {
    const DTYPE: DType = DType::Q2_K;
    const HALVES: bool = true;
    const OFFSETS: bool = true;

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, group: usize, step: usize) -> V {
        // SAFETY: the trait's contract.
        unsafe { pairs256(block, 16, group, step) }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, group: usize, half: usize) -> V::Floats {
        // SAFETY: byte 2 * group + half of 16.
        unsafe {
            let scale = field(
                word::<V>(block, 0, group / 2),
                16 * (group % 2) + 8 * half,
                15,
            );
            V::mul_floats(scale.to_floats(), halves::<V>(block, 80))
        }
    }

    #[inline(always)]
    unsafe fn offset<V: Lanes>(block: *const u8, group: usize, half: usize) -> V::Floats {
        // SAFETY: byte 2 * group + half of 16.
        unsafe {
            let minimum = field(
                word::<V>(block, 0, group / 2),
                16 * (group % 2) + 8 * half + 4,
                15,
            );
            V::mul_floats(minimum.negate().to_floats(), halves::<V>(block, 82))
        }
    }
}

pub(super) struct Q3K;
impl Block for Q3K {
    const DTYPE: DType = DType::Q3_K;
    const ZERO: Option<u32> = Some(2);
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, group: usize, step: usize) -> V {
        // SAFETY: word `step` of 8.
        unsafe {
            let third = bits(word::<V>(block, 0, step), group, 1).shl(2);
            pairs256::<V>(block, 32, group, step).or(third)
        }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, group: usize, half: usize) -> V::Floats {
        // Scale g: four low bits in byte g % 8 (its half g / 8), two high ones in byte 8 + g % 4 (its pair g / 4).
        let g = 2 * group + half;
        // SAFETY: words 0 to 2 of three.
        unsafe {
            let low = field(
                word::<V>(block, 96, g % 8 / 4),
                8 * (g % 4) + 4 * (g / 8),
                15,
            );
            let high = field(word::<V>(block, 96, 2), 8 * (g % 4) + 2 * (g / 4), 3);
            let scale = low.or(high.shl(4)).add(V::splat(-32));
            V::mul_floats(scale.to_floats(), halves::<V>(block, 108))
        }
    }
}

/// Scale (`idx` 0) or minimum (`idx` 1) of a group of Q4_K and Q5_K: six bits of the 12 bytes at 4.
#[inline(always)]
unsafe fn six_bits<V: Lanes>(block: *const u8, group: usize, idx: usize) -> V {
    // SAFETY: words 0 to 2 of three.
    unsafe {
        let first = word::<V>(block, 4, idx);
        if group < 4 {
            field(first, 8 * group, 63)
        } else {
            let shift = 8 * (group - 4);
            let low = field(word::<V>(block, 4, 2), shift + 4 * idx, 15);
            low.or(field(first, shift + 6, 3).shl(4))
        }
    }
}

/// The scale of a group of Q4_K and Q5_K.
#[inline(always)]
unsafe fn scale45<V: Lanes>(block: *const u8, group: usize) -> V::Floats {
    // SAFETY: the trait's contract.
    unsafe {
        V::mul_floats(
            six_bits::<V>(block, group, 0).to_floats(),
            halves::<V>(block, 0),
        )
    }
}

/// Minus the minimum of a group of Q4_K and Q5_K.
#[inline(always)]
unsafe fn offset45<V: Lanes>(block: *const u8, group: usize) -> V::Floats {
    // SAFETY: the trait's contract.
    unsafe {
        V::mul_floats(
            six_bits::<V>(block, group, 1).negate().to_floats(),
            halves::<V>(block, 2),
        )
    }
}

pub(super) struct Q4K;
impl Block for Q4K {
    const DTYPE: DType = DType::Q4_K;
    const OFFSETS: bool = true;

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, group: usize, step: usize) -> V {
        // SAFETY: the trait's contract.
        unsafe { nibbles256(block, 16, group, step) }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { scale45::<V>(block, group) }
    }

    #[inline(always)]
    unsafe fn offset<V: Lanes>(block: *const u8, group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { offset45::<V>(block, group) }
    }
}

pub(super) struct Q5K;
impl Block for Q5K {
    const DTYPE: DType = DType::Q5_K;
    const OFFSETS: bool = true;

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, group: usize, step: usize) -> V {
        // SAFETY: word `step` of 8.
        unsafe {
            let fifth = bits(word::<V>(block, 16, step), group, 1).shl(4);
            nibbles256::<V>(block, 48, group, step).or(fifth)
        }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { scale45::<V>(block, group) }
    }

    #[inline(always)]
    unsafe fn offset<V: Lanes>(block: *const u8, group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { offset45::<V>(block, group) }
    }
}

pub(super) struct Q6K;
impl Block for Q6K {
    const DTYPE: DType = DType::Q6_K;
    const ZERO: Option<u32> = Some(5);
    const HALVES: bool = true;

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, group: usize, step: usize) -> V {
        // Of each 128 elements, the first 64 are in the low halves of 64 bytes, the others in the high halves.
        let (run, quarter) = (group / 4, group % 4);
        // SAFETY: word 16 * run + 8 * (quarter % 2) + step of 32.
        unsafe {
            let low = word::<V>(block, 0, 16 * run + 8 * (quarter % 2) + step);
            bits(low, 4 * (quarter / 2), 15).or(pairs256::<V>(block, 128, group, step).shl(4))
        }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, group: usize, half: usize) -> V::Floats {
        // Byte g of 16, sign-extended: xor and subtraction of the sign bit.
        let g = 2 * group + half;
        // SAFETY: word g / 4 of four.
        unsafe {
            let byte = field(word::<V>(block, 192, g / 4), 8 * (g % 4), 255);
            let scale = byte.xor(V::splat(128)).add(V::splat(-128));
            V::mul_floats(scale.to_floats(), halves::<V>(block, 208))
        }
    }
}

pub(super) struct Iq4Nl;
impl Block for Iq4Nl {
    const DTYPE: DType = DType::IQ4_NL;
    const SMALL: bool = false;
    const ZERO: Option<u32> = Some(7);

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, _group: usize, step: usize) -> V {
        // SAFETY: the trait's contract.
        unsafe { nibbles32::<V>(block, 2, step).lookup(const { &unsigned_table(IQ4_VALUES, 7) }) }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, _group: usize, _half: usize) -> V::Floats {
        // SAFETY: the trait's contract.
        unsafe { halves::<V>(block, 0) }
    }
}

pub(super) struct Iq4Xs;
impl Block for Iq4Xs {
    const DTYPE: DType = DType::IQ4_XS;
    const SMALL: bool = false;
    const ZERO: Option<u32> = Some(7);

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, group: usize, step: usize) -> V {
        // SAFETY: the four words of the group, of 32.
        unsafe {
            nibbles32::<V>(block, 8 + 16 * group, step)
                .lookup(const { &unsigned_table(IQ4_VALUES, 7) })
        }
    }

    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, group: usize, _half: usize) -> V::Floats {
        // SAFETY: the two bytes of high bits and the word of low ones are fields of the block.
        unsafe {
            let low = field(word::<V>(block, 4, 0), 4 * group, 15);
            let high = field(V::load_u16(block.add(TILE_ROWS * 2)), 2 * group, 3);
            let scale = low.or(high.shl(4)).add(V::splat(-32));
            V::mul_floats(scale.to_floats(), halves::<V>(block, 0))
        }
    }
}

pub(super) struct Mxfp4;
impl Block for Mxfp4 {
    const DTYPE: DType = DType::MXFP4;
    const ZERO: Option<u32> = Some(4);

    #[inline(always)]
    unsafe fn quants<V: Lanes>(block: *const u8, _group: usize, step: usize) -> V {
        // SAFETY: the trait's contract.
        unsafe { nibbles32::<V>(block, 1, step).lookup(const { &unsigned_table(E2M1_DOUBLED, 4) }) }
    }

    /// Half of the E8M0 scale.
    #[inline(always)]
    unsafe fn scale<V: Lanes>(block: *const u8, _group: usize, _half: usize) -> V::Floats {
        // SAFETY: 16 bytes of exponents begin the block; the local array is as long as a load.
        unsafe {
            let mut scales = [0.0_f32; TILE_ROWS];
            for (row, scale) in scales.iter_mut().enumerate() {
                *scale = e8m0_half(block.add(row).read());
            }
            V::load(scales.as_ptr().cast()).as_floats()
        }
    }
}

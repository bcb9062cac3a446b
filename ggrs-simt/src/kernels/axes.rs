//! Several tensors walked together: their axes, merged where all of them allow it, with what makes divisions cheap. The
//! twin of `axes.cuh`.

use bytemuck::{Pod, Zeroable};
use ggrs_core::DType;
use smallvec::SmallVec;

use crate::kernel::{Launch, ModuleKey};
use crate::params::View;

/// Tensors of a walk, at most.
pub(crate) const TENSORS: usize = 3;

/// Threads of a block where positions are shared out to threads.
pub(crate) const THREADS: u32 = 256;

/// What kernels divide, and divide by, is below this.
const LIMIT: u64 = 1 << 31;

/// `Divisor`: a number to divide by.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(crate) struct Divisor {
    n: u32,
    magic: u32,
    shift: u32,
}

impl Divisor {
    /// Division by `n`, from 1 to below 2^31.
    pub(crate) fn new(n: u64) -> Self {
        let n = n.clamp(1, LIMIT - 1);
        let shift = u64::BITS - (n - 1).leading_zeros();
        let magic = (((1 << shift) - n) << 32) / n + 1;
        Self {
            n: n as u32,
            magic: magic as u32,
            shift,
        }
    }
}

/// `Axes`: positions, and where each tensor is at them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(crate) struct Axes {
    n: i64,
    strides: [[i64; 5]; TENSORS],
    sizes: [Divisor; 5],
    n_axes: i32,
}

const _: () = assert!(size_of::<Axes>() == 192);

impl Axes {
    /// A launch with a thread for each position.
    pub(crate) fn launch<P: Pod>(
        &self,
        module: ModuleKey,
        kernel: &'static str,
        params: &P,
    ) -> Launch {
        Launch::new(module, kernel, self.blocks(THREADS), THREADS, params)
    }

    /// Blocks of so many positions each.
    pub(crate) fn blocks(&self, positions: u32) -> u32 {
        let blocks = self.n.unsigned_abs().div_ceil(u64::from(positions.max(1)));
        u32::try_from(blocks).unwrap_or(u32::MAX)
    }

    /// Positions.
    pub(crate) const fn n(&self) -> u64 {
        self.n.unsigned_abs()
    }
}

/// Bytes of an element of a float dtype.
pub(crate) const fn bytes_of_float(dtype: i32) -> u64 {
    if dtype == DType::F32 as i32 { 4 } else { 2 }
}

/// A tensor in memory, as far as it matters for loads of several neighbours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Which of the walk's tensors.
    pub(crate) tensor: usize,
    /// Address of its first element.
    pub(crate) data: u64,
    /// Bytes from one to the next where the stride is 1.
    pub(crate) bytes: u64,
}

/// One axis.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    size: u64,
    strides: [i64; TENSORS],
}

impl Axis {
    /// Is a step along `outer` the same as `size` steps along this axis?
    fn continues_in(&self, outer: &Self) -> bool {
        let size = i64::try_from(self.size).unwrap_or(i64::MAX);
        let mut pairs = self.strides.iter().zip(&outer.strides);
        pairs.all(|(inner, outer)| inner.checked_mul(size) == Some(*outer))
    }
}

/// A walk: axes of more than one position, the innermost first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Walk {
    axes: SmallVec<[Axis; 5]>,
}

/// Strides of a view; 0 along axes of size 1, which can be repeated.
pub(crate) fn strides(view: &View) -> [i64; 5] {
    let mut strides = view.stride;
    for (stride, size) in strides.iter_mut().zip(view.size) {
        if size == 1 {
            *stride = 0;
        }
    }
    strides
}

impl Walk {
    /// A walk over positions of these sizes, outermost first.
    pub(crate) fn new(sizes: &[u64], strides: [[i64; 5]; TENSORS]) -> Self {
        let mut axes: SmallVec<[Axis; 5]> = SmallVec::new();
        let outermost = sizes.iter().position(|n| *n != 1);
        for (i, size) in sizes.iter().enumerate().rev().filter(|(_, n)| **n != 1) {
            let axis = Axis {
                size: *size,
                strides: strides.map(|s| s.get(i).copied().unwrap_or(0)),
            };
            match axes.last_mut() {
                // What is divided by stays small.
                Some(inner)
                    if inner.continues_in(&axis)
                        && (outermost == Some(i)
                            || inner.size.saturating_mul(axis.size) < LIMIT) =>
                {
                    inner.size = inner.size.saturating_mul(axis.size);
                }
                _ => axes.push(axis),
            }
        }
        Self { axes }
    }

    /// A walk over the elements of a shape; tensors that are not there stay where they are.
    pub(crate) fn elements(shape: &View, tensors: [Option<&View>; TENSORS]) -> Self {
        let sizes = shape.size.map(|n| u64::from(n.unsigned_abs()));
        Self::new(&sizes, tensors.map(|t| t.map_or([0; 5], strides)))
    }

    /// A walk over the rows of a shape.
    pub(crate) fn rows(shape: &View, tensors: [Option<&View>; TENSORS]) -> Self {
        let mut sizes = shape.size.map(|n| u64::from(n.unsigned_abs()));
        sizes[4] = 1;
        Self::new(&sizes, tensors.map(|t| t.map_or([0; 5], strides)))
    }

    /// The same walk in steps of `n` neighbours, if each of these tensors has them side by side, aligned for one load, or
    /// one for all.
    pub(crate) fn in_steps(&self, n: u64, places: &[Place]) -> Option<Self> {
        let mut steps = self.clone();
        let (last, outer) = steps.axes.split_first_mut()?;
        if last.size % n != 0 {
            return None;
        }
        last.size /= n;
        let step = i64::try_from(n).ok()?;
        for place in places {
            let stride = last.strides.get_mut(place.tensor)?;
            let mut strides = outer.iter().filter_map(|a| a.strides.get(place.tensor));
            match *stride {
                0 => {}
                1 if place.data % (n * place.bytes) == 0 && strides.all(|s| s % step == 0) => {
                    *stride = step;
                }
                _ => return None,
            }
        }
        Some(steps)
    }

    /// The walk for a kernel.
    pub(crate) fn axes(&self) -> Axes {
        let mut axes = Axes {
            n: 1,
            strides: [[0; 5]; TENSORS],
            sizes: [Divisor::new(1); 5],
            n_axes: i32::try_from(self.axes.len()).unwrap_or(5).max(1),
        };
        let n: u64 = self.axes.iter().map(|a| a.size).product();
        axes.n = i64::try_from(n).unwrap_or(i64::MAX);
        for (axis, at) in self.axes.iter().zip((0..5).rev()) {
            if let Some(size) = axes.sizes.get_mut(at) {
                *size = Divisor::new(axis.size);
            }
            for (to, from) in axes.strides.iter_mut().zip(axis.strides) {
                if let Some(to) = to.get_mut(at) {
                    *to = from;
                }
            }
        }
        axes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_divide() {
        let numbers = [1, 2, 3, 7, 8, 9, 100, 641, 65_535, 1 << 20, (1 << 31) - 1];
        for n in numbers {
            let d = Divisor::new(n);
            for i in numbers.iter().flat_map(|i| [i - 1, *i, (1 << 31) - i]) {
                let high = (i * u64::from(d.magic)) >> 32;
                assert_eq!((high + i) >> d.shift, i / n, "{i} / {n}");
            }
        }
    }

    #[test]
    fn axes_are_merged_where_all_tensors_allow_it() {
        let gapless = [60, 20, 5, 1, 1];
        let walk = Walk::new(&[2, 3, 4, 5, 1], [gapless; 3]);
        assert_eq!(walk.axes().n_axes, 1);
        assert_eq!(walk.axes().n, 120);
        // One row for all.
        let repeated = [0, 0, 0, 1, 1];
        let walk = Walk::new(&[2, 3, 4, 5, 1], [gapless, repeated, gapless]);
        assert_eq!(walk.axes().n_axes, 2);
        assert_eq!(walk.axes().strides[1], [0, 0, 0, 0, 1]);
        assert_eq!(walk.axes().strides[0], [0, 0, 0, 5, 1]);
    }

    #[test]
    fn steps_need_neighbours_that_are_aligned() {
        let place = |tensor, data| Place {
            tensor,
            data,
            bytes: 4,
        };
        let walk = Walk::new(&[3, 8], [[8, 1, 0, 0, 0], [1, 0, 0, 0, 0], [9, 1, 0, 0, 0]]);
        let steps = walk.in_steps(4, &[place(0, 32), place(1, 4)]).unwrap();
        assert_eq!(steps.axes().n, 6);
        assert_eq!(steps.axes().strides[0], [0, 0, 0, 8, 4]);
        assert!(walk.in_steps(4, &[place(0, 36)]).is_none());
        assert!(walk.in_steps(4, &[place(2, 32)]).is_none());
        assert!(walk.in_steps(3, &[place(0, 48)]).is_none());
    }
}

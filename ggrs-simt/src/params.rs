//! Parameter blocks: what the host writes and a kernel reads, the same bytes on both sides. `prelude.cuh` has the twin
//! of each struct; sizes are asserted here and there.

use bytemuck::{Pod, Zeroable};
use ggrs_core::{DType, TensorDesc};

use crate::driver::DevicePtr;

/// `View`: a tensor of up to 5 axes, outermost first, missing axes in front with size 1; strides in elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub(crate) struct View {
    /// Address of the first element.
    pub(crate) data: u64,
    pub(crate) stride: [i64; 5],
    pub(crate) size: [i32; 5],
    /// Position in [`DType::ALL`].
    pub(crate) dtype: i32,
}

/// `FaultCell`: where a launch reports bad data.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub(crate) struct FaultCell {
    /// Device memory: the least row with a fault, and its index.
    pub(crate) least: u64,
    /// Host memory: set if there was any.
    pub(crate) flag: u64,
}

const _: () = assert!(size_of::<View>() == 72);
const _: () = assert!(size_of::<FaultCell>() == 16);

/// The number of a dtype in kernels.
pub(crate) fn dtype_number(dtype: DType) -> i32 {
    dtype as i32
}

impl View {
    /// The view of a tensor whose storage starts at `storage`. Axes fit: [`crate::routes::choose`] refuses longer ones.
    pub(crate) fn new(storage: DevicePtr, desc: &TensorDesc) -> Self {
        let sizes = desc.shape.sizes();
        let strides = desc.layout.strides();
        let mut view = Self {
            data: storage.0,
            stride: [0; 5],
            size: [1; 5],
            dtype: dtype_number(desc.dtype),
        };
        let lead = 5usize.saturating_sub(sizes.len());
        let axes = view.size.iter_mut().zip(&mut view.stride).skip(lead);
        for ((to_size, to_stride), (size, stride)) in axes.zip(sizes.iter().zip(strides)) {
            *to_size = i32::try_from(*size).unwrap_or(i32::MAX);
            *to_stride = i64::try_from(*stride).unwrap_or(i64::MAX);
        }
        // An empty view may begin behind the end of its storage.
        if view.size.iter().all(|n| *n > 0) {
            let skip = desc.elem_bytes(desc.layout.offset()).unwrap_or(0);
            view.data = view.data.wrapping_add(skip as u64);
        }
        view
    }

    /// Elements.
    pub(crate) fn elems(&self) -> u64 {
        self.size
            .iter()
            .map(|n| u64::from(n.unsigned_abs()))
            .product()
    }

    /// Rows: all axes but the last.
    pub(crate) fn rows(&self) -> u64 {
        let [outer @ .., _] = &self.size;
        outer.iter().map(|n| u64::from(n.unsigned_abs())).product()
    }

    /// Elements from each row to the next, if they are the same for all rows.
    pub(crate) fn row_pitch(&self) -> Option<i64> {
        let ([strides @ .., _], [sizes @ .., _]) = (&self.stride, &self.size);
        let axes = strides.iter().zip(sizes).rev().filter(|(_, n)| **n != 1);
        let mut pitch = None;
        let mut rows = 1;
        for (stride, n) in axes {
            let expected = pitch.get_or_insert(*stride).saturating_mul(rows);
            if *stride != expected {
                return None;
            }
            rows = rows.saturating_mul(i64::from(*n));
        }
        Some(pitch.unwrap_or_else(|| self.width().into()))
    }

    /// Are the elements of a row neighbours?
    pub(crate) const fn has_neighbours(&self) -> bool {
        self.stride[4] == 1 || self.size[4] == 1
    }

    /// Size of the last axis.
    pub(crate) const fn width(&self) -> u32 {
        self.size[4].unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dtypes_are_numbered_as_the_prelude_lists_them() {
        let prelude = include_str!("../kernels/prelude.cuh");
        let list = prelude.split("enum DType {").nth(1).unwrap();
        let list = list.split('}').next().unwrap();
        let names: Vec<&str> = list.split(',').map(str::trim).collect();
        let ours: Vec<&str> = DType::ALL.iter().map(|d| d.name()).collect();
        assert_eq!(names, ours);
        for (i, dtype) in DType::ALL.into_iter().enumerate() {
            assert_eq!(dtype_number(dtype), i as i32);
        }
    }
}

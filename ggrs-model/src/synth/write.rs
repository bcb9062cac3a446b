//! From a specification to a file: outline, dtypes, then weights as a stream.
//!
//! What tensors an architecture has, and what blocks look like, is not known here.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use ggrs_core::DType;
use rand::RngExt;

use crate::gguf::writer::{GgufHeader, GgufWriter, WriteError};

use super::blocks::normals;
use super::error::SynthError;
use super::mix::Mix;
use super::outline::{Fill, Outline, OutlineTensor};
use super::pool::{Pools, stream};
use super::presets::Preset;
use super::vocab::Vocab;

/// The most layers that are written.
const MAX_LAYERS: usize = 1024;
/// What no rotation costs: angles divided by this are 0.
const NO_ROTATION: f32 = 1e30;

/// Which synthetic model to write. Equal specifications give equal bytes.
#[derive(Clone, Copy, Debug)]
pub struct SynthSpec {
    /// The model whose shape it has.
    pub preset: Preset,
    /// How its weights are quantized.
    pub mix: Mix,
    /// What vocabulary it has.
    pub vocab: Vocab,
    /// Another number of layers than the preset has. Layers that only draft are not counted, and always written.
    pub n_layers: Option<usize>,
    /// Where random numbers begin.
    pub seed: u64,
}

impl SynthSpec {
    /// The preset as it is, without a vocabulary, with seed 0.
    pub const fn new(preset: Preset, mix: Mix) -> Self {
        Self {
            preset,
            mix,
            vocab: Vocab::None,
            n_layers: None,
            seed: 0,
        }
    }
}

/// What a synthetic model consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynthReport {
    /// Size of the file.
    pub file_bytes: u64,
    /// Number of weights.
    pub n_params: u64,
    /// Number of tensors.
    pub n_tensors: usize,
    /// Bytes of weights in each dtype that occurs, in the order of [`DType::ALL`].
    pub bytes_by_dtype: Vec<(DType, u64)>,
}

/// A tensor with all that is decided about it.
struct PlannedTensor {
    outline: OutlineTensor,
    dtype: DType,
    n_bytes: u64,
}

/// A model with all that is decided about it.
struct Plan {
    header: GgufHeader,
    tensors: Vec<PlannedTensor>,
}

/// Says what [`write()`] would write.
///
/// # Errors
/// The number of layers is not possible.
pub fn describe(spec: &SynthSpec) -> Result<SynthReport, SynthError> {
    Ok(plan(spec)?.report())
}

/// Writes a synthetic model to a file, replacing what was there once all is written. `progress` is told the bytes of
/// weights written so far, and all there will be.
///
/// # Errors
/// The number of layers is not possible, or the system cannot create or write the file.
pub fn write(
    spec: &SynthSpec,
    path: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<SynthReport, SynthError> {
    let path = path.as_ref();
    let mut partial_name = path.file_name().unwrap_or_default().to_os_string();
    partial_name.push(".partial");
    let partial = path.with_file_name(partial_name);
    let create_error = |source: io::Error| SynthError::Create {
        path: path.into(),
        source,
    };

    let file = File::create(&partial).map_err(create_error)?;
    let written = write_to(spec, file, progress).and_then(|(report, _)| {
        fs::rename(&partial, path)
            .map(|()| report)
            .map_err(create_error)
    });
    if written.is_err() {
        // The first error is the one to report; a file left behind is harmless.
        fs::remove_file(&partial).ok();
    }
    written
}

/// Writes a synthetic model as a stream, in pieces of up to 4 MiB, and gives the sink back.
///
/// # Errors
/// The number of layers is not possible, or the sink fails.
pub fn write_to<W: Write>(
    spec: &SynthSpec,
    sink: W,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(SynthReport, W), SynthError> {
    let plan = plan(spec)?;
    let report = plan.report();
    let largest = plan
        .tensors
        .iter()
        .map(|tensor| tensor.n_bytes)
        .max()
        .unwrap_or(0);
    let mut weights = WeightWriter {
        total: plan.tensors.iter().map(|tensor| tensor.n_bytes).sum(),
        done: 0,
        seed: spec.seed,
        pools: Pools::new(spec.seed, largest),
        sink: plan.header.write_to(sink)?,
        progress,
    };
    for tensor in &plan.tensors {
        weights.write(tensor)?;
    }
    Ok((report, weights.sink.finish()?))
}

fn plan(spec: &SynthSpec) -> Result<Plan, SynthError> {
    let mut model = spec.preset.model();
    if let Some(n_layers) = spec.n_layers {
        *model.n_layers() = n_layers;
    }
    let n_layers = *model.n_layers();
    if !(1..=MAX_LAYERS).contains(&n_layers) {
        return Err(SynthError::LayerCount {
            found: n_layers,
            max: MAX_LAYERS,
        });
    }

    let mut out = Outline::new(model.arch());
    out.header.set("general.architecture", model.arch())?;
    out.header.set("general.type", "model")?;
    out.header
        .set("general.name", format!("synthetic {}", spec.preset.name()))?;
    out.header.set("general.quantization_version", 2u32)?;
    out.header.set("general.file_type", spec.mix.file_type())?;
    model.outline(&mut out)?;
    spec.vocab.write_keys(model.vocab(), &mut out.header)?;

    let Outline {
        mut header,
        tensors,
        ..
    } = out;
    let decide = |outline: OutlineTensor| {
        let row_elems = outline.shape.last().copied().unwrap_or(1);
        let dtype = spec
            .mix
            .dtype(outline.role, outline.layer, n_layers, row_elems);
        let n_bytes = header.tensor(&outline.name, dtype, &outline.shape)?;
        Ok(PlannedTensor {
            outline,
            dtype,
            n_bytes,
        })
    };
    let tensors = tensors
        .into_iter()
        .map(decide)
        .collect::<Result<_, WriteError>>()?;
    Ok(Plan { header, tensors })
}

impl Plan {
    fn report(&self) -> SynthReport {
        let bytes_of = |dtype| {
            self.tensors
                .iter()
                .filter(|t| t.dtype == dtype)
                .map(|t| t.n_bytes)
                .sum()
        };
        SynthReport {
            file_bytes: self.header.file_bytes(),
            n_params: self
                .tensors
                .iter()
                .map(|t| t.outline.shape.iter().product::<usize>() as u64)
                .sum(),
            n_tensors: self.tensors.len(),
            bytes_by_dtype: DType::ALL
                .map(|dtype| (dtype, bytes_of(dtype)))
                .into_iter()
                .filter(|d| d.1 > 0)
                .collect(),
        }
    }
}

/// Writes weights one after the other.
struct WeightWriter<'a, W: Write> {
    sink: GgufWriter<W>,
    pools: Pools,
    seed: u64,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl<W: Write> WeightWriter<'_, W> {
    fn write(
        &mut self,
        PlannedTensor {
            outline,
            dtype,
            n_bytes,
        }: &PlannedTensor,
    ) -> Result<(), WriteError> {
        let n_elems = outline.shape.iter().product();
        let mut rng = stream(self.seed, &outline.name);
        match outline.fill {
            Fill::Weight { std } => {
                let mut left = *n_bytes;
                while left > 0 {
                    let piece = self.pools.piece(*dtype, std, left, &mut rng);
                    self.sink.write(piece)?;
                    left -= piece.len() as u64;
                    self.done += piece.len() as u64;
                    (self.progress)(self.done, self.total);
                }
                Ok(())
            }
            Fill::Uniform { low, high } => {
                self.write_f32((0..n_elems).map(|_| rng.random_range(low..high)))
            }
            Fill::Normal { std } => self.write_f32(normals(n_elems, std, &mut rng)),
            Fill::RopeFactors { n_rotated } => {
                self.write_f32((0..n_elems).map(|i| if i < n_rotated { 1.0 } else { NO_ROTATION }))
            }
        }
    }

    fn write_f32(&mut self, values: impl Iterator<Item = f32>) -> Result<(), WriteError> {
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        self.sink.write(&bytes)?;
        self.done += bytes.len() as u64;
        (self.progress)(self.done, self.total);
        Ok(())
    }
}

//! Which kernels a fake device pretends to have: refusals as data, decided on the operands that the device really sees.

use std::borrow::Cow;

use ggrs_core::device::{Route, RouteRequest};
use ggrs_core::error::{Refusal, RefusalReason};
use ggrs_core::ops::Op;
use ggrs_core::{DType, TensorDesc, Unsupported};

/// When a kernel refuses.
#[derive(Clone, Debug)]
pub enum Refuse {
    /// Always.
    Always,
    /// The op's stem is this one.
    Op(&'static str),
    /// An operand has this dtype.
    DType(DType),
    /// Keys or values of an attention have another dtype than these.
    KvDTypeNotIn(&'static [DType]),
    /// The key width of an attention is none of these.
    HeadWidthNotIn(&'static [usize]),
    /// The query heads per key head of an attention are none of these.
    GqaRatioNotIn(&'static [usize]),
    /// The keys or cells of an attention are not a multiple of this.
    KvCellsNotMultipleOf(usize),
    /// An operand is not contiguous.
    Strided,
    /// An attention has no query heads.
    NoHeads,
    /// All of these refuse; the reason is the last one's.
    All(Vec<Refuse>),
    /// One of these refuses; the reason is the first one's that does.
    Any(Vec<Refuse>),
}

/// An attention's operands as masks look at them.
struct AttentionSizes<'a> {
    keys: &'a TensorDesc,
    values: &'a TensorDesc,
    n_heads: usize,
    n_kv_heads: usize,
    key_width: usize,
    n_cells: usize,
}

impl<'a> AttentionSizes<'a> {
    /// `None` for other ops.
    fn of(request: &RouteRequest<'a>) -> Option<Self> {
        let (Op::Attention(_), [queries, keys, values, ..]) = (request.op, request.inputs) else {
            return None;
        };
        // Dense and paged operands end alike: [.., tokens or cells, heads, width].
        let from_end = |desc: &TensorDesc, i: usize| {
            let sizes = desc.shape.sizes();
            let axis = sizes.len().checked_sub(i + 1);
            axis.and_then(|axis| sizes.get(axis)).copied().unwrap_or(0)
        };
        Some(Self {
            n_heads: from_end(queries, 1),
            n_kv_heads: from_end(keys, 1),
            key_width: from_end(keys, 0),
            n_cells: from_end(keys, 2),
            keys,
            values,
        })
    }
}

fn not_in(what: &'static str, got: usize, of: &'static [usize]) -> Option<RefusalReason> {
    (!of.contains(&got)).then_some(RefusalReason::OneOf { what, got, of })
}

impl Refuse {
    /// Why a kernel refuses these operands, if it does.
    pub fn reason(&self, request: &RouteRequest<'_>) -> Option<RefusalReason> {
        let masked = |needs| Some(RefusalReason::Feature { needs });
        let roles = request.op.spec().roles();
        let role = |i: usize| roles.get(i).or(roles.last()).copied().unwrap_or("operand");
        let attention = || AttentionSizes::of(request);
        match self {
            Self::Always => masked("hardware that the fake device lacks"),
            Self::Op(stem) if *stem == request.op.spec().stem() => {
                masked("hardware that the fake device lacks")
            }
            Self::Op(_) => None,
            Self::DType(dtype) => {
                let i = request.inputs.iter().position(|x| x.dtype == *dtype)?;
                let (role, dtype) = (role(i), *dtype);
                Some(RefusalReason::DType { role, dtype })
            }
            Self::KvDTypeNotIn(dtypes) => {
                let sizes = attention()?;
                let kv = [(1, sizes.keys.dtype), (2, sizes.values.dtype)];
                let (i, dtype) = kv.into_iter().find(|(_, dtype)| !dtypes.contains(dtype))?;
                let role = role(i);
                Some(RefusalReason::DType { role, dtype })
            }
            Self::HeadWidthNotIn(of) => not_in("head width", attention()?.key_width, of),
            Self::GqaRatioNotIn(of) => {
                let AttentionSizes {
                    n_heads,
                    n_kv_heads,
                    ..
                } = attention()?;
                let ratio = n_heads.checked_div(n_kv_heads).unwrap_or(0);
                not_in("query heads per key head", ratio, of)
            }
            Self::KvCellsNotMultipleOf(of) => {
                let (what, got, of) = ("number of keys", attention()?.n_cells, (*of).max(1));
                (got % of != 0).then_some(RefusalReason::Multiple { what, got, of })
            }
            Self::Strided => {
                let i = request.inputs.iter().position(|x| !x.is_contiguous())?;
                Some(RefusalReason::Strided { role: role(i) })
            }
            Self::NoHeads => (attention()?.n_heads == 0).then_some(RefusalReason::Empty {
                what: "query heads",
            }),
            Self::All(all) => {
                let reasons: Option<Vec<_>> = all.iter().map(|r| r.reason(request)).collect();
                reasons?.pop()
            }
            Self::Any(any) => any.iter().find_map(|r| r.reason(request)),
        }
    }
}

/// A kernel that the device pretends to prefer to the CPU's own. It computes the same.
#[derive(Clone, Debug)]
pub struct FastKernel {
    /// Its name in plans: `fast_attention`.
    pub name: &'static str,
    /// The op it is for.
    pub stem: &'static str,
    /// When it is not taken.
    pub refuses: Refuse,
}

/// The kernels of a device.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    /// Asked first, in order.
    pub fast: Vec<FastKernel>,
    /// When the CPU's own kernels are not taken either.
    pub refuses: Vec<Refuse>,
}

impl Mask {
    /// A device that refuses, with whatever kernel.
    pub fn refusing(refuses: impl IntoIterator<Item = Refuse>) -> Self {
        Self {
            fast: Vec::new(),
            refuses: refuses.into_iter().collect(),
        }
    }

    /// With a kernel that is asked before the CPU's own.
    #[must_use]
    pub fn with_fast(mut self, name: &'static str, stem: &'static str, refuses: Refuse) -> Self {
        self.fast.push(FastKernel {
            name,
            stem,
            refuses,
        });
        self
    }

    /// Is this the name of a kernel that the CPU does not have?
    pub(super) fn is_fast(&self, kernel: &str) -> bool {
        self.fast.iter().any(|fast| fast.name == kernel)
    }

    /// What the device says when the CPU says `own`: the first kernel that takes it, or every refusal.
    pub(super) fn route(
        &self,
        request: &RouteRequest<'_>,
        own: Result<Route, Unsupported>,
    ) -> Result<Route, Unsupported> {
        // What the CPU cannot compute, a kernel that only pretends cannot either.
        let own = own?;
        let stem = request.op.spec().stem();
        let mut candidates = Vec::new();
        for fast in self.fast.iter().filter(|fast| fast.stem == stem) {
            match fast.refuses.reason(request) {
                None => {
                    return Ok(Route {
                        kernel: Cow::Borrowed(fast.name),
                        ..own
                    });
                }
                Some(reason) => candidates.push(Refusal {
                    kernel: fast.name,
                    reason,
                }),
            }
        }
        if let Some(reason) = self.refuses.iter().find_map(|r| r.reason(request)) {
            let kernel = match own.kernel {
                Cow::Borrowed(name) => name,
                Cow::Owned(_) => stem,
            };
            candidates.push(Refusal { kernel, reason });
            return Err(Unsupported { candidates });
        }
        let refused: Vec<String> = candidates
            .iter()
            .map(|c| format!("{} {}", c.kernel, c.reason))
            .collect();
        if refused.is_empty() {
            return Ok(own);
        }
        let reason = format!("{}; {}", own.reason, refused.join("; "));
        Ok(Route {
            reason: reason.into(),
            ..own
        })
    }
}

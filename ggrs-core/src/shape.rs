//! Shapes: fixed or symbolic dimensions, outermost axis first. There is no symbolic algebra: a symbol is equal to
//! itself and to nothing else.

use std::fmt;

use smallvec::SmallVec;

use crate::SymbolId;

/// The most axes a tensor can have.
pub const MAX_RANK: usize = 5;

/// A named dimension whose size is chosen when a graph is bound (a bucket), between 1 and `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Symbol {
    /// Identity inside the graph.
    pub id: SymbolId,
    /// Name in messages and dumps.
    pub name: &'static str,
    /// Largest size.
    pub max: usize,
}

/// The size of one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum Dim {
    /// A known size.
    Fixed(usize),
    /// A size known when the graph is bound.
    Sym(Symbol),
}

impl Dim {
    /// The size, or a symbol's largest size.
    pub const fn bound(self) -> usize {
        match self {
            Self::Fixed(n) => n,
            Self::Sym(s) => s.max,
        }
    }

    /// The size if it is known.
    pub const fn fixed(self) -> Option<usize> {
        match self {
            Self::Fixed(n) => Some(n),
            Self::Sym(_) => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::Fixed(n)
    }
}

impl From<Symbol> for Dim {
    fn from(s: Symbol) -> Self {
        Self::Sym(s)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Sym(s) => write!(f, "{}<={}", s.name, s.max),
        }
    }
}

/// A tensor's dimensions, outermost first; the last axis is the contiguous one of a fresh tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(SmallVec<[Dim; 4]>);

impl Shape {
    /// A shape from its dimensions.
    pub fn new(dims: impl IntoIterator<Item = impl Into<Dim>>) -> Self {
        Self(dims.into_iter().map(Into::into).collect())
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// The size of `axis`, if there is such an axis.
    pub fn dim(&self, axis: usize) -> Option<Dim> {
        self.0.get(axis).copied()
    }

    /// The size of the last axis; 1 for a scalar.
    pub fn last(&self) -> Dim {
        self.0.last().copied().unwrap_or(Dim::Fixed(1))
    }

    /// All axes but the last `n`.
    pub fn leading(&self, n: usize) -> &[Dim] {
        self.0
            .get(..self.0.len().saturating_sub(n))
            .unwrap_or_default()
    }

    /// The sizes with every symbol at its largest, or, in a bound graph, simply the sizes.
    pub fn sizes(&self) -> SmallVec<[usize; 4]> {
        self.0.iter().map(|d| d.bound()).collect()
    }

    /// Number of elements (symbols at their largest), or `None` on overflow.
    pub fn elems(&self) -> Option<usize> {
        self.0
            .iter()
            .try_fold(1usize, |n, d| n.checked_mul(d.bound()))
    }

    /// Does any axis still depend on a symbol?
    pub fn is_symbolic(&self) -> bool {
        self.0.iter().any(|d| matches!(d, Dim::Sym(_)))
    }

    /// Do both shapes hold the same number of elements for every value of their symbols?
    pub fn same_elems(&self, other: &Self) -> bool {
        let split = |shape: &Self| {
            let mut symbols: SmallVec<[SymbolId; 4]> = SmallVec::new();
            let mut fixed = Some(1usize);
            for d in &shape.0 {
                match d {
                    Dim::Fixed(n) => fixed = fixed.and_then(|f| f.checked_mul(*n)),
                    Dim::Sym(s) => symbols.push(s.id),
                }
            }
            symbols.sort_unstable();
            (fixed, symbols)
        };
        let (a, b) = (split(self), split(other));
        a.0.is_some() && a == b
    }

    /// This shape with `axis` set to `dim`; unchanged if there is no such axis.
    #[must_use]
    pub fn with(mut self, axis: usize, dim: impl Into<Dim>) -> Self {
        if let Some(d) = self.0.get_mut(axis) {
            *d = dim.into();
        }
        self
    }

    /// This shape without `axis`; unchanged if there is no such axis.
    #[must_use]
    pub fn without(mut self, axis: usize) -> Self {
        if axis < self.0.len() {
            self.0.remove(axis);
        }
        self
    }
}

impl<D: Into<Dim>, const N: usize> From<[D; N]> for Shape {
    fn from(dims: [D; N]) -> Self {
        Self::new(dims)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self::new(dims.iter().copied())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

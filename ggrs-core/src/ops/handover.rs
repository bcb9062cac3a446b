//! Values that cross from one device's graph to another's. The scheduler puts these in; whoever runs the graphs
//! moves the bytes between two runs of steps, so that no device needs a kernel for them.

use crate::ops::operands::{fresh, one};
use crate::ops::{OpSpec, Operands, Outputs, SplitOperand, SplitRule};
use crate::{OpError, TensorDesc};

/// A value that another device takes over at this point. It has no result; it keeps the value alive until here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Send {
    /// Tells the copies of one graph apart.
    pub tag: u32,
}

/// A value that comes from another device at this point.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receive {
    /// Tells the copies of one graph apart.
    pub tag: u32,
    /// What it is; contiguous here whatever it was there.
    pub desc: TensorDesc,
}

impl OpSpec for Send {
    fn stem(&self) -> &'static str {
        "send"
    }

    fn roles(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        let [x] = ins.exactly()?;
        x.contiguous()?;
        Ok(Outputs::new())
    }

    fn flops(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        0.0
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("tag", self.tag.to_string())]
    }

    /// Any cut is sent as it is; sums are taken before.
    fn split(&self, ins: &[SplitOperand<'_>], outs: &[&TensorDesc]) -> SplitRule {
        match ins {
            [x] if x.split().is_some() => SplitRule::passed(x.sharding, outs.len()),
            _ => SplitRule::replicated(ins.len(), outs.len()),
        }
    }
}

impl OpSpec for Receive {
    fn stem(&self) -> &'static str {
        "receive"
    }

    fn roles(&self) -> &'static [&'static str] {
        &[]
    }

    fn infer(&self, ins: &Operands<'_>) -> Result<Outputs, OpError> {
        ins.exactly::<0>()?;
        let desc = fresh(self.desc.dtype, self.desc.shape.clone())?;
        one(desc.dtype, desc.shape)
    }

    fn flops(&self, _: &[&TensorDesc], _: &[&TensorDesc]) -> f64 {
        0.0
    }

    fn params(&self) -> Vec<(&'static str, String)> {
        vec![("tag", self.tag.to_string())]
    }
}

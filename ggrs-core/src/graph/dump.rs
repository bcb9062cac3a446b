//! Text of a graph, for people and for golden files.

use std::fmt;

use super::Graph;

impl fmt::Display for Graph {
    /// One line per node: results with their descriptions, op, operands, parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for s in &self.symbols {
            writeln!(f, "symbol {} in 1..={}", s.name, s.max)?;
        }
        for node in &self.nodes {
            let spec = node.op.spec();
            let outs: Vec<String> = node
                .outputs
                .iter()
                .map(|v| format!("{v}: {}", self.desc(*v)))
                .collect();
            let ins: Vec<String> = node.inputs.iter().map(ToString::to_string).collect();
            write!(
                f,
                "{} = {}({})",
                outs.join(", "),
                spec.stem(),
                ins.join(", ")
            )?;
            for (name, value) in spec.params() {
                write!(f, " {name}={value}")?;
            }
            writeln!(f, "  # {}", node.name)?;
        }
        for (name, value) in &self.outputs {
            writeln!(f, "output {name} = {value}")?;
        }
        Ok(())
    }
}

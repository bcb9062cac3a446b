//! Products of the same many activations by matrix units, one behind the other: activations are converted once for all
//! formats that want them in the same order.
//!
//! `matmul, matmul, ..`

use super::{Stage, StageArgs, Walk};
use crate::kernel::{Args, Choice, Launch};
use crate::kernels::matmul;

/// The stage that begins at a step.
pub(super) fn find(walk: &Walk<'_>, at: usize) -> Option<Stage> {
    let x = walk.input(at, 1)?;
    let product = |step| {
        let is_same = walk.input(step, 1) == Some(x);
        is_same.then(|| walk.with_request(step, matmul::by_matrix_units).flatten())?
    };
    let products: Vec<Choice> = (at..).map_while(product).collect();
    if products.len() < 2 {
        return None;
    }
    let routes: Vec<_> = products.iter().map(Choice::route).collect();
    let name = format!(
        "{}, {} of the same rows",
        routes.first()?.kernel,
        routes.len()
    );
    let reason = routes.first()?.reason.to_string();
    let scratch = routes.iter().map(|r| r.scratch_bytes).max()?;
    let steps = at..at + products.len();
    let build = move |args: &StageArgs<'_>| {
        let mut all = Vec::new();
        let mut converted: Option<Launch> = None;
        for (product, step) in products.iter().zip(args.steps) {
            let launches = product.build(&Args {
                scratch: args.scratch,
                cells: args.cells,
                ..*step
            });
            let mut launches = launches.into_iter();
            let conversion = launches.next();
            if conversion != converted {
                converted.clone_from(&conversion);
                all.extend(conversion);
            }
            all.extend(launches);
        }
        all
    };
    Some(Stage::new(steps, name, reason, scratch, build))
}

//! Which file has the problems of an op.

use proptest::strategy::{BoxedStrategy, Strategy};

use super::{
    attention, cache, collective, elementwise, experts, glu, leaf, matmul, movement, norm,
    recurrent, reduce, rope, router, sample, select, softmax, view,
};
use crate::problem::Problem;

/// The problems of one op.
pub struct Family {
    /// Edges, each for a reason.
    pub rows: Vec<Box<dyn Problem>>,
    /// Random ones.
    pub any: BoxedStrategy<Box<dyn Problem>>,
}

impl Family {
    /// Rows and a strategy of one type of problem.
    pub(super) fn new<P: Problem + 'static>(
        rows: impl IntoIterator<Item = P>,
        any: impl Strategy<Value = P> + 'static,
    ) -> Self {
        Self {
            rows: rows.into_iter().map(boxed).collect(),
            any: any.prop_map(boxed).boxed(),
        }
    }

    /// The same with rows of another type and a strategy that is taken as often.
    #[must_use]
    pub(super) fn and<P: Problem + 'static>(
        mut self,
        rows: impl IntoIterator<Item = P>,
        any: impl Strategy<Value = P> + 'static,
    ) -> Self {
        self.rows.extend(rows.into_iter().map(boxed));
        self.any = proptest::strategy::Union::new([self.any, any.prop_map(boxed).boxed()]).boxed();
        self
    }
}

fn boxed<P: Problem + 'static>(problem: P) -> Box<dyn Problem> {
    Box::new(problem)
}

/// The problems of an op, or `None` if it has none.
pub fn of(stem: &str) -> Option<Family> {
    let families = [
        leaf::family,
        view::family,
        movement::family,
        cache::family,
        elementwise::family,
        glu::family,
        norm::family,
        softmax::family,
        rope::family,
        matmul::family,
        experts::family,
        router::family,
        select::family,
        sample::family,
        reduce::family,
        attention::family,
        recurrent::family,
        collective::family,
    ];
    families.iter().find_map(|family| family(stem))
}

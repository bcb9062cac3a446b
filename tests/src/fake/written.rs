//! Which bytes of a buffer hold something, and who wrote them. It must not know buffers.

use std::collections::BTreeMap;
use std::ops::Range;

/// Who wrote a byte last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// A transfer or whoever made the buffer: good for every reader.
    Host,
    /// A step, for the storage of this index of its graph: good for readers of that storage.
    Storage(usize),
    /// A kernel, as its working memory: good for no reader.
    Scratch,
}

/// Bytes that were written, as ranges that do not meet; what is missing holds poison.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    /// Start to end and writer.
    ranges: BTreeMap<u64, (u64, Writer)>,
}

impl Written {
    /// All of a buffer of `bytes` bytes.
    pub(super) fn whole(bytes: u64) -> Self {
        let mut written = Self::default();
        written.set(0..bytes, Writer::Host);
        written
    }

    /// These bytes hold nothing any more.
    pub(super) fn clear(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let before = self.ranges.range(..range.start).next_back();
        let first = before
            .filter(|(_, (end, _))| *end > range.start)
            .map_or(range.start, |(start, _)| *start);
        let hit: Vec<(u64, (u64, Writer))> = self
            .ranges
            .range(first..range.end)
            .map(|(start, rest)| (*start, *rest))
            .collect();
        for (start, (end, writer)) in hit {
            self.ranges.remove(&start);
            if start < range.start {
                self.ranges.insert(start, (range.start, writer));
            }
            if end > range.end {
                self.ranges.insert(range.end, (end, writer));
            }
        }
    }

    /// These bytes were written.
    pub(super) fn set(&mut self, range: Range<u64>, writer: Writer) {
        if range.is_empty() {
            return;
        }
        self.clear(range.clone());
        let mut joined = range;
        let before = self.ranges.range(..joined.start).next_back();
        if let Some((start, (end, other))) = before
            && *end == joined.start
            && *other == writer
        {
            joined.start = *start;
        }
        if let Some((end, other)) = self.ranges.get(&joined.end)
            && *other == writer
        {
            let end = *end;
            self.ranges.remove(&joined.end);
            joined.end = end;
        }
        self.ranges.insert(joined.start, (joined.end, writer));
    }

    /// The parts of `range` that hold nothing, and those whose writer is not `accepted`, in order: with the writer.
    pub(super) fn missing(
        &self,
        range: Range<u64>,
        accepted: impl Fn(Writer) -> bool,
    ) -> Vec<(Range<u64>, Option<Writer>)> {
        let mut missing = Vec::new();
        let mut at = range.start;
        for (part, writer) in self.parts(range.clone()) {
            if part.start > at {
                missing.push((at..part.start, None));
            }
            if !accepted(writer) {
                missing.push((part.clone(), Some(writer)));
            }
            at = part.end;
        }
        if at < range.end {
            missing.push((at..range.end, None));
        }
        missing
    }

    /// The written parts of `range`.
    pub(super) fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, Writer)> {
        let before = self.ranges.range(..range.start).next_back();
        let from_there = self.ranges.range(range.start..range.end.max(range.start));
        before
            .into_iter()
            .chain(from_there)
            .filter_map(move |(start, (end, writer))| {
                let part = (*start).max(range.start)..(*end).min(range.end);
                (!part.is_empty()).then_some((part, *writer))
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A byte for each byte: what the ranges stand for.
    fn bytes(written: &Written, n: u64) -> Vec<Option<Writer>> {
        let mut all = vec![None; n as usize];
        for (part, writer) in written.parts(0..n) {
            for byte in &mut all[part.start as usize..part.end as usize] {
                assert_eq!(*byte, None, "ranges meet");
                *byte = Some(writer);
            }
        }
        all
    }

    proptest! {
        #[test]
        fn ranges_are_what_single_bytes_would_be(
            steps in prop::collection::vec((0u64..40, 0u64..40, 0usize..4), 0..30),
            asked in (0u64..40, 0u64..40),
        ) {
            let (mut written, mut model) = (Written::default(), vec![None; 40]);
            for (a, b, writer) in steps {
                let range = a.min(b)..a.max(b);
                let writer = match writer {
                    0 => None,
                    1 => Some(Writer::Host),
                    n => Some(Writer::Storage(n)),
                };
                model[range.start as usize..range.end as usize].fill(writer);
                match writer {
                    None => written.clear(range),
                    Some(writer) => written.set(range, writer),
                }
            }
            prop_assert_eq!(bytes(&written, 40), model.clone());
            let asked = asked.0.min(asked.1)..asked.0.max(asked.1);
            let accepted = |w| w == Writer::Host;
            let mut missing = Vec::new();
            for (part, writer) in written.missing(asked.clone(), accepted) {
                missing.extend(part.map(|at| (at, writer)));
            }
            let expected: Vec<(u64, Option<Writer>)> = asked
                .map(|at| (at, model[at as usize]))
                .filter(|(_, w)| *w != Some(Writer::Host))
                .collect();
            prop_assert_eq!(missing, expected);
        }
    }
}

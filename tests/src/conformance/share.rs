//! A part of each op's problems, for tools under which they run a thousand times slower: several processes have one each.

use std::str::FromStr;

/// Part `index` of `of`, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    index: usize,
    of: usize,
}

impl Share {
    /// `GGRS_SHARE=2/8`; all problems without it.
    ///
    /// # Panics
    /// If it is set and says nothing.
    pub(super) fn from_env() -> Self {
        match std::env::var("GGRS_SHARE") {
            Ok(text) => text.parse().unwrap_or_else(|()| {
                unreachable!("GGRS_SHARE={text}: it is a part of all, as in 2/8")
            }),
            Err(_) => Self { index: 1, of: 1 },
        }
    }

    /// Is a problem of this name in it? Each is in one part.
    pub(super) fn has(self, problem: &str) -> bool {
        let sum = problem.bytes().fold(0_usize, |sum, b| {
            sum.wrapping_mul(31).wrapping_add(b.into())
        });
        sum % self.of == self.index - 1
    }
}

impl FromStr for Share {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (index, of) = text.split_once('/').ok_or(())?;
        let number = |text: &str| text.parse().map_err(|_| ());
        let share = Self {
            index: number(index)?,
            of: number(of)?,
        };
        let is_part = (1..=share.of).contains(&share.index);
        is_part.then_some(share).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_in_one_part() {
        let parts: Vec<Share> = (1..=8).map(|i| format!("{i}/8").parse().unwrap()).collect();
        let mut n_of_part = [0; 8];
        for problem in 0..800 {
            let name = format!("Product {{ k: {problem} }}");
            let inside: Vec<usize> = (0..8).filter(|i| parts[*i].has(&name)).collect();
            assert_eq!(inside.len(), 1);
            n_of_part[inside[0]] += 1;
        }
        assert!(n_of_part.iter().all(|n| *n > 50), "{n_of_part:?}");
        for wrong in ["", "1", "0/2", "3/2", "1/0", "a/b"] {
            assert_eq!(wrong.parse::<Share>(), Err(()), "{wrong}");
        }
    }
}

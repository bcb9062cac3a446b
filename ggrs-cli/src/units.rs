//! Numbers as people read them.

use std::fmt;
use std::time::Duration;

/// Bytes in binary units: `8.06 MiB`.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&indicatif::HumanBytes(self.0).to_string())
    }
}

/// A count in thousands, millions and billions: `30.53 B`.
pub(crate) struct Count(pub(crate) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0 as f64;
        f.pad(&match value {
            1e9.. => format!("{:.2} B", value / 1e9),
            1e6.. => format!("{:.2} M", value / 1e6),
            1e3.. => format!("{:.2} K", value / 1e3),
            _ => self.0.to_string(),
        })
    }
}

/// A number of tokens: `1 token`, `2 tokens`.
pub(crate) struct Tokens(pub(crate) usize);

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.0,
            if self.0 == 1 { "token" } else { "tokens" }
        )
    }
}

/// How many a second; 0 if no time passed.
pub(crate) fn per_second(count: usize, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_chosen_by_size() {
        assert_eq!(Bytes(8_448_352).to_string(), "8.06 MiB");
        assert_eq!(Count(30_532_122_624).to_string(), "30.53 B");
        assert_eq!(Count(7_900_000).to_string(), "7.90 M");
        assert_eq!(Count(999).to_string(), "999");
        assert_eq!(per_second(10, Duration::from_millis(500)), 20.0);
    }
}

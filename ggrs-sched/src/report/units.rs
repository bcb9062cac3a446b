//! Numbers and names as a report writes them. It knows no report.

use std::fmt::Write as _;

/// Bytes in binary units with three digits: `8.06 MiB`.
pub(super) fn bytes(n: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = n as f64;
    scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// Bytes that may be missing.
pub(super) fn signed_bytes(n: i64) -> String {
    let sign = if n < 0 { "-" } else { "" };
    format!("{sign}{}", bytes(n.unsigned_abs()))
}

/// Bytes of a sum over ops.
pub(super) fn float_bytes(n: f64) -> String {
    scaled(n, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// Floating-point operations: `1.24 GFLOP`.
pub(super) fn flops(n: f64) -> String {
    scaled(
        n,
        1000.0,
        &["FLOP", "KFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"],
    )
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    let mut is_whole = true;
    // What would be shown as a full step is shown in the next unit.
    while value >= step - step / 2000.0 {
        let Some(next) = units.next() else { break };
        (unit, value, is_whole) = (next, value / step, false);
    }
    let digits = match value {
        _ if is_whole => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A shape: `[1, 2048]`.
pub(super) fn shape(dims: &[usize]) -> String {
    format!("{dims:?}")
}

/// `1 copy`, `2 copies`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Numbers of layers and other names as ranges: `input, 0-3, 7`.
pub(super) fn ranges<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    let mut run: Option<(usize, usize)> = None;
    let close = |out: &mut String, run: Option<(usize, usize)>| {
        // Writing to a String cannot fail.
        let _ = match run {
            Some((first, last)) if first < last => write!(out, "-{last}"),
            _ => Ok(()),
        };
    };
    let mut last_name = None;
    for name in names {
        if last_name == Some(name) {
            continue;
        }
        last_name = Some(name);
        let number: Option<usize> = name.parse().ok();
        if let (Some((first, last)), Some(n)) = (run, number)
            && n == last + 1
        {
            run = Some((first, n));
            continue;
        }
        close(&mut out, run);
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(name);
        run = number.map(|n| (n, n));
    }
    close(&mut out, run);
    out
}

/// A name from a model's file with everything made visible that would steer a terminal or turn text around.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || turns {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_their_unit() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (8_448_352, "8.06 MiB"),
            (1 << 30, "1.00 GiB"),
            (25_000_000_000, "23.3 GiB"),
            ((1 << 20) - 1, "1.00 MiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(signed_bytes(-2048), "-2.00 KiB");
        assert_eq!(flops(1.2399e9), "1.24 GFLOP");
        assert_eq!(flops(0.0), "0 FLOP");
    }

    #[test]
    fn layers_are_written_as_ranges() {
        assert_eq!(
            ranges(["input", "0", "0", "1", "2", "5", "output"]),
            "input, 0-2, 5, output"
        );
        assert_eq!(ranges([]), "");
    }

    #[test]
    fn what_steers_a_terminal_is_made_visible() {
        assert_eq!(
            printable("a\u{1b}[31m\u{202e}ü\n"),
            "a\\u{1b}[31m\\u{202e}ü\\u{a}"
        );
    }
}

//! Progress bars: how they look. What they count is their owners' business.

use indicatif::{ProgressBar, ProgressStyle};

/// What a bar counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Bytes,
    Tokens,
    Steps,
}

/// A bar of unknown length; it clears itself when it is dropped.
pub(crate) fn bar(label: &'static str, unit: Unit) -> ProgressBar {
    let counts = match unit {
        Unit::Bytes => "{bytes}/{total_bytes} {bytes_per_sec}",
        Unit::Tokens => "{pos}/{len} tokens",
        Unit::Steps => "{pos}/{len}",
    };
    let template = format!("{{prefix}} {{bar:32}} {counts} {{msg}}");
    // The template is one of the three above; a default bar would do if it were not valid.
    let style =
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0)
        .with_style(style)
        .with_prefix(label)
        .with_finish(indicatif::ProgressFinish::AndClear)
}

//! Names from model files as text in a page. It knows no page.

use super::super::units::printable;

/// Text that is text everywhere in a page: between tags and in quoted attributes. What would turn text around is
/// made visible.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(
            escape("</td><script>a&b=\"'\u{202e}"),
            "&lt;/td&gt;&lt;script&gt;a&amp;b=&quot;&#39;\\u{202e}"
        );
    }
}

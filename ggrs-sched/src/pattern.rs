//! Patterns over tensor names: globs, and regular expressions between slashes.

use fancy_regex::Regex;

use crate::SchedError;

/// A pattern over tensor names: a glob (`blk.*.ffn_*_exps.weight`; `*` any characters, `?` one, `[1-3]` a class), or a
/// regular expression between slashes (`/blk\.[0-3]\..*/`), which need only match a part.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// An expression that is not valid.
    pub fn new(text: &str) -> Result<Self, SchedError> {
        let expression = match text.strip_prefix('/').and_then(|t| t.strip_suffix('/')) {
            Some(inner) => inner.to_owned(),
            None => glob(text),
        };
        match Regex::new(&expression) {
            Ok(regex) if !text.is_empty() => Ok(Self {
                text: text.to_owned(),
                regex,
            }),
            Ok(_) => Err(SchedError::Pattern {
                pattern: text.to_owned(),
                why: "it is empty".to_owned(),
            }),
            Err(error) => Err(SchedError::Pattern {
                pattern: text.to_owned(),
                why: error.to_string(),
            }),
        }
    }

    /// Does it match a name? An expression that runs away matches nothing.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name).unwrap_or(false)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A glob as a regular expression over the whole name.
fn glob(text: &str) -> String {
    let mut out = String::from("^");
    let mut class = false;
    for c in text.chars() {
        match c {
            '*' if !class => out.push_str(".*"),
            '?' if !class => out.push('.'),
            '[' => {
                class = true;
                out.push('[');
            }
            ']' => {
                class = false;
                out.push(']');
            }
            '!' if class && out.ends_with('[') => out.push('^'),
            c if class || c.is_alphanumeric() || c == '_' => out.push(c),
            c => {
                out.push('\\');
                out.push(c);
            }
        }
    }
    out.push('$');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names_and_expressions_parts() {
        let matches = |pattern: &str, name: &str| Pattern::new(pattern).unwrap().matches(name);
        assert!(matches(
            "blk.*.ffn_*_exps.weight",
            "blk.12.ffn_up_exps.weight"
        ));
        assert!(!matches("blk.*.ffn", "blk.12.ffn_up_exps.weight"));
        assert!(!matches("blk.1.*", "blkx1.attn_q.weight"));
        assert!(matches("blk.[0-3].*", "blk.2.attn_q.weight"));
        assert!(!matches("blk.[!0-3].*", "blk.2.attn_q.weight"));
        assert!(matches("/_exps/", "blk.2.ffn_up_exps.weight"));
        assert!(matches("/^blk\\.(1|2)\\./", "blk.2.attn_q.weight"));
        assert!(
            Pattern::new("/(/").is_err() && Pattern::new("").is_err() && Pattern::new("[").is_err()
        );
    }
}

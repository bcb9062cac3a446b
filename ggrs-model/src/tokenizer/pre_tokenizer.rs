//! The rules that cut a text into words; merges never cross from one word into the next. Knows
//! nothing of vocabularies.

use fancy_regex::Regex;

use super::TokenizerError;

/// A named rule for cutting text into words, the value of `tokenizer.ggml.pre`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PreTokenizer {
    /// `qwen2`: Qwen2, Qwen2.5 and Qwen3.
    Qwen2,
    /// `qwen35`: Qwen3.5 and later: as `qwen2`, with combining marks counted as letters.
    Qwen35,
}

impl PreTokenizer {
    /// Every rule there is.
    pub const ALL: [Self; 2] = [Self::Qwen2, Self::Qwen35];

    /// The rule's name in a model file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qwen2 => "qwen2",
            Self::Qwen35 => "qwen35",
        }
    }

    /// The rule with this name in a model file.
    ///
    /// # Errors
    /// [`TokenizerError::UnsupportedPreTokenizer`] lists the names that exist.
    pub fn from_name(name: &str) -> Result<Self, TokenizerError> {
        Self::ALL
            .into_iter()
            .find(|rule| rule.name() == name)
            .ok_or_else(|| TokenizerError::UnsupportedPreTokenizer {
                found: name.to_owned(),
                known: Self::ALL.map(Self::name).join(", "),
            })
    }

    /// The published pattern of the rule, less its `\s+(?!\S)`, which [`WordSplitter`] does by
    /// hand: without a look-ahead the pattern runs on an automaton, in time linear in the text.
    /// Anchored, because words follow each other without gaps.
    fn pattern(self) -> &'static str {
        match self {
            Self::Qwen2 => concat!(
                r"\A(?:",
                r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
                r"|[^\r\n\p{L}\p{N}]?\p{L}+",
                r"|\p{N}",
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*",
                r"|\s*[\r\n]+",
                r"|\s+)",
            ),
            Self::Qwen35 => concat!(
                r"\A(?:",
                r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
                r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
                r"|\p{N}",
                r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
                r"|\s*[\r\n]+",
                r"|\s+)",
            ),
        }
    }
}

/// A rule made ready to run.
#[derive(Debug)]
pub(super) struct WordSplitter {
    rule: PreTokenizer,
    regex: Regex,
}

impl WordSplitter {
    /// Compiles the rule's pattern.
    pub(super) fn new(rule: PreTokenizer) -> Result<Self, TokenizerError> {
        let regex = Regex::new(rule.pattern()).map_err(|source| failure(rule, source))?;
        Ok(Self { rule, regex })
    }

    pub(super) fn rule(&self) -> PreTokenizer {
        self.rule
    }

    /// Splits the first word from a text that is not empty.
    pub(super) fn split_first<'t>(
        &self,
        text: &'t str,
    ) -> Result<(&'t str, &'t str), TokenizerError> {
        let found = self
            .regex
            .find(text)
            .map_err(|source| failure(self.rule, source))?;
        // The pattern covers every character; a text it did not match would be one word.
        let end = found.map_or(text.len(), |word| word.end());
        Ok(text.split_at(give_back_last_space(text, end)))
    }
}

/// Does the part of `\s+(?!\S)`: a run of white space before a word leaves its last character to
/// that word. Only that alternative ends in white space other than a line break.
fn give_back_last_space(text: &str, end: usize) -> usize {
    let (word, rest) = text.split_at(end);
    match word.char_indices().next_back() {
        Some((last, character))
            if last > 0
                && !rest.is_empty()
                && character.is_whitespace()
                && !matches!(character, '\r' | '\n') =>
        {
            last
        }
        _ => end,
    }
}

fn failure(rule: PreTokenizer, source: fancy_regex::Error) -> TokenizerError {
    TokenizerError::Pattern {
        name: rule.name(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The patterns as published with the models, look-ahead and all.
    const PUBLISHED: [(PreTokenizer, &str); 2] = [
        (
            PreTokenizer::Qwen2,
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        (
            PreTokenizer::Qwen35,
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
    ];

    fn words(rule: PreTokenizer, mut text: &str) -> Vec<&str> {
        let splitter = WordSplitter::new(rule).unwrap();
        let mut words = Vec::new();
        while !text.is_empty() {
            let (word, rest) = splitter.split_first(text).unwrap();
            words.push(word);
            text = rest;
        }
        words
    }

    fn published_words<'t>(pattern: &str, text: &'t str) -> Vec<&'t str> {
        Regex::new(pattern)
            .unwrap()
            .find_iter(text)
            .map(|found| found.unwrap().as_str())
            .collect()
    }

    #[test]
    fn the_rules_differ_in_combining_marks() {
        let text = "n\u{303}a";
        assert_eq!(words(PreTokenizer::Qwen2, text), ["n", "\u{303}a"]);
        assert_eq!(words(PreTokenizer::Qwen35, text), ["n\u{303}a"]);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = PreTokenizer::from_name("llama-bpe").unwrap_err();
        assert_eq!(
            error.to_string(),
            "pre-tokenizer `llama-bpe` is not supported (supported: qwen2, qwen35): another \
             one's rules would give other token ids than the model was trained with"
        );
    }

    proptest! {
        #[test]
        fn words_are_those_of_the_published_pattern(
            text in "([ \t\r\n\u{a0}\u{3000}]{1,4}|[a-zA-Z'é\u{301}ſ]{1,3}|[0-9½Ⅳ]{1,2}|[.!?🦙\u{200d}]{1,3}|\\PC{1,3}|.){0,12}",
        ) {
            for (rule, pattern) in PUBLISHED {
                prop_assert_eq!(words(rule, &text), published_words(pattern, &text));
            }
        }
    }
}

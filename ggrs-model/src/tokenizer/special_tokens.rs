//! Tokens that are found in a text as they are written, before any splitting or merging. Knows
//! nothing of words or merges.

use super::{TokenId, TokenType, Vocab};

/// The control and user-defined tokens of a vocabulary, ready to be searched for.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    /// Ordered by text, so that all tokens with a common beginning stand together.
    entries: Vec<Entry>,
    /// Whether any entry begins with this byte.
    begins: [bool; 256],
}

#[derive(Debug)]
struct Entry {
    text: Box<str>,
    id: TokenId,
    /// User-defined tokens are always found; the others only where the caller allows them.
    always: bool,
}

/// A special token in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) id: TokenId,
}

impl SpecialTokens {
    /// Collects the special tokens of a vocabulary. If two have the same text, the first counts.
    pub(super) fn new(vocab: &Vocab<'_>) -> Self {
        let mut entries: Vec<Entry> = (0..)
            .zip(vocab.tokens.iter().zip(&vocab.token_types))
            .filter_map(|(id, (text, token_type))| {
                let always = match token_type {
                    TokenType::UserDefined => true,
                    TokenType::Control | TokenType::Unknown => false,
                    TokenType::Normal | TokenType::Unused | TokenType::Byte => return None,
                };
                (!text.is_empty()).then(|| Entry {
                    text: (*text).into(),
                    id,
                    always,
                })
            })
            .collect();
        entries.sort_by(|a, b| a.text.cmp(&b.text)); // stable: the lower id stays first
        entries.dedup_by(|later, kept| later.text == kept.text);
        let mut begins = [false; 256];
        for entry in &entries {
            if let Some(&first) = entry.text.as_bytes().first() {
                begins[usize::from(first)] = true;
            }
        }
        Self { entries, begins }
    }

    /// The first special token in `text`; of several that begin at one place, the longest.
    pub(super) fn find(&self, text: &str, with_control: bool) -> Option<Found> {
        let bytes = text.as_bytes();
        bytes
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| self.begins[usize::from(byte)])
            .find_map(|(start, _)| {
                let entry = self.longest_at(bytes.get(start..)?, with_control)?;
                Some(Found {
                    start,
                    end: start + entry.text.len(),
                    id: entry.id,
                })
            })
    }

    /// The longest entry that `rest` begins with: the candidates are narrowed byte by byte.
    fn longest_at(&self, rest: &[u8], with_control: bool) -> Option<&Entry> {
        let mut candidates = self.entries.as_slice();
        let mut longest = None;
        for (depth, byte) in rest.iter().enumerate() {
            let byte_at_depth = |entry: &Entry| entry.text.as_bytes().get(depth).copied();
            let from = candidates.partition_point(|entry| byte_at_depth(entry) < Some(*byte));
            let to = candidates.partition_point(|entry| byte_at_depth(entry) <= Some(*byte));
            candidates = candidates.get(from..to).unwrap_or_default();
            // An entry that ends here stands before those that go on.
            let Some(first) = candidates.first() else {
                break;
            };
            if first.text.len() == depth + 1 && (first.always || with_control) {
                longest = Some(first);
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials(tokens: &[(&str, TokenType)]) -> SpecialTokens {
        SpecialTokens::new(&Vocab {
            tokens: tokens.iter().map(|(text, _)| *text).collect(),
            token_types: tokens.iter().map(|(_, token_type)| *token_type).collect(),
            ..Vocab::default()
        })
    }

    #[test]
    fn the_first_and_longest_wins() {
        let specials = specials(&[
            ("<a", TokenType::UserDefined),
            ("<a>", TokenType::Control),
            ("<a>>", TokenType::UserDefined),
            ("é", TokenType::UserDefined),
            ("<a", TokenType::Control),
            ("", TokenType::Control),
            ("x", TokenType::Normal),
        ]);
        let find = |text, with_control| {
            specials
                .find(text, with_control)
                .map(|found| (found.start, found.end, found.id))
        };
        assert_eq!(find("x<a>", true), Some((1, 4, 1)));
        assert_eq!(find("x<a>", false), Some((1, 3, 0)));
        assert_eq!(find("x<a>>", false), Some((1, 5, 2)));
        assert_eq!(find("è é", true), Some((3, 5, 3)));
        assert_eq!(find("<<b", true), None);
        assert_eq!(find("", true), None);
    }

    #[test]
    fn many_tokens_with_one_beginning_are_searched_quickly() {
        let tokens: Vec<String> = (0..6000).map(|n| format!("<unused{n}>")).collect();
        let specials = SpecialTokens::new(&Vocab {
            tokens: tokens.iter().map(String::as_str).collect(),
            token_types: vec![TokenType::Control; tokens.len()],
            ..Vocab::default()
        });
        // Comparing each token at each place would take 6000 times as long as this may.
        let text = "<unused".repeat(100_000);
        let begun = std::time::Instant::now();
        assert_eq!(specials.find(&text, true), None);
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }
}

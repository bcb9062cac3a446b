//! Byte-pair encoding of one word: neighbours are merged, best rank first, until no merge applies
//! (Sennrich et al. 2016, over bytes as in GPT-2). Knows nothing of words, types or roles.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::alphabet::CHAR_OF_BYTE;
use super::{TokenId, TokenizerError, Vocab};

/// A token, or a piece that merges build but the vocabulary does not hold: those are numbered
/// behind the tokens.
type Symbol = u32;

/// Marks a link that a merge has swallowed; never a symbol.
const SWALLOWED: Symbol = Symbol::MAX;

/// The merges of a vocabulary.
#[derive(Debug)]
pub(super) struct BytePairs {
    n_tokens: Symbol,
    symbol_of_byte: [Symbol; 256],
    /// By rank.
    merges: Vec<Merge>,
    rank_of_pair: HashMap<(Symbol, Symbol), u32>,
}

#[derive(Clone, Copy, Debug)]
struct Merge {
    pair: (Symbol, Symbol),
    result: Symbol,
}

/// A word on its way from bytes to tokens. Kept between words for its memory.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// One link per byte of the word; the link of a merged symbol is that of its first byte.
    links: Vec<Link>,
    /// Merges that were possible when they were pushed, as (rank, first link).
    candidates: BinaryHeap<Reverse<(u32, usize)>>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    symbol: Symbol,
    /// The neighbours' indices; out of range at the ends.
    previous: usize,
    next: usize,
}

impl BytePairs {
    /// Reads the merges of a vocabulary.
    pub(super) fn new(vocab: &Vocab<'_>) -> Result<Self, TokenizerError> {
        let (n_tokens, n_merges) = (vocab.tokens.len(), vocab.merges.len());
        // Every merge and every byte may add symbols of its own; all must stay below `SWALLOWED`.
        let n_symbols = n_merges
            .checked_mul(3)
            .and_then(|n| n.checked_add(n_tokens)?.checked_add(256));
        let (Ok(n_tokens), Some(Ok(_))) =
            (Symbol::try_from(n_tokens), n_symbols.map(Symbol::try_from))
        else {
            return Err(TokenizerError::VocabTooLarge { n_tokens, n_merges });
        };

        let mut symbols: HashMap<&str, Symbol> = HashMap::with_capacity(vocab.tokens.len());
        symbols.extend(vocab.tokens.iter().copied().zip(0..));

        let mut merges = Vec::with_capacity(n_merges);
        let mut rank_of_pair = HashMap::with_capacity(n_merges);
        let mut joined = Vec::with_capacity(n_merges);
        for (rank, &text) in vocab.merges.iter().enumerate() {
            match text.split_once(' ') {
                Some((left, right))
                    if !left.is_empty() && !right.is_empty() && !right.contains(' ') =>
                {
                    joined.push((left, right, format!("{left}{right}")));
                }
                _ => {
                    return Err(TokenizerError::BadMerge {
                        rank,
                        text: text.to_owned(),
                    });
                }
            }
        }
        let mut next_symbol = n_tokens;
        let mut symbol_of = |text| {
            *symbols.entry(text).or_insert_with(|| {
                next_symbol += 1;
                next_symbol - 1
            })
        };
        for (rank, (left, right, result)) in (0..).zip(&joined) {
            let pair = (symbol_of(left), symbol_of(right));
            merges.push(Merge {
                pair,
                result: symbol_of(result),
            });
            rank_of_pair.entry(pair).or_insert(rank);
        }
        let texts_of_bytes = CHAR_OF_BYTE.map(String::from);
        let symbol_of_byte = texts_of_bytes.each_ref().map(|text| symbol_of(text));
        Ok(Self {
            n_tokens,
            symbol_of_byte,
            merges,
            rank_of_pair,
        })
    }

    /// Appends the tokens of one word. `offset` is where the word begins in the text, for errors.
    /// Takes O(n log n) time for n bytes.
    pub(super) fn encode_word(
        &self,
        word: &[u8],
        offset: usize,
        chain: &mut Chain,
        ids: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        chain.start(word.iter().map(|&byte| self.symbol_of(byte)));
        for first in 0..word.len() {
            self.consider(chain, first);
        }
        while let Some(Reverse((rank, first))) = chain.candidates.pop() {
            let Some(merge) = self.merges.get(rank as usize) else {
                continue;
            };
            if chain.pair_at(first) != Some(merge.pair) {
                continue; // an earlier merge took one of the two
            }
            chain.join(first, merge.result);
            if let Some(&Link { previous, .. }) = chain.links.get(first) {
                self.consider(chain, previous);
            }
            self.consider(chain, first);
        }

        let mut start = 0;
        while let Some(&Link { symbol, next, .. }) = chain.links.get(start) {
            if symbol < self.n_tokens {
                ids.push(symbol);
            } else {
                for (at, &byte) in (start..next).zip(word.get(start..next).unwrap_or_default()) {
                    let id = self.symbol_of(byte);
                    if id >= self.n_tokens {
                        return Err(TokenizerError::ByteNotInVocab {
                            byte,
                            offset: offset + at,
                        });
                    }
                    ids.push(id);
                }
            }
            start = next;
        }
        Ok(())
    }

    fn symbol_of(&self, byte: u8) -> Symbol {
        self.symbol_of_byte[usize::from(byte)]
    }

    /// Queues the merge of a link with its right neighbour, if there is one.
    fn consider(&self, chain: &mut Chain, first: usize) {
        if let Some(&rank) = chain
            .pair_at(first)
            .and_then(|pair| self.rank_of_pair.get(&pair))
        {
            chain.candidates.push(Reverse((rank, first)));
        }
    }
}

impl Chain {
    fn start(&mut self, symbols: impl Iterator<Item = Symbol>) {
        self.candidates.clear();
        self.links.clear();
        self.links
            .extend(symbols.enumerate().map(|(idx, symbol)| Link {
                symbol,
                previous: idx.wrapping_sub(1),
                next: idx + 1,
            }));
    }

    fn pair_at(&self, first: usize) -> Option<(Symbol, Symbol)> {
        let left = self.links.get(first)?;
        let right = self.links.get(left.next)?;
        Some((left.symbol, right.symbol))
    }

    /// Lets a link swallow its right neighbour and become `symbol`.
    fn join(&mut self, first: usize, symbol: Symbol) {
        let Some(swallowed) = self.links.get(first).map(|link| link.next) else {
            return;
        };
        let Some(right) = self.links.get_mut(swallowed) else {
            return;
        };
        right.symbol = SWALLOWED;
        let next = right.next;
        if let Some(link) = self.links.get_mut(first) {
            (link.symbol, link.next) = (symbol, next);
        }
        if let Some(after) = self.links.get_mut(next) {
            after.previous = first;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vocab<'a>(tokens: &[&'a str], merges: &[&'a str]) -> Vocab<'a> {
        Vocab {
            tokens: tokens.to_vec(),
            merges: merges.to_vec(),
            ..Vocab::default()
        }
    }

    fn encode(vocab: &Vocab<'_>, word: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let mut ids = Vec::new();
        BytePairs::new(vocab)?.encode_word(word.as_bytes(), 10, &mut Chain::default(), &mut ids)?;
        Ok(ids)
    }

    /// The definition: find the best merge anywhere, apply it, start over.
    fn naive(vocab: &Vocab<'_>, word: &str) -> Vec<TokenId> {
        let mut parts: Vec<String> = word.chars().map(String::from).collect();
        loop {
            let best = (0..parts.len().saturating_sub(1))
                .filter_map(|at| {
                    let pair = format!("{} {}", parts[at], parts[at + 1]);
                    let rank = vocab.merges.iter().position(|merge| *merge == pair)?;
                    Some((rank, at))
                })
                .min();
            let Some((_, at)) = best else { break };
            let right = parts.remove(at + 1);
            parts[at].push_str(&right);
        }
        let id_of = |text: &str| vocab.tokens.iter().position(|&token| token == text);
        parts
            .iter()
            .flat_map(|part| match id_of(part) {
                Some(id) => vec![id],
                None => part
                    .chars()
                    .map(|byte| id_of(&byte.to_string()).unwrap())
                    .collect(),
            })
            .map(|id| TokenId::try_from(id).unwrap())
            .collect()
    }

    #[test]
    fn a_piece_without_a_token_falls_apart_into_bytes() {
        // `ab` is only a step to `abc`, and has no token of its own.
        let vocab = vocab(&["a", "b", "c", "abc"], &["a b", "ab c"]);
        assert_eq!(encode(&vocab, "abc").unwrap(), [3]);
        assert_eq!(encode(&vocab, "abab").unwrap(), [0, 1, 0, 1]);
    }

    #[test]
    fn a_byte_without_a_token_is_named() {
        let error = encode(&vocab(&["a"], &[]), "aaé").unwrap_err();
        assert_eq!(
            error.to_string(),
            "byte 0xc3 at offset 12 of the text has no token in the vocabulary"
        );
    }

    #[test]
    fn a_merge_must_have_two_pieces() {
        for text in ["ab", "a ", " b", "a b c", ""] {
            let error = BytePairs::new(&vocab(&["a"], &["a a", text])).unwrap_err();
            assert!(
                matches!(error, TokenizerError::BadMerge { rank: 1, .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn a_long_word_takes_no_quadratic_time() {
        let vocab = vocab(&["a", "b", "aa", "aaaa", "ba"], &["a a", "aa aa", "b a"]);
        // Rescanning the word for every merge would take 10^11 steps.
        let begun = std::time::Instant::now();
        let ids = encode(&vocab, &"a".repeat(1 << 20)).unwrap();
        assert_eq!(ids, vec![3; 1 << 18]);
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }

    proptest! {
        #[test]
        fn merges_are_those_of_the_definition(
            merges in prop::collection::vec(("[abc]{1,3}", "[abc]{1,3}"), 0..12),
            word in "[abc]{0,16}",
            with_token in prop::collection::vec(any::<bool>(), 12),
        ) {
            let mut tokens = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
            for ((left, right), with_token) in merges.iter().zip(with_token) {
                let result = format!("{left}{right}");
                if with_token && !tokens.contains(&result) {
                    tokens.push(result);
                }
            }
            let merges: Vec<String> =
                merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
            let vocab = Vocab {
                tokens: tokens.iter().map(String::as_str).collect(),
                merges: merges.iter().map(String::as_str).collect(),
                ..Vocab::default()
            };
            prop_assert_eq!(encode(&vocab, &word).unwrap(), naive(&vocab, &word));
        }
    }
}

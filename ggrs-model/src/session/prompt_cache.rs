//! The prompt cache: sequences that no slot holds any more, in host memory up to a budget. It must not know slots.

use std::collections::VecDeque;

use super::sequence::common_prefix;
use crate::tokenizer::TokenId;

/// Prompts in host memory with the rows of their states. If a new one needs room, the one used longest ago goes.
pub struct PromptCache {
    budget_bytes: u64,
    /// The one used longest ago first.
    entries: VecDeque<Entry>,
}

/// A sequence outside the KV cache.
pub(super) struct Entry {
    /// Its tokens.
    pub(super) tokens: Vec<TokenId>,
    /// For each state, the rows of all tokens in order of position.
    pub(super) states: Vec<Vec<u8>>,
}

/// Bytes of an entry.
pub(super) fn entry_bytes(n_tokens: usize, rows_bytes: u64) -> u64 {
    rows_bytes.saturating_add((n_tokens * size_of::<TokenId>()) as u64)
}

impl Entry {
    fn bytes(&self) -> u64 {
        let rows = self.states.iter().map(|s| s.len() as u64).sum();
        entry_bytes(self.tokens.len(), rows)
    }
}

impl PromptCache {
    pub(super) const fn new(budget_bytes: u64) -> Self {
        Self {
            budget_bytes,
            entries: VecDeque::new(),
        }
    }

    /// Bytes that it may hold.
    pub const fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(Entry::bytes).sum()
    }

    /// The prompts it holds, the one used longest ago first: the order in which they go.
    pub fn prompts(&self) -> impl Iterator<Item = &[TokenId]> {
        self.entries.iter().map(|e| e.tokens.as_slice())
    }

    /// Does it hold a prompt that begins with these tokens? If so, that prompt counts as used.
    pub(super) fn covers(&mut self, tokens: &[TokenId]) -> bool {
        let found = self
            .entries
            .iter()
            .position(|e| e.tokens.starts_with(tokens));
        let found = found.and_then(|i| self.entries.remove(i));
        found.is_some_and(|entry| {
            self.entries.push_back(entry);
            true
        })
    }

    /// Makes room and keeps an entry that fits the budget. What it continues is dropped.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.entries
            .retain(|e| !entry.tokens.starts_with(&e.tokens));
        let room = self.budget_bytes.saturating_sub(entry.bytes());
        while self.bytes() > room {
            let Some(gone) = self.entries.pop_front() else {
                break;
            };
            tracing::debug!(
                n_tokens = gone.tokens.len(),
                bytes = gone.bytes(),
                "prompt dropped from the cache"
            );
        }
        self.entries.push_back(entry);
    }

    /// The entry that shares the most with a prompt, and how many tokens; `None` if nothing is shared.
    pub(super) fn longest(&self, prompt: &[TokenId]) -> Option<(usize, usize)> {
        let shared = self.entries.iter().enumerate();
        let shared = shared.map(|(i, e)| (i, common_prefix(&e.tokens, prompt)));
        shared.max_by_key(|(_, n)| *n).filter(|(_, n)| *n > 0)
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, i: usize) -> Option<Entry> {
        self.entries.remove(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tokens: &[TokenId], n_bytes: usize) -> Entry {
        Entry {
            tokens: tokens.to_vec(),
            states: vec![vec![0; n_bytes]],
        }
    }

    fn prompts(cache: &PromptCache) -> Vec<Vec<TokenId>> {
        cache.prompts().map(<[_]>::to_vec).collect()
    }

    #[test]
    fn the_prompt_used_longest_ago_goes_first() {
        let mut cache = PromptCache::new(330);
        for first in 1..=3 {
            cache.insert(entry(&[first, 0], 100));
        }
        assert_eq!(cache.bytes(), 324);
        assert!(cache.covers(&[1]));
        cache.insert(entry(&[4, 0], 100));
        assert_eq!(prompts(&cache), [[3, 0], [1, 0], [4, 0]]);
        cache.insert(entry(&[5, 0], 200));
        assert_eq!(prompts(&cache), [[4, 0], [5, 0]]);
        assert!(cache.bytes() <= cache.budget_bytes());
    }

    #[test]
    fn a_longer_prompt_replaces_what_it_continues() {
        let mut cache = PromptCache::new(1000);
        cache.insert(entry(&[1, 2], 10));
        cache.insert(entry(&[1, 3], 10));
        cache.insert(entry(&[1, 2, 4], 10));
        assert_eq!(prompts(&cache), [vec![1, 3], vec![1, 2, 4]]);
        assert!(!cache.covers(&[1, 2, 4, 5]) && cache.covers(&[1, 2, 4]));
    }

    #[test]
    fn the_longest_common_beginning_is_found() {
        let mut cache = PromptCache::new(1000);
        cache.insert(entry(&[1, 2, 3], 10));
        cache.insert(entry(&[1, 2, 4, 5], 10));
        assert_eq!(cache.longest(&[1, 2, 4, 6]), Some((1, 3)));
        assert_eq!(cache.longest(&[2]), None);
        assert_eq!(cache.remove(0).map(|e| e.tokens), Some(vec![1, 2, 3]));
        assert_eq!(prompts(&cache), [[1, 2, 4, 5]]);
    }
}

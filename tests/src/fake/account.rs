//! A device's account of memory: what is held, by whom, within which limit. It must not know what memory is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::audit::Held;

/// The account.
#[derive(Debug, Default)]
pub(super) struct Account {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    held: BTreeMap<u64, Held>,
}

impl Entries {
    fn bytes(&self) -> u64 {
        self.held.values().map(|h| h.bytes).sum()
    }
}

/// An entry of the account; gone when this goes.
#[derive(Debug)]
pub(super) struct Hold {
    account: Arc<Account>,
    entry: u64,
}

impl Account {
    /// Puts `bytes` on the account; if the limit does not allow it, the bytes that are free.
    pub(super) fn hold(
        self: &Arc<Self>,
        what: String,
        bytes: u64,
        limit: u64,
    ) -> Result<Hold, u64> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let free = limit.saturating_sub(entries.bytes());
        if bytes > free {
            return Err(free);
        }
        let entry = entries.next;
        entries.next += 1;
        entries.held.insert(entry, Held { what, bytes });
        Ok(Hold {
            account: Arc::clone(self),
            entry,
        })
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.bytes()
    }

    /// All entries, the oldest first.
    pub(super) fn held(&self) -> Vec<Held> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.held.values().cloned().collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let entries = self.account.entries.lock();
        let mut entries = entries.unwrap_or_else(PoisonError::into_inner);
        entries.held.remove(&self.entry);
    }
}

//! The header of a state file: what it holds before the rows, as bytes and back. It must not know sessions.

use std::path::Path;

use ggrs_core::DType;

use super::error::StateFileError;
use super::fingerprint::ModelIdentity;
use crate::session::rows::{StateRows, rows_bytes};
use crate::tokenizer::TokenId;

/// How a state file begins.
pub(super) const MAGIC: [u8; 8] = *b"GGRSSLOT";
/// The version that is written, and the only one read.
pub(super) const VERSION: u32 = 1;
/// Bytes of the checksum at the end.
pub(super) const CHECKSUM_BYTES: u64 = 32;
/// Bytes before the header: magic, version, length of the file, length of the header.
pub(super) const PREFIX_BYTES: u64 = 28;

/// What the rows are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) model: ModelIdentity,
    pub(super) tokens: Vec<TokenId>,
    pub(super) states: Vec<StateRows>,
}

impl Header {
    /// The file up to its rows.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut h = Vec::new();
        text(&mut h, &self.model.architecture);
        h.extend(self.model.fingerprint);
        h.extend((self.tokens.len() as u64).to_le_bytes());
        h.extend(self.tokens.iter().flat_map(|t| t.to_le_bytes()));
        h.extend(length(self.states.len()).to_le_bytes());
        for state in &self.states {
            text(&mut h, &state.name);
            text(&mut h, state.dtype.name());
            h.extend((state.row_bytes as u64).to_le_bytes());
        }
        let mut file = Vec::with_capacity(h.len() + 28);
        file.extend(MAGIC);
        file.extend(VERSION.to_le_bytes());
        file.extend(
            self.file_bytes(h.len() as u64)
                .unwrap_or(u64::MAX)
                .to_le_bytes(),
        );
        file.extend((h.len() as u64).to_le_bytes());
        file.extend(h);
        file
    }

    /// Length of a file with this header, or `None` if no file is so long.
    pub(super) fn file_bytes(&self, header_bytes: u64) -> Option<u64> {
        let around = PREFIX_BYTES + CHECKSUM_BYTES;
        let rows = rows_bytes(&self.states, self.tokens.len());
        header_bytes.checked_add(rows)?.checked_add(around)
    }

    /// Reads the bytes that follow the prefix.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StateFileError> {
        let mut r = Reader {
            path,
            bytes,
            offset: PREFIX_BYTES,
        };
        let model = ModelIdentity {
            architecture: r.text("the architecture")?,
            fingerprint: r.array("the model's fingerprint")?,
        };
        let n_tokens = u64::from_le_bytes(r.array("the number of tokens")?);
        let mut tokens = Vec::new();
        for _ in 0..n_tokens {
            tokens.push(TokenId::from_le_bytes(r.array("a token")?));
        }
        let n_states = u32::from_le_bytes(r.array("the number of states")?);
        let mut states = Vec::new();
        for _ in 0..n_states {
            let name = r.text("a state's name")?;
            let offset = r.offset;
            let dtype = r.text("a state's type")?;
            let dtype = DType::from_name(&dtype);
            let dtype = dtype.ok_or_else(|| r.error(offset, "a state's type", "a type of GGRS"))?;
            let offset = r.offset;
            let row_bytes = u64::from_le_bytes(r.array("bytes of a row")?);
            let row_bytes = u32::try_from(row_bytes)
                .ok()
                .and_then(|n| usize::try_from(n).ok());
            let rule = "less than 4294967296";
            states.push(StateRows {
                name,
                dtype,
                row_bytes: row_bytes.ok_or_else(|| r.error(offset, "bytes of a row", rule))?,
            });
        }
        if !r.bytes.is_empty() {
            return Err(r.error(r.offset, "the header's end", "where its length says"));
        }
        Ok(Self {
            model,
            tokens,
            states,
        })
    }
}

/// Texts and lists of a state file are far shorter than 4 GiB.
fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.extend(length(text.len()).to_le_bytes());
    to.extend(text.as_bytes());
}

/// The bytes not read yet.
struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    offset: u64,
}

impl Reader<'_> {
    fn error(&self, offset: u64, what: &'static str, rule: &'static str) -> StateFileError {
        StateFileError::Header {
            path: self.path.to_owned(),
            offset,
            what,
            rule,
        }
    }

    fn take(&mut self, n: usize, what: &'static str) -> Result<&[u8], StateFileError> {
        let Some((taken, left)) = self.bytes.split_at_checked(n) else {
            return Err(self.error(self.offset, what, "inside the header"));
        };
        self.bytes = left;
        self.offset += n as u64;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], StateFileError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn text(&mut self, what: &'static str) -> Result<String, StateFileError> {
        let n = u32::from_le_bytes(self.array(what)?);
        let offset = self.offset;
        let bytes = self.take(n as usize, what)?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.error(offset, what, "UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn header() -> Header {
        let state = |name: &str, dtype, row_bytes| StateRows {
            name: name.to_owned(),
            dtype,
            row_bytes,
        };
        Header {
            model: ModelIdentity {
                architecture: "qwen3moe".to_owned(),
                fingerprint: [7; 32],
            },
            tokens: vec![1, 70_000, 3],
            states: vec![
                state("kv.0.k", DType::Q8_0, 68),
                state("kv.0.v", DType::Q8_0, 34),
            ],
        }
    }

    #[test]
    fn a_header_comes_back() {
        let bytes = header().encode();
        let parsed = Header::parse(Path::new("x"), &bytes[28..]).unwrap();
        assert_eq!(parsed, header());
        // magic, version 1, 28 + header + 3 tokens of 102 bytes + checksum
        assert_eq!(bytes[..12], *b"GGRSSLOT\x01\0\0\0");
        let says = u64::from_le_bytes(bytes[12..20].try_into().unwrap());
        assert_eq!(says, bytes.len() as u64 + 3 * 102 + 32);
    }

    #[test]
    fn a_header_cut_anywhere_is_refused_at_its_offset() {
        let bytes = header().encode();
        for end in 28..bytes.len() {
            let error = Header::parse(Path::new("x.state"), &bytes[28..end]).unwrap_err();
            let StateFileError::Header { offset, .. } = &error else {
                unreachable!("{error}");
            };
            assert!(*offset <= end as u64, "{error}");
            assert!(error.to_string().starts_with("x.state: "), "{error}");
        }
        let mut longer = bytes;
        longer.push(0);
        let error = Header::parse(Path::new("x"), &longer[28..]).unwrap_err();
        assert!(error.to_string().contains("the header's end"), "{error}");
    }

    #[test]
    fn a_number_larger_than_the_file_asks_for_no_memory() {
        let mut bytes = header().encode();
        let at = 28 + 4 + 8 + 32;
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Header::parse(Path::new("x"), &bytes[28..]).is_err());
    }
}

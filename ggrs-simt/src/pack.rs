//! Machine code that is part of the program: a file of compiled kernels, embedded by the feature `kernel-pack`, for
//! machines without a compiler. `GGRS_KERNEL_PACK` names the file when the program is built.
//!
//! The file is a row of entries: length and bytes of a name, length and bytes of the code, lengths as little-endian u64.

use crate::kernel::ModuleKey;

#[cfg(feature = "kernel-pack")]
const EMBEDDED: &[u8] = include_bytes!(env!("GGRS_KERNEL_PACK"));
#[cfg(not(feature = "kernel-pack"))]
const EMBEDDED: &[u8] = &[];

/// What a module's code is called in a pack: everything that it depends on, but for the compiler that made it.
fn entry_name(key: &ModuleKey, source: &str, arch: &str) -> String {
    format!("{key} {arch} {}", blake3::hash(source.as_bytes()).to_hex())
}

/// The code of a module that is part of the program.
pub(crate) fn embedded(key: &ModuleKey, source: &str, arch: &str) -> Option<&'static [u8]> {
    find(EMBEDDED, &entry_name(key, source, arch))
}

/// Adds an entry to the bytes of a pack.
pub(crate) fn append(pack: &mut Vec<u8>, key: &ModuleKey, source: &str, arch: &str, image: &[u8]) {
    for part in [entry_name(key, source, arch).as_bytes(), image] {
        pack.extend((part.len() as u64).to_le_bytes());
        pack.extend(part);
    }
}

/// One length and as many bytes, and what comes after them.
fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)
}

fn find<'a>(mut pack: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    while let Some((name, rest)) = part(pack) {
        let (image, rest) = part(rest)?;
        if name == wanted.as_bytes() {
            return Some(image);
        }
        pack = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_found() {
        let (a, b) = (ModuleKey::plain("a"), ModuleKey::plain("a").with("N", "4"));
        let mut pack = Vec::new();
        append(&mut pack, &a, "text", "sm_90a", b"one");
        append(&mut pack, &b, "text", "sm_90a", b"");
        let at = |key, text, arch| find(&pack, &entry_name(key, text, arch));
        assert_eq!(at(&a, "text", "sm_90a"), Some(&b"one"[..]));
        assert_eq!(at(&b, "text", "sm_90a"), Some(&b""[..]));
        assert_eq!(at(&a, "other text", "sm_90a"), None);
        assert_eq!(at(&a, "text", "sm_80"), None);
        // A damaged pack has less in it, and that is all.
        for n in 0..pack.len() {
            let cut = pack.get(..n).unwrap_or_default();
            assert_ne!(
                find(cut, &entry_name(&b, "text", "sm_90a")),
                Some(&b"x"[..])
            );
        }
    }
}

//! The byte alphabet of GPT-2: every byte has a printable character, so that a vocabulary can be
//! written as text. Knows nothing of tokens.
//!
//! Bytes that are printable in Latin-1 stand for themselves; the other 68 take the characters from
//! U+0100 on, in the order of the bytes (`bytes_to_unicode` in OpenAI's GPT-2 encoder).

/// The character of each byte, by byte.
pub(super) const CHAR_OF_BYTE: [char; 256] = {
    let mut table = ['\0'; 256];
    let mut next = 0x100;
    let mut byte = 0_u8;
    loop {
        let code = if stands_for_itself(byte) {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        if let Some(character) = char::from_u32(code) {
            table[byte as usize] = character;
        }
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    table
};

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The other way round, by character; `None` for those below U+0144 that no byte has.
const BYTE_OF_CHAR: [Option<u8>; 0x144] = {
    let mut table = [None; 0x144];
    let mut byte = 0_u8;
    loop {
        table[CHAR_OF_BYTE[byte as usize] as usize] = Some(byte);
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    table
};

/// The byte that `character` stands for, if it is in the alphabet.
pub(super) fn byte_of_char(character: char) -> Option<u8> {
    *BYTE_OF_CHAR.get(character as usize)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_characters() {
        // From published GPT-2 vocabularies: space, newline, tab, and the ends of the ranges.
        for (byte, character) in [
            (b' ', 'Ġ'),
            (b'\n', 'Ċ'),
            (b'\t', 'ĉ'),
            (0x00, 'Ā'),
            (0x7f, 'ġ'),
            (0xa0, 'ł'),
            (0xad, 'Ń'),
            (b'A', 'A'),
            (0xff, 'ÿ'),
        ] {
            assert_eq!(CHAR_OF_BYTE[usize::from(byte)], character);
            assert_eq!(byte_of_char(character), Some(byte));
        }
        assert_eq!(byte_of_char(' '), None);
        assert_eq!(byte_of_char('ń'), None);
    }

    #[test]
    fn every_byte_has_its_own_character() {
        for byte in 0..=u8::MAX {
            assert_eq!(
                byte_of_char(CHAR_OF_BYTE[usize::from(byte)]),
                Some(byte),
                "{byte}"
            );
        }
    }
}

//! Lists of token ids as arguments: `1,2,3`. Whether they are in a vocabulary is not known here.

use std::str::FromStr;

use ggrs_model::tokenizer::TokenId;

/// Ids separated by commas or spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenIds(pub(crate) Vec<TokenId>);

/// A word in a list of ids that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{word}\" is not a token id; write whole numbers, separated by commas")]
pub(crate) struct NotAnId {
    word: String,
}

impl FromStr for TokenIds {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let words = text
            .split([',', ' ', '\n', '\t'])
            .filter(|word| !word.is_empty());
        let id = |word: &str| {
            word.parse().map_err(|_| NotAnId {
                word: word.to_owned(),
            })
        };
        words.map(id).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_separated_by_commas_or_spaces() {
        assert_eq!("1, 2 3,4".parse(), Ok(TokenIds(vec![1, 2, 3, 4])));
        assert_eq!("".parse(), Ok(TokenIds(vec![])));
        let error = "1,-2".parse::<TokenIds>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"-2\" is not a token id; write whole numbers, separated by commas"
        );
    }
}

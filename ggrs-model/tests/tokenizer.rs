//! The tokenizer against ids from llama.cpp and Hugging Face, and on bad input.

#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

mod shared_data;

use std::fs::{self, File};
use std::io::BufReader;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ggrs_model::gguf::GgufFile;
use ggrs_model::tokenizer::{
    EncodeOptions, TokenId, TokenType, Tokenizer, TokenizerError, Utf8Stream, Vocab,
};
use proptest::prelude::*;
use shared_data::shared_fixture;

const SPECIAL: EncodeOptions = EncodeOptions {
    add_bos: false,
    parse_special: true,
};

const PLAIN: EncodeOptions = EncodeOptions {
    add_bos: false,
    parse_special: false,
};

fn vocab(file: &GgufFile) -> Vocab<'_> {
    let keys = file.metadata();
    let id = |role: &str| {
        keys.get(&format!("tokenizer.ggml.{role}_token_id"))
            .unwrap()
    };
    let types: Vec<i32> = keys.require("tokenizer.ggml.token_type").unwrap();
    Vocab {
        model: keys.require("tokenizer.ggml.model").unwrap(),
        pre: keys.require("tokenizer.ggml.pre").unwrap(),
        tokens: keys.require("tokenizer.ggml.tokens").unwrap(),
        token_types: types
            .into_iter()
            .map(|id| TokenType::from_gguf(id).unwrap())
            .collect(),
        merges: keys.require("tokenizer.ggml.merges").unwrap(),
        bos: id("bos"),
        eos: id("eos"),
        eot: id("eot"),
        pad: id("padding"),
        add_bos: keys
            .get("tokenizer.ggml.add_bos_token")
            .unwrap()
            .unwrap_or(false),
    }
}

/// Qwen's vocabulary of 151 936 tokens, with the pre-tokenizer of this name.
fn qwen(pre: &str) -> Option<Tokenizer> {
    let path = shared_fixture("tokenizer/ggml-vocab-qwen35.gguf.xz")?;
    let mut bytes = Vec::new();
    lzma_rs::xz_decompress(&mut BufReader::new(File::open(&path).unwrap()), &mut bytes).unwrap();
    let file = GgufFile::from_bytes(path, bytes).unwrap();
    Some(
        Tokenizer::new(&Vocab {
            pre,
            ..vocab(&file)
        })
        .unwrap(),
    )
}

static DEMO: LazyLock<Tokenizer> = LazyLock::new(|| {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../ggrs-cli/assets/demo-q8_0.gguf"
    );
    Tokenizer::new(&vocab(&GgufFile::open(path).unwrap())).unwrap()
});

#[derive(serde::Deserialize)]
struct CaseFile {
    cases: Vec<Case>,
}

/// Where the two disagree Hugging Face has applied NFC first.
#[derive(serde::Deserialize)]
struct Case {
    text: String,
    llama_cpp: Vec<TokenId>,
}

fn check_qwen(pre: &str, n_texts: usize) {
    let (Some(tokenizer), Some(texts), Some(ids), Some(cases)) = (
        qwen(pre),
        shared_fixture(&format!("tokenizer/ggml-vocab-{pre}.gguf.inp")),
        shared_fixture(&format!("tokenizer/ggml-vocab-{pre}.gguf.out")),
        shared_fixture(&format!("tokenizer/{pre}.cases.json")),
    ) else {
        return;
    };
    let texts = fs::read_to_string(texts).unwrap();
    let ids = fs::read_to_string(ids).unwrap();
    let texts: Vec<&str> = texts.split_terminator("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!((texts.len(), ids.len()), (n_texts, n_texts));
    for (text, ids) in texts.into_iter().zip(ids) {
        let ids: Vec<TokenId> = ids
            .split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect();
        assert_eq!(tokenizer.encode(text, PLAIN).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }

    let cases: CaseFile = serde_json::from_slice(&fs::read(cases).unwrap()).unwrap();
    assert_eq!(cases.cases.len(), 30);
    for case in cases.cases {
        let ids = tokenizer.encode(&case.text, SPECIAL).unwrap();
        assert_eq!(ids, case.llama_cpp, "{:?}", case.text);
        assert_eq!(tokenizer.decode(&ids).unwrap(), case.text);
    }
}

#[test]
fn qwen2_ids_are_those_of_llama_cpp() {
    check_qwen("qwen2", 46);
}

#[test]
fn qwen35_ids_are_those_of_llama_cpp() {
    check_qwen("qwen35", 50);
}

#[test]
fn qwen_roles() {
    let Some(tokenizer) = qwen("qwen2") else {
        return;
    };
    assert_eq!(tokenizer.n_tokens(), 151_936);
    assert_eq!(tokenizer.eos(), Some(151_643));
    // `<|endoftext|>` is eos; `<|im_end|>` ends an answer by its name.
    let ends: Vec<TokenId> = (0..151_936)
        .filter(|&id| tokenizer.is_end_of_generation(id))
        .collect();
    assert_eq!(ends, [151_643, 151_645]);
    assert!(tokenizer.is_control(151_644) && !tokenizer.is_control(0));
    // A user-defined token is found even in plain text, a control token only where it is allowed.
    assert_eq!(tokenizer.encode("[PAD151646]", PLAIN).unwrap(), [151_646]);
    assert_eq!(tokenizer.encode("<|im_end|>", SPECIAL).unwrap(), [151_645]);
    let plain = tokenizer.encode("<|im_end|>", PLAIN).unwrap();
    assert!(plain.iter().all(|&id| !tokenizer.is_control(id)));
    assert_eq!(tokenizer.decode(&plain).unwrap(), "<|im_end|>");
}

#[test]
fn long_texts_take_no_quadratic_time() {
    let Some(tokenizer) = qwen("qwen35") else {
        return;
    };
    for piece in [
        "a", " ", "\n", "=", "'", "é", "\u{301}", " \u{a0}", "ab", "日",
    ] {
        let text = piece.repeat((1 << 18) / piece.len());
        let begun = Instant::now();
        let ids = tokenizer.encode(&text, PLAIN).unwrap();
        // Linear time takes well below a second; quadratic time would take many minutes.
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{piece:?}: {:?}",
            begun.elapsed()
        );
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn demo_prompts_have_the_recorded_ids() {
    #[derive(serde::Deserialize)]
    struct Record {
        cases: Vec<Prompt>,
    }
    #[derive(serde::Deserialize)]
    struct Prompt {
        prompt: String,
        ids: Vec<TokenId>,
    }
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/demo/demo.expected.json"
    );
    let record: Record = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let tokenizer = &*DEMO;
    assert!(record.cases.len() >= 5);
    for case in record.cases {
        assert_eq!(tokenizer.encode(&case.prompt, SPECIAL).unwrap(), case.ids);
        assert_eq!(tokenizer.decode(&case.ids).unwrap(), case.prompt);
    }
    assert!(tokenizer.is_end_of_generation(tokenizer.eos().unwrap()));
    assert!(!tokenizer.add_bos());
}

#[test]
fn tiny_model_prompts_have_the_recorded_ids() {
    #[derive(serde::Deserialize)]
    struct Prompt {
        text: Option<String>,
        ids: Vec<TokenId>,
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/qwen3moe");
    for (size, model) in [("small", "small-f32"), ("k", "k-kmix")] {
        let prompts = fs::read(format!("{folder}/prompts.{size}.json")).unwrap();
        let prompts: Vec<Prompt> = serde_json::from_slice(&prompts).unwrap();
        let file = GgufFile::open(format!("{folder}/{model}.gguf")).unwrap();
        let tokenizer = Tokenizer::new(&vocab(&file)).unwrap();
        let mut n_texts = 0;
        for prompt in prompts {
            if let Some(text) = prompt.text {
                assert_eq!(tokenizer.encode(&text, SPECIAL).unwrap(), prompt.ids);
                n_texts += 1;
            }
        }
        assert!(n_texts > 0);
    }
}

proptest! {
    #[test]
    fn any_text_comes_back(text in "(\\PC|[ \n\t'<|>]|im_end|<\\|im_end\\|>){0,60}") {
        let tokenizer = &*DEMO;
        for options in [PLAIN, SPECIAL] {
            let ids = tokenizer.encode(&text, options).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), &*text);
            let mut stream = Utf8Stream::default();
            let mut streamed = String::new();
            for &id in &ids {
                streamed += &stream.push(tokenizer.token_bytes(id).unwrap());
            }
            prop_assert_eq!(streamed + &stream.finish(), &*text);
        }
    }
}

fn small<'a>() -> Vocab<'a> {
    Vocab {
        model: "gpt2",
        pre: "qwen2",
        tokens: vec!["a", "b", "ab", "<s>", "</s>", "日"],
        token_types: vec![
            TokenType::Normal,
            TokenType::Normal,
            TokenType::Normal,
            TokenType::Control,
            TokenType::UserDefined,
            TokenType::Normal,
        ],
        merges: vec!["a b"],
        bos: Some(3),
        eos: Some(4),
        ..Vocab::default()
    }
}

#[test]
fn options_add_bos_and_allow_control_tokens() {
    let tokenizer = Tokenizer::new(&small()).unwrap();
    let with_bos = EncodeOptions {
        add_bos: true,
        ..SPECIAL
    };
    assert_eq!(
        tokenizer.encode("aab<s>b</s>", with_bos).unwrap(),
        [3, 0, 2, 3, 1, 4]
    );
    assert_eq!(tokenizer.encode("", with_bos).unwrap(), [3]);
    assert_eq!(tokenizer.encode("b</s>", PLAIN).unwrap(), [1, 4]);
    let error = tokenizer.encode("b<s>", PLAIN).unwrap_err();
    assert_eq!(
        error.to_string(),
        "byte 0x3c at offset 1 of the text has no token in the vocabulary"
    );
    // A normal token outside the byte alphabet stands for itself.
    assert_eq!(tokenizer.decode(&[5, 3]).unwrap(), "日<s>");
}

#[test]
fn ids_outside_the_vocabulary_are_named() {
    let tokenizer = Tokenizer::new(&small()).unwrap();
    for id in [6, TokenId::MAX] {
        assert_eq!(
            tokenizer.token_bytes(id).unwrap_err().to_string(),
            format!("token id {id} is outside the vocabulary of 6 tokens")
        );
        assert!(tokenizer.decode(&[0, id]).is_err());
        assert!(!tokenizer.is_end_of_generation(id));
    }
}

#[test]
fn a_bad_vocabulary_is_refused() {
    let refused = |vocab: Vocab<'_>| Tokenizer::new(&vocab).unwrap_err();
    let error = refused(Vocab {
        model: "llama",
        ..small()
    });
    assert_eq!(
        error.to_string(),
        "tokenizer model `llama` is not supported (supported: gpt2)"
    );
    let error = refused(Vocab { pre: "", ..small() });
    assert!(matches!(
        error,
        TokenizerError::UnsupportedPreTokenizer { .. }
    ));
    let error = refused(Vocab {
        tokens: vec![],
        ..small()
    });
    assert!(matches!(error, TokenizerError::EmptyVocab));
    let error = refused(Vocab {
        token_types: vec![TokenType::Normal],
        ..small()
    });
    assert_eq!(
        error.to_string(),
        "the vocabulary has 6 tokens but 1 token types"
    );
    let error = refused(Vocab {
        eot: Some(6),
        ..small()
    });
    assert_eq!(
        error.to_string(),
        "the eot token is id 6, but the vocabulary has 6 tokens"
    );
    let error = refused(Vocab {
        merges: vec!["a b", "ab"],
        ..small()
    });
    assert_eq!(
        error.to_string(),
        "merge 1 is `ab`, expected two pieces separated by a space"
    );
    let without_bos = Tokenizer::new(&Vocab {
        bos: None,
        ..small()
    })
    .unwrap();
    let error = without_bos
        .encode(
            "a",
            EncodeOptions {
                add_bos: true,
                ..PLAIN
            },
        )
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the text is to begin with a bos token, but the vocabulary names none"
    );
}

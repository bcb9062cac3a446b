//! `run` and `chat` on the demo model, whose answers are known from its training framework, and `tokenize`.

use ggrs_core::passes::PassSet;
use ggrs_tests::fixtures::{DemoExpectations, Golden};

use crate::broken_model::good_path;
use crate::process::{arg, ggrs, ggrs_reading, program, run};

const QUESTION: &str = "The capital of France is";
const ANSWER: &str = "The capital of France is Paris.\n";

#[test]
fn run_prints_the_answer_and_then_its_timing() {
    let run = ggrs(["run", QUESTION]).succeeded();
    assert_eq!(run.stdout, ANSWER);
    assert!(
        run.stderr.starts_with("prompt: 13 tokens, "),
        "{}",
        run.stderr
    );
    assert!(run.stderr.trim_end().ends_with(" t/s"), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1);
}

#[test]
fn run_answers_all_known_questions() {
    let expected = DemoExpectations::load().unwrap();
    for case in expected.cases {
        let told = ggrs(["run", &case.question, "--json"]).json();
        assert_eq!(told["text"], case.answer, "{}", case.question);
        assert_eq!(told["n_prompt"], case.ids.len());
        assert_eq!(told["finish"], "end_of_generation");
    }
}

#[test]
fn every_way_of_computing_gives_the_answer() {
    let mut ways = vec![
        vec!["--precision", "exact"],
        vec!["--kv-type", "q8_0"],
        vec!["--kv-type", "BF16", "--batch", "3"],
        vec!["--threads", "1"],
        vec!["--devices", "cpu:0"],
        vec!["--ctx", "32"],
        vec!["--temp", "1", "--top-k", "1"],
    ];
    let passes: Vec<&str> = PassSet::default()
        .names()
        .flat_map(|name| ["--no-pass", name])
        .collect();
    ways.push(passes);
    for way in ways {
        let args = ["run", QUESTION].into_iter().chain(way.iter().copied());
        assert_eq!(ggrs(args).succeeded().stdout, ANSWER, "{way:?}");
    }
    let mut scalar = program();
    scalar.args(["run", QUESTION]).env("GGRS_CPU_ISA", "scalar");
    assert_eq!(run(scalar, b"").succeeded().stdout, ANSWER);
}

#[test]
fn the_prompt_may_come_from_stdin_or_a_file() {
    assert_eq!(
        ggrs_reading(QUESTION.as_bytes(), ["run", "-"])
            .succeeded()
            .stdout,
        ANSWER
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    std::fs::write(&file, QUESTION).unwrap();
    assert_eq!(ggrs(["run", "-f", arg(&file)]).succeeded().stdout, ANSWER);
    // With a prompt file the one word left is the model.
    let model = good_path();
    let told = ggrs(["run", arg(&model), "-f", arg(&file), "-n", "1", "--json"]).json();
    assert_eq!(told["finish"], "max_tokens");
}

#[test]
fn answers_end_where_they_are_told_to() {
    assert_eq!(
        ggrs(["run", QUESTION, "--stop", " Par"]).succeeded().stdout,
        "The capital of France is\n"
    );
    let told = ggrs(["run", QUESTION, "-n", "3", "--json"]).json();
    assert_eq!(
        (
            told["finish"].as_str(),
            told["tokens"].as_array().map(Vec::len)
        ),
        (Some("max_tokens"), Some(3))
    );
    let full = ggrs(["run", QUESTION, "--ctx", "16"]).succeeded();
    assert!(
        ANSWER.starts_with(full.stdout.trim_end()),
        "{}",
        full.stdout
    );
    assert!(
        full.stderr.contains("the context of 16 tokens is full"),
        "{}",
        full.stderr
    );
}

#[test]
fn raw_prompts_are_continued_as_the_reference_continues_them() {
    let golden = Golden::load("qwen3moe", "small-f32").unwrap();
    let prompt = golden
        .prompts
        .iter()
        .find(|p| p.text.is_some())
        .expect("a prompt from text");
    let text = prompt.text.as_deref().unwrap_or_default();
    let n = prompt.gen_ids.len().to_string();
    let path = arg(&golden.gguf_path);
    let args = [
        "run",
        path,
        text,
        "--raw",
        "--ignore-eos",
        "--precision",
        "exact",
        "--json",
        "-n",
        &n,
    ];
    let told = ggrs(args).json();
    let tokens: Vec<i64> = told["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(serde_json::Value::as_i64)
        .collect();
    // Up to the first step that rounding could turn.
    let sure = prompt
        .gen_top1_gap
        .iter()
        .take_while(|gap| **gap >= 1e-3)
        .count();
    assert!(sure > 4);
    let expected: Vec<i64> = prompt
        .gen_ids
        .iter()
        .take(sure)
        .map(|id| i64::from(*id))
        .collect();
    assert_eq!(tokens[..sure], expected);
}

#[test]
fn sampling_is_reproducible_by_its_seed() {
    let model = good_path();
    let sample = |seed: &str| {
        let args = [
            "run",
            arg(&model),
            "--raw",
            "The list",
            "--temp",
            "1.5",
            "-n",
            "24",
            "--json",
            "--seed",
            seed,
        ];
        ggrs(args).json()["tokens"].clone()
    };
    assert_eq!(sample("7"), sample("7"));
    assert_ne!(sample("7"), sample("8"));
}

#[test]
fn a_model_without_chat_template_gets_plain_text() {
    let fault = crate::broken_model::Fault {
        without_key: Some("tokenizer.chat_template"),
        ..Default::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.gguf");
    std::fs::write(&path, crate::broken_model::with(&fault)).unwrap();
    let plain = ggrs(["run", arg(&path), "The list", "-n", "8"]).succeeded();
    assert!(
        plain.stderr.contains("the model has no chat template"),
        "{}",
        plain.stderr
    );
    let raw = ggrs(["run", arg(&path), "The list", "-n", "8", "--raw"]).succeeded();
    assert!(!raw.stderr.contains("template"), "{}", raw.stderr);
    assert_eq!(plain.stdout, raw.stdout);
    ggrs(["chat", arg(&path)]).failed(1, &["the model has no chat template"]);
}

#[test]
fn more_v_say_more() {
    let info = ggrs(["run", QUESTION, "-v"]).succeeded();
    assert_eq!(info.stdout, ANSWER);
    for text in ["model loaded", "session opened", "step planned"] {
        assert!(info.stderr.contains(text), "{}", info.stderr);
    }
    assert!(!info.stderr.contains("rms_norm"));
    let trace = ggrs(["run", QUESTION, "-vvv"]).succeeded();
    assert!(
        trace.stderr.contains("rms_norm") && trace.stderr.contains("pass fuse_gate_up"),
        "no plan"
    );
}

#[test]
fn the_null_device_plans_what_no_memory_holds() {
    let run = ggrs([
        "run",
        "--devices",
        "null",
        "--ctx",
        "2000000",
        "-n",
        "1",
        "-vvv",
        QUESTION,
    ])
    .succeeded();
    assert!(run.stderr.contains("on null:0"), "no plan");
}

#[test]
fn chat_answers_line_by_line() {
    let chat =
        ggrs_reading(b"The capital of France is\n\nWhat is 17 + 25?\n", ["chat"]).succeeded();
    assert_eq!(
        chat.stdout,
        "The capital of France is Paris.\n17 + 25 = 42.\n"
    );
    assert_eq!(chat.stderr, "");
}

#[test]
fn chat_survives_errors_and_knows_its_commands() {
    let input = b"What is 17 + 25?\n\xff\n/reset\n/nonsense\nThe capital of France is\n/quit\nWhat is 1 + 1?\n";
    let chat = ggrs_reading(input, ["chat"]).succeeded();
    assert_eq!(
        chat.stdout,
        "17 + 25 = 42.\nThe capital of France is Paris.\n"
    );
    assert!(
        chat.stderr
            .contains("error: standard input is not UTF-8 text: the bytes at offset 17"),
        "{}",
        chat.stderr
    );
    assert!(
        chat.stderr.contains("no command /nonsense"),
        "{}",
        chat.stderr
    );
}

#[test]
fn a_full_context_ends_a_turn_and_not_the_chat() {
    let long = "and ".repeat(64);
    let input = format!(
        "The capital of France is\n{long}\nThe capital of France is\n/reset\nThe capital of France is\n"
    );
    let chat = ggrs_reading(input.as_bytes(), ["chat", "--ctx", "44"]).succeeded();
    assert!(
        chat.stderr.contains("do not fit: the context holds 44"),
        "{}",
        chat.stderr
    );
    assert!(chat.stderr.contains("/reset"), "{}", chat.stderr);
    let answers: Vec<&str> = chat.stdout.lines().collect();
    assert!(answers.len() >= 2, "{}", chat.stdout);
    assert_eq!(*answers.last().unwrap(), ANSWER.trim_end());
}

#[test]
fn chat_reuses_what_it_has_read() {
    let chat = ggrs_reading(
        b"The capital of France is\nWhat is 17 + 25?\n",
        ["chat", "-v"],
    )
    .succeeded();
    let prompts: Vec<&str> = chat
        .stderr
        .lines()
        .filter(|line| line.contains("prompt: "))
        .collect();
    assert!(prompts[0].contains("prompt: 13 tokens"), "{}", prompts[0]);
    // The second prompt has the first turn in it: only the new turn is read.
    let read: usize = prompts[1]
        .split("prompt: ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(read < 25, "{}", prompts[1]);
}

#[test]
fn tokenize_gives_the_reference_s_ids_and_back() {
    for case in DemoExpectations::load().unwrap().cases {
        let told = ggrs(["tokenize", &case.prompt, "--special", "--json"]).json();
        assert_eq!(told["ids"], serde_json::json!(case.ids));
        let ids = case
            .ids
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(",");
        assert_eq!(
            ggrs(["tokenize", "--decode", &ids]).succeeded().stdout,
            format!("{}\n", case.prompt)
        );
    }
    let lines = ggrs_reading(b"<|im_end|>", ["tokenize", "-"])
        .succeeded()
        .stdout;
    assert!(
        lines.lines().count() > 1,
        "a user's text is no control token: {lines}"
    );
}

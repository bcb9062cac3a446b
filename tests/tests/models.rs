//! Whole models on one device (the CPU, or what `GGRS_TEST_DEVICE` names): logits and greedy text against Hugging Face Transformers, the demo model's answers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ggrs_core::DType;
use ggrs_core::device::Precision;
use ggrs_model::chat::{Message, RenderOptions};
use ggrs_model::sampling::{Sampler, SamplerConfig};
use ggrs_model::tokenizer::EncodeOptions;
use ggrs_model::{GenerateOptions, LoadOptions, Logits, Model, Session, SessionOptions};
use ggrs_tests::fixtures::{DemoExpectations, Golden, GoldenPrompt, demo_questions, fixture_path};
use ggrs_tests::gpu::chosen;

fn load(path: &Path, precision: Precision) -> Arc<Model> {
    let options = LoadOptions {
        precision,
        ..LoadOptions::default()
    };
    Model::load(path, chosen(), options, &mut |_, _| {}).expect("the model loads")
}

fn session(model: &Arc<Model>, kv_dtype: DType, n_batch: usize) -> Session {
    let options = SessionOptions {
        n_ctx: Some(512),
        n_batch,
        kv_dtype,
        ..SessionOptions::default()
    };
    Session::new(model, &options).expect("the session opens")
}

fn argmax(row: &[f32]) -> usize {
    row.iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)))
        .map_or(0, |(i, _)| i)
}

fn row_nmse(actual: &[f32], expected: &[f64]) -> f64 {
    let error: f64 = actual
        .iter()
        .zip(expected)
        .map(|(a, e)| (f64::from(*a) - e).powi(2))
        .sum();
    error / expected.iter().map(|e| e * e).sum::<f64>()
}

/// KL divergence of the softmax of `actual` from that of `expected`, in nats.
fn kl(actual: &[f32], expected: &[f64]) -> f64 {
    let log_softmax = |x: &[f64]| {
        let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum = x.iter().map(|v| (v - max).exp()).sum::<f64>().ln() + max;
        x.iter().map(|v| v - sum).collect::<Vec<f64>>()
    };
    let (p, q) = (
        log_softmax(expected),
        log_softmax(&actual.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()),
    );
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q).round() as usize]
}

/// What a model file gives beside its golden.
#[derive(Default)]
struct Agreement {
    /// NMSE of each stored row.
    nmse: Vec<f64>,
    /// KL of each stored row.
    kl: Vec<f64>,
    /// Positions whose argmax agrees, and the golden's gap where it does not.
    agree: usize,
    gaps: Vec<f64>,
    /// NMSE of the rows of the prompt whose routing is far from every edge.
    stable: Vec<f64>,
}

fn ids(prompt: &GoldenPrompt) -> Vec<u32> {
    prompt
        .ids
        .iter()
        .map(|id| u32::try_from(*id).expect("ids are not negative"))
        .collect()
}

fn measure(golden: &Golden, precision: Precision, kv: DType, n_batch: usize) -> Agreement {
    let model = load(&golden.gguf_path, precision);
    let n_vocab = model.architecture().n_vocab();
    let mut a = Agreement::default();
    for prompt in &golden.prompts {
        let logits = session(&model, kv, n_batch)
            .feed(&ids(prompt), Logits::All)
            .expect("the prompt runs");
        let row = |position: usize| &logits[position * n_vocab..(position + 1) * n_vocab];
        for (i, position) in prompt.rows.iter().enumerate() {
            let expected = &prompt.logits.data[i * n_vocab..(i + 1) * n_vocab];
            let nmse = row_nmse(row(*position), expected);
            a.nmse.push(nmse);
            a.kl.push(kl(row(*position), expected));
            if prompt.name.contains("stable") {
                a.stable.push(nmse);
            }
        }
        for (position, (expected, gap)) in prompt.argmax.iter().zip(&prompt.top1_gap).enumerate() {
            if i32::try_from(argmax(row(position))) == Ok(*expected) {
                a.agree += 1;
            } else {
                a.gaps.push(*gap);
            }
        }
    }
    a
}

const FILES: [&str; 4] = ["small-f32", "small-q8_0", "small-mix32", "k-kmix"];

#[test]
fn qwen3moe_exact_mode_is_the_reference() {
    for file in FILES {
        let golden = Golden::load("qwen3moe", file).expect("the fixture");
        // One step, and a prefill in odd chunks: both must be the same model.
        for n_batch in [512, 37] {
            let mut a = measure(&golden, Precision::Exact, DType::F32, n_batch);
            let (median, p95) = (quantile(&mut a.nmse, 0.5), quantile(&mut a.nmse, 0.95));
            println!("{file} exact, batch {n_batch}: row NMSE median {median:.2e}, p95 {p95:.2e}");
            let bound = &golden.tolerances.exact;
            assert!(
                median <= bound.row_nmse_median && p95 <= bound.row_nmse_p95,
                "{file}: {median:e} {p95:e}"
            );
            assert!(bound.row_nmse_median <= 1e-10 && bound.row_nmse_p95 <= 1e-9);
            let worst = a.gaps.iter().copied().fold(0.0, f64::max);
            assert!(
                worst <= 1e-3,
                "{file}: the argmax differs where the golden's gap is {worst}"
            );
        }
    }
}

#[test]
fn qwen3moe_exact_mode_writes_the_reference_text() {
    for file in FILES {
        let golden = Golden::load("qwen3moe", file).expect("the fixture");
        let model = load(&golden.gguf_path, Precision::Exact);
        for prompt in &golden.prompts {
            let mut session = session(&model, DType::F32, 512);
            let mut logits = session
                .feed(&ids(prompt), Logits::Last)
                .expect("the prompt runs");
            for (step, expected) in prompt.gen_ids.iter().enumerate() {
                let id = argmax(&logits);
                if id as i64 != i64::from(*expected) {
                    let gap = step
                        .checked_sub(1)
                        .and_then(|s| prompt.gen_top1_gap.get(s))
                        .copied();
                    let gap = gap.unwrap_or_else(|| prompt.top1_gap.last().copied().unwrap_or(0.0));
                    assert!(
                        gap < 1e-3,
                        "{file} {}: token {step} is {id}, not {expected}",
                        prompt.name
                    );
                    break;
                }
                logits = session
                    .feed(&[id as u32], Logits::Last)
                    .expect("the step runs");
            }
        }
    }
}

#[test]
fn qwen3moe_fast_mode_keeps_each_files_tolerance() {
    for file in FILES {
        let golden = Golden::load("qwen3moe", file).expect("the fixture");
        let mut a = measure(&golden, Precision::Fast, DType::F16, 512);
        let bound = &golden.tolerances.lowp;
        let (median, p95) = (quantile(&mut a.nmse, 0.5), quantile(&mut a.nmse, 0.95));
        let mean_kl = a.kl.iter().sum::<f64>() / a.kl.len() as f64;
        let agreement = a.agree as f64 / (a.agree + a.gaps.len()) as f64;
        let gap = a.gaps.iter().copied().fold(0.0, f64::max);
        let (stable_median, stable_max) =
            (quantile(&mut a.stable, 0.5), quantile(&mut a.stable, 1.0));
        println!(
            "{file} fast: row NMSE median {median:.2e} (<= {:.2e}), p95 {p95:.2e} (<= {:.2e}), KL {mean_kl:.2e}, \
             argmax {:.1}%, stable12 median {stable_median:.2e} max {stable_max:.2e}",
            bound.row_nmse_median,
            bound.row_nmse_p95,
            100.0 * agreement
        );
        assert!(median <= bound.row_nmse_median, "{file}: median {median:e}");
        assert!(p95 <= bound.row_nmse_p95, "{file}: p95 {p95:e}");
        assert!(
            mean_kl <= bound.mean_kl.expect("a bound"),
            "{file}: KL {mean_kl:e}"
        );
        assert!(
            agreement >= bound.argmax_min.expect("a bound"),
            "{file}: argmax {agreement}"
        );
        assert!(gap <= bound.gap_max.expect("a bound"), "{file}: gap {gap}");
        assert!(
            stable_median <= bound.stable12_row_nmse_median.expect("a bound"),
            "{file}: {stable_median:e}"
        );
        assert!(
            stable_max <= bound.stable12_row_nmse_max.expect("a bound"),
            "{file}: {stable_max:e}"
        );
    }
}

/// The demo model's files: F16, Q8_0, Q4_K_M.
fn demo_files() -> [PathBuf; 3] {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ggrs-cli/assets/demo-q8_0.gguf");
    [
        fixture_path("demo/demo-f16.gguf"),
        program,
        fixture_path("demo/demo-q4_k_m.gguf"),
    ]
}

fn answer(session: &mut Session, question: &str) -> String {
    let model = Arc::clone(session.model());
    let chat = model.chat_template().expect("the demo has a template");
    let prompt = chat
        .render(&[Message::new("user", question)], &RenderOptions::default())
        .expect("it renders");
    let options = EncodeOptions {
        parse_special: true,
        ..EncodeOptions::default()
    };
    let ids = model
        .tokenizer()
        .expect("a vocabulary")
        .encode(&prompt, options)
        .expect("it encodes");
    let mut sampler = Sampler::new(SamplerConfig::default(), 0).expect("greedy");
    let limits = GenerateOptions {
        max_tokens: Some(64),
        ..GenerateOptions::default()
    };
    let mut streamed = String::new();
    let generation = session
        .generate(&ids, &mut sampler, &limits, &mut |event| {
            if let ggrs_model::Event::Text(text) = event {
                streamed.push_str(text);
            }
            ControlFlow::Continue(())
        })
        .expect("it answers");
    assert_eq!(generation.text, streamed);
    generation.text
}

#[test]
fn the_demo_model_answers_its_questions() {
    let expected = DemoExpectations::load().expect("the fixture");
    assert!(expected.cases.len() >= 5);
    for path in demo_files() {
        let mut session = session(&load(&path, Precision::Fast), DType::F16, 512);
        for case in &expected.cases {
            assert_eq!(
                answer(&mut session, &case.question),
                case.answer,
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn the_demo_model_answers_generated_questions() {
    let questions = demo_questions(1);
    assert!(questions.len() >= 100, "only {} questions", questions.len());
    for path in demo_files() {
        let mut session = session(&load(&path, Precision::Fast), DType::F16, 512);
        let wrong: Vec<String> = questions
            .iter()
            .map(|q| (q, answer(&mut session, &q.question)))
            .filter(|(q, a)| *a != q.answer)
            .map(|(q, a)| format!("{}: {} -> {a}, not {}", q.category, q.question, q.answer))
            .collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", path.display());
    }
}

#[test]
fn the_demo_models_logits_are_those_of_its_training_framework() {
    let expected = DemoExpectations::load().expect("the fixture");
    let model = load(&demo_files()[0], Precision::Exact);
    for case in &expected.cases {
        let logits = session(&model, DType::F32, 512)
            .feed(&case.ids, Logits::Last)
            .expect("it runs");
        for (id, logit) in &case.last_logits_top8 {
            let got = f64::from(logits[*id as usize]);
            assert!(
                (got - logit).abs() < 2e-3,
                "{}: token {id} {got} not {logit}",
                case.question
            );
        }
    }
}

#[test]
fn a_shared_beginning_is_reused_and_changes_nothing() {
    let model = load(&demo_files()[1], Precision::Fast);
    let expected = DemoExpectations::load().expect("the fixture");
    let mut shared = session(&model, DType::F16, 512);
    for case in expected.cases.iter().chain(expected.cases.iter().rev()) {
        let mut steps = Vec::new();
        let reused = shared
            .prefill(&case.ids, &mut |n| steps.push(n))
            .expect("it runs");
        let fresh = session(&model, DType::F16, 512)
            .feed(&case.ids, Logits::Last)
            .expect("it runs");
        let fresh64: Vec<f64> = fresh.iter().map(|x| f64::from(*x)).collect();
        assert!(row_nmse(&reused, &fresh64) < 1e-4, "{}", case.question);
        assert!(
            *steps.last().expect("a step") < case.ids.len() || case.ids == expected.cases[0].ids
        );
        assert_eq!(shared.tokens(), case.ids);
    }
}

#[test]
fn an_error_leaves_the_session_as_it_was() {
    let model = load(&demo_files()[1], Precision::Fast);
    let mut s = Session::new(
        &model,
        &SessionOptions {
            n_ctx: Some(40),
            ..SessionOptions::default()
        },
    )
    .expect("opens");
    let first = s.feed(&[1534, 265, 198], Logits::Last).expect("it runs");
    let unknown = s
        .feed(&[5, 999_999], Logits::Last)
        .expect_err("no such token");
    assert_eq!(
        unknown.to_string(),
        "token id 999999 at position 1 is outside the vocabulary of 1536"
    );
    let full = s.feed(&[5; 38], Logits::Last).expect_err("no room");
    assert!(
        full.to_string()
            .starts_with("38 more tokens do not fit: the context holds 40, 3 are used")
    );
    assert!(s.feed(&[], Logits::Last).is_err());
    assert_eq!(s.tokens().len(), 3);
    s.truncate(2);
    // One token after two is the same as three at once, but for the order of sums.
    let again = s.feed(&[198], Logits::Last).expect("it runs");
    let first: Vec<f64> = first.iter().map(|x| f64::from(*x)).collect();
    assert!(row_nmse(&again, &first) < 1e-9);
}

#[test]
fn every_kv_type_answers() {
    let model = load(&demo_files()[1], Precision::Fast);
    for kv in [DType::F32, DType::F16, DType::BF16, DType::Q8_0] {
        let mut session = session(&model, kv, 512);
        assert_eq!(
            answer(&mut session, "What is 17 + 25?"),
            "17 + 25 = 42.",
            "{kv}"
        );
    }
    // Four bits are too few for this small model's arithmetic; the session must still run.
    let mut session = session(&model, DType::Q4_0, 512);
    assert!(!answer(&mut session, "Hello").is_empty());
}

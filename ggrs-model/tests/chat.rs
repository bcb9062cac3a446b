//! Chat templates against what Hugging Face's `apply_chat_template` writes, and on bad input.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails here fails a test"
)]

mod shared_data;

use std::error::Error;
use std::fs;

use ggrs_model::chat::{ChatError, ChatTemplate, Message, RenderOptions};
use serde_json::{Value, json};
use shared_data::shared_fixture;

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    messages: Vec<Message>,
    kwargs: serde_json::Map<String, Value>,
    bos_token: Option<String>,
    eos_token: Option<String>,
    expected: Option<String>,
    error: Option<String>,
}

impl Case {
    fn options(&self) -> RenderOptions {
        let mut variables = self.kwargs.clone();
        let prompt = variables.remove("add_generation_prompt");
        let tools = variables.remove("tools");
        RenderOptions {
            add_generation_prompt: prompt.unwrap().as_bool().unwrap(),
            tools: tools.map_or_else(Vec::new, |tools| tools.as_array().unwrap().clone()),
            variables,
        }
    }
}

/// Renders every case of a template; `refusals` are the cases that the template itself refuses.
fn check_template(name: &str, refusals: &[&str]) {
    let (Some(source), Some(cases)) = (
        shared_fixture(&format!("chat/{name}.jinja")),
        shared_fixture(&format!("chat/{name}.json")),
    ) else {
        return;
    };
    let source = fs::read_to_string(source).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(cases).unwrap()).unwrap();
    assert_eq!(cases.len(), 23);
    let mut refused = Vec::new();
    for case in &cases {
        let (bos, eos) = (case.bos_token.as_deref(), case.eos_token.as_deref());
        let template = ChatTemplate::new(&source, bos, eos).unwrap();
        let rendered = template.render(&case.messages, &case.options());
        match (rendered, &case.expected, &case.error) {
            (Ok(text), Some(expected), None) => {
                assert_eq!(text, *expected, "{name}, {}", case.name)
            }
            (Err(ChatError::Refused { message }), None, Some(error)) => {
                assert_eq!(*error, format!("TemplateError: {message}"));
                refused.push(case.name.as_str());
            }
            (Err(ChatError::NoMessages), None, Some(_)) => assert_eq!(case.name, "no_messages"),
            // Python's own words for an operation on the wrong type differ.
            (Err(ChatError::Render { .. }), None, Some(_)) => assert_eq!(case.name, "parts"),
            (rendered, ..) => panic!("{name}, {}: {rendered:?}, not {:?}", case.name, case.error),
        }
    }
    assert_eq!(refused, refusals);
}

#[test]
fn qwen3() {
    check_template("Qwen-Qwen3-0.6B", &[]);
}

#[test]
fn qwen3_coder() {
    check_template("Qwen3-Coder", &[]);
}

#[test]
fn qwen35() {
    check_template("Qwen3.5-4B", &["developer", "system_only"]);
}

#[test]
fn gemma4() {
    check_template("google-gemma-4-31B-it", &[]);
}

#[test]
fn gemma4_interleaved() {
    check_template("google-gemma-4-31B-it-interleaved", &[]);
}

fn render(source: &str, variables: Value) -> Result<String, ChatError> {
    let Value::Object(variables) = variables else {
        panic!("variables must be an object");
    };
    let options = RenderOptions {
        variables,
        ..RenderOptions::default()
    };
    ChatTemplate::new(source, None, Some("</s>"))?.render(&[Message::new("user", "hi")], &options)
}

#[test]
fn templates_see_what_hugging_face_gives_them() {
    // Expected texts by jinja2 3.1 with the settings of transformers.
    for (source, expected) in [
        ("{{ bos_token is defined }} {{ eos_token }}", "False </s>"),
        (
            "{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }}",
            "True True True",
        ),
        ("{{ messages[0].content }}{{ messages[0].absent }}", "hi"),
        (
            "{{ none }} {{ 1e-5 }} {{ 2.0 }} {{ 1e16 }} {{ 7 // 2 }}",
            "None 1e-05 2.0 1e+16 3",
        ),
        (
            "{{ v is iterable }} {{ none is iterable }} {{ 'a' is sequence }}",
            "True False True",
        ),
        ("{{ v | tojson }}", r#"{"b": "<é>'", "a": [1.5, null]}"#),
        (
            "{{ v | tojson(indent=2, sort_keys=true) }}",
            "{\n  \"a\": [\n    1.5,\n    null\n  ],\n  \"b\": \"<é>'\"\n}",
        ),
        (
            "{{ v | tojson(separators=(',', ':'), ensure_ascii=true) }}",
            r#"{"b":"<\u00e9>'","a":[1.5,null]}"#,
        ),
        (
            "{% for i in range(5, 0, -2) %}{{ i }}{% if i == 3 %}{% break %}{% endif %}{% endfor %}",
            "53",
        ),
        (
            "{% set ns = namespace(x=1) %}{% for i in [1] %}{% set ns.x = 2 %}{% endfor %}{{ ns.x }}",
            "2",
        ),
        (
            "{% for k, v in v.items() %}{{ k.upper() }}{% endfor %}",
            "BA",
        ),
        (
            "{{ ' a b '.strip().split(' ')[-1] }}{{ 'abc'[::-1] }}",
            "bcba",
        ),
        ("a\n  {% if true %}\n  b\n  {% endif %}\n", "a\n  b\n"),
        ("x\n", "x"),
    ] {
        let rendered = render(source, json!({"v": {"b": "<é>'", "a": [1.5, null]}}));
        assert_eq!(rendered.unwrap(), expected, "{source}");
    }
    let year = render("{{ strftime_now('%Y') }}", json!({})).unwrap();
    assert!(year.parse::<u32>().unwrap() >= 2024, "{year}");
}

/// The chain of messages, as a program would print it.
fn chain(error: &ChatError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[test]
fn errors_say_what_and_where() {
    for (source, expected) in [
        (
            "{{ raise_exception('roles must alternate') }}",
            "the chat template refuses these messages: roles must alternate",
        ),
        (
            "{% macro f() %}{{ raise_exception('no') }}{% endmacro %}{% set x = f() %}",
            "the chat template refuses these messages: no",
        ),
        (
            "\n{{ messages[0].tool.name }}",
            "the chat template failed: undefined value: `messages[0].tool` is undefined \
             (in chat_template:2)",
        ),
        (
            "\n{% if %}",
            "the chat template is not valid: syntax error: unexpected end of block (in \
             chat_template:2)",
        ),
        (
            "{% frobnicate %}",
            "the chat template is not valid: syntax error: unknown statement frobnicate \
             (in chat_template:1)",
        ),
        (
            "{{ strftime_now('%Q') }}",
            "the chat template failed: invalid operation: strftime_now does not support \
             `%Q` (in chat_template:1)",
        ),
        (
            "{{ 1 | tojson(separators=['a']) }}",
            "the chat template failed: invalid operation: the separators of tojson must be \
             two texts (in chat_template:1)",
        ),
        (
            "{{ 'a' + 1 }}",
            "the chat template failed: invalid operation: tried to use + operator on \
             unsupported types string and number (in chat_template:1)",
        ),
        (
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "the chat template failed: invalid operation: recursion limit exceeded (in \
             chat_template:1)",
        ),
        (
            "{% set ns = namespace(x=[]) %}{% for i in range(200) %}{% set ns.x = [ns.x] \
             %}{% endfor %}{{ ns.x | tojson }}",
            "the chat template failed: invalid operation: a value nested deeper than 128 \
             levels cannot be written as JSON (in chat_template:1)",
        ),
    ] {
        let error = render(source, json!({})).unwrap_err();
        assert_eq!(chain(&error), expected, "{source}");
    }
}

#[test]
fn messages_are_read_from_json_as_they_are() {
    let message = Message::new("user", "a")
        .with("name", "b")
        .with("content", json!(null));
    let text = r#"{"role":"user","content":null,"name":"b"}"#;
    assert_eq!(serde_json::to_string(&message).unwrap(), text);
    assert_eq!(serde_json::from_str::<Message>(text).unwrap(), message);
}

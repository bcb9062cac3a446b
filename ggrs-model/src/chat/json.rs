//! JSON between Rust and templates: values as a template sees them, and the text that Python's
//! `json.dumps` writes for them, which models were trained on. Knows nothing of chats.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Deepest nesting that is written; a template can build a value without end.
const MAX_DEPTH: usize = 128;

/// A JSON value as a template sees it.
pub(super) fn to_template_value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => {
            if let Some(value) = number.as_i64() {
                Value::from(value)
            } else if let Some(value) = number.as_u64() {
                Value::from(value)
            } else {
                Value::from(number.as_f64().unwrap_or(f64::NAN))
            }
        }
        Json::String(value) => Value::from(value.as_str()),
        Json::Array(items) => items.iter().map(to_template_value).collect(),
        Json::Object(entries) => entries_to_template_value(entries),
    }
}

/// A JSON object as a template sees it, in the order of its entries.
pub(super) fn entries_to_template_value(
    entries: &serde_json::Map<String, serde_json::Value>,
) -> Value {
    Value::from_pairs(
        entries
            .iter()
            .map(|(key, value)| (key.as_str(), to_template_value(value))),
    )
}

/// A float as Python's `repr` writes it: the fewest digits that read back to the same value, with
/// an exponent below 1e-4 and from 1e16 on.
pub(super) fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{value:?}"),
    }
}

/// The arguments of `json.dumps` that templates may set.
#[derive(Debug)]
pub(super) struct JsonStyle {
    /// One item per line, each level moved in by this text.
    pub(super) indent: Option<String>,
    pub(super) item_separator: String,
    pub(super) key_separator: String,
    pub(super) ensure_ascii: bool,
    pub(super) sort_keys: bool,
}

/// `json.dumps(value)` in Python.
pub(super) fn dumps(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut writer = Writer {
        out: String::new(),
        style,
        depth: 0,
    };
    writer.value(value)?;
    Ok(writer.out)
}

struct Writer<'s> {
    out: String,
    style: &'s JsonStyle,
    depth: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                self.items(['[', ']'], value.try_iter()?, |writer, item| {
                    writer.value(&item)
                })
            }
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    entries.push((key_text(&key)?, value.get_item(&key)?));
                }
                if self.style.sort_keys {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.items(['{', '}'], entries.into_iter(), |writer, (key, value)| {
                    writer.string(&key);
                    writer.out.push_str(&writer.style.key_separator);
                    writer.value(&value)
                })
            }
            _ => match (scalar_text(value), value.as_str()) {
                (Some(text), _) => {
                    self.out.push_str(&text);
                    Ok(())
                }
                (None, Some(text)) => {
                    self.string(text);
                    Ok(())
                }
                (None, None) => Err(not_serializable(value, "")),
            },
        }
    }

    /// Writes what stands between two brackets.
    fn items<T>(
        &mut self,
        [open, close]: [char; 2],
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("a value nested deeper than {MAX_DEPTH} levels cannot be written as JSON"),
            ));
        }
        self.out.push(open);
        self.depth += 1;
        let mut is_empty = true;
        for item in items {
            if !is_empty {
                self.out.push_str(&self.style.item_separator);
            }
            is_empty = false;
            self.new_line();
            write(self, item)?;
        }
        self.depth -= 1;
        if !is_empty {
            self.new_line();
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(self.depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                _ if character < ' ' || (self.style.ensure_ascii && character > '~') => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }
}

/// The JSON text of what is neither a string nor a container.
fn scalar_text(value: &Value) -> Option<String> {
    Some(match value.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number if value.is_integer() => value.to_string(),
        ValueKind::Number => match f64::try_from(value.clone()).ok()? {
            number if number.is_nan() => "NaN".to_owned(),
            f64::INFINITY => "Infinity".to_owned(),
            f64::NEG_INFINITY => "-Infinity".to_owned(),
            number => python_float(number),
        },
        _ => return None,
    })
}

/// The text of a key: JSON has only strings, so numbers and constants are written out.
fn key_text(key: &Value) -> Result<String, Error> {
    match (key.as_str(), scalar_text(key)) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(text)) => Ok(text),
        (None, None) => Err(not_serializable(key, " as a key")),
    }
}

fn not_serializable(value: &Value, role: &str) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("{} cannot be written as JSON{role}", value.kind()),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn style() -> JsonStyle {
        JsonStyle {
            indent: None,
            item_separator: ", ".to_owned(),
            key_separator: ": ".to_owned(),
            ensure_ascii: false,
            sort_keys: false,
        }
    }

    #[test]
    fn floats_are_those_of_python() {
        // Each text is what CPython 3 prints for `repr(value)`.
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (9_007_199_254_740_993.0, "9007199254740992.0"),
            (1e300, "1e+300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(python_float(value), text);
        }
    }

    #[test]
    fn text_is_that_of_json_dumps() {
        // Expected texts from CPython 3: json.dumps(value, ensure_ascii=..., ...).
        let value = to_template_value(&json!({
            "b": [1, -2.0, null, true], "a": {"é\u{1}<'\"": "\u{7f}\n🦙"}, "e": [], "o": {},
            "big": u64::MAX,
        }));
        assert_eq!(
            dumps(&value, &style()).unwrap(),
            "{\"b\": [1, -2.0, null, true], \"a\": {\"é\\u0001<'\\\"\": \"\u{7f}\\n🦙\"}, \
             \"e\": [], \"o\": {}, \"big\": 18446744073709551615}"
        );
        let pretty = JsonStyle {
            indent: Some("  ".to_owned()),
            item_separator: ",".to_owned(),
            ensure_ascii: true,
            sort_keys: true,
            ..style()
        };
        assert_eq!(
            dumps(&value, &pretty).unwrap(),
            "{\n  \"a\": {\n    \"\\u00e9\\u0001<'\\\"\": \"\\u007f\\n\\ud83e\\udd99\"\n  },\n  \
             \"b\": [\n    1,\n    -2.0,\n    null,\n    true\n  ],\n  \
             \"big\": 18446744073709551615,\n  \"e\": [],\n  \"o\": {}\n}"
        );
        // 1 and true are one key, in Python as in templates.
        let odd_keys = Value::from_pairs([
            (Value::from(7), 1),
            (Value::from(true), 2),
            (Value::from(()), 3),
            (Value::from(1.5), 4),
        ]);
        assert_eq!(
            dumps(&odd_keys, &style()).unwrap(),
            r#"{"7": 1, "true": 2, "null": 3, "1.5": 4}"#
        );
    }

    #[test]
    fn what_json_cannot_hold_is_an_error() {
        assert!(dumps(&Value::UNDEFINED, &style()).is_err());
        let mut deep = Value::from(1);
        for _ in 0..2000 {
            deep = Value::from(vec![deep]);
        }
        let error = dumps(&deep, &style()).unwrap_err();
        assert!(error.to_string().contains("128 levels"), "{error}");
    }
}

//! Typed access to keys: conversions that are allowed, and the words for those that are not.

use ggrs_model::gguf::writer::GgufHeader;
use ggrs_model::gguf::{GgufFile, Value, ValueKind, ValueType};

use super::chain;

fn file() -> GgufFile {
    let mut header = GgufHeader::new();
    header.set("n", 7u8).unwrap();
    header.set("big", u64::MAX).unwrap();
    header.set("neg", -3i64).unwrap();
    header.set("eps", 1e-6f32).unwrap();
    header.set("pi", 3.25f64).unwrap();
    header.set("yes", true).unwrap();
    header.set("name", "Grüße").unwrap();
    header.set("heads", [4i32, 4, 1]).unwrap();
    header.set("words", ["a", "", "Ġb"]).unwrap();
    header.set("far", [1u64, 1 << 40]).unwrap();
    GgufFile::from_bytes(
        "m.gguf",
        header.write_to(Vec::new()).unwrap().finish().unwrap(),
    )
    .unwrap()
}

#[test]
fn values_convert_where_nothing_is_lost() {
    let file = file();
    let keys = file.metadata();
    assert_eq!(keys.require::<u32>("n").unwrap(), 7);
    assert_eq!(keys.require::<i8>("n").unwrap(), 7);
    assert_eq!(keys.require::<usize>("n").unwrap(), 7);
    assert_eq!(keys.require::<u64>("big").unwrap(), u64::MAX);
    assert_eq!(keys.require::<i32>("neg").unwrap(), -3);
    assert_eq!(keys.require::<f32>("eps").unwrap(), 1e-6);
    assert_eq!(keys.require::<f64>("eps").unwrap(), f64::from(1e-6f32));
    assert_eq!(keys.require::<f32>("pi").unwrap(), 3.25);
    assert!(keys.require::<bool>("yes").unwrap());
    assert_eq!(keys.require::<&str>("name").unwrap(), "Grüße");
    assert_eq!(keys.require::<String>("name").unwrap(), "Grüße");
    assert_eq!(keys.require::<Vec<u32>>("heads").unwrap(), [4, 4, 1]);
    assert_eq!(keys.require::<Vec<&str>>("words").unwrap(), ["a", "", "Ġb"]);
    assert_eq!(keys.require::<Value<'_>>("n").unwrap(), Value::U8(7));
    assert_eq!(keys.get::<u32>("absent").unwrap(), None);
    assert_eq!(keys.value("absent"), None);
    let heads = keys.value("heads").unwrap();
    assert_eq!(
        heads.kind(),
        ValueKind::Array {
            of: ValueType::I32,
            len: 3
        }
    );
    assert_eq!(heads.as_array().unwrap().iter().len(), 3);
    assert_eq!(
        keys.iter().map(|(key, _)| key).take(3).collect::<Vec<_>>(),
        ["n", "big", "neg"]
    );
}

#[test]
fn one_value_stands_for_all_layers() {
    let file = file();
    let keys = file.metadata();
    assert_eq!(keys.require_per_layer::<u32>("n", 3).unwrap(), [7, 7, 7]);
    assert_eq!(
        keys.require_per_layer::<u32>("heads", 3).unwrap(),
        [4, 4, 1]
    );
    assert_eq!(
        chain(&keys.require_per_layer::<u32>("heads", 4).unwrap_err()),
        "m.gguf does not have the metadata that is needed | key 'heads' should hold 4 values, found 3"
    );
}

#[test]
fn errors_name_the_key_and_both_types() {
    let file = file();
    let keys = file.metadata();
    let cases = [
        (
            keys.require::<u32>("absent").map(|_| ()),
            "key 'absent' is missing; expected u32",
        ),
        (
            keys.require::<Vec<&str>>("absent").map(|_| ()),
            "key 'absent' is missing; expected array of string",
        ),
        (
            keys.require::<u32>("name").map(|_| ()),
            "key 'name' should hold u32, found string",
        ),
        (
            keys.require::<u32>("eps").map(|_| ()),
            "key 'eps' should hold u32, found f32",
        ),
        (
            keys.require::<f32>("n").map(|_| ()),
            "key 'n' should hold f32, found u8",
        ),
        (
            keys.require::<bool>("n").map(|_| ()),
            "key 'n' should hold bool, found u8",
        ),
        (
            keys.require::<&str>("heads").map(|_| ()),
            "key 'heads' should hold string, found array of 3 i32",
        ),
        (
            keys.require::<u32>("heads").map(|_| ()),
            "key 'heads' should hold u32, found array of 3 i32",
        ),
        (
            keys.require::<Vec<u32>>("n").map(|_| ()),
            "key 'n' should hold array of u32, found u8",
        ),
        (
            keys.require::<Vec<u32>>("words").map(|_| ()),
            "key 'words' should hold array of u32, found array of 3 string",
        ),
        (
            keys.get::<u32>("big").map(|_| ()),
            "key 'big' holds 18446744073709551615, which is out of range for u32",
        ),
        (
            keys.require::<u8>("neg").map(|_| ()),
            "key 'neg' holds -3, which is out of range for u8",
        ),
        (
            keys.require::<Vec<i32>>("far").map(|_| ()),
            "key 'far' holds 1099511627776, which is out of range for i32",
        ),
    ];
    for (result, expected) in cases {
        let expected = format!("m.gguf does not have the metadata that is needed | {expected}");
        assert_eq!(chain(&result.unwrap_err()), expected);
    }
}

//! Models split over several files: put together, and refused when the files do not match.

use std::path::{Path, PathBuf};

use ggrs_core::DType;
use ggrs_model::gguf::GgufFile;
use ggrs_model::gguf::writer::GgufHeader;

use super::chain;

/// A part as its metadata describes it; `part` counts from 1.
struct Part {
    part: u16,
    count: u16,
    n_tensors: i32,
    tensors: &'static [&'static str],
}

fn bytes(part: &Part) -> Vec<u8> {
    let mut header = GgufHeader::new();
    if part.part == 1 {
        header.set("general.architecture", "qwen3moe").unwrap();
    }
    // The types that llama-gguf-split uses.
    header.set("split.no", part.part - 1).unwrap();
    header.set("split.count", part.count).unwrap();
    header.set("split.tensors.count", part.n_tensors).unwrap();
    for name in part.tensors {
        header.tensor(name, DType::F32, &[1]).unwrap();
    }
    let mut writer = header.write_to(Vec::new()).unwrap();
    for name in part.tensors {
        writer.write(&[name.as_bytes()[0]; 4]).unwrap();
    }
    writer.finish().unwrap()
}

fn part_path(dir: &Path, part: u16) -> PathBuf {
    dir.join(format!("m-{part:05}-of-00003.gguf"))
}

/// Three parts with one tensor each, changed by `change`, in a directory of their own.
fn three_parts(change: impl Fn(&mut Part)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let names: [&[&str]; 3] = [&["a"], &["b"], &["c"]];
    for (part, tensors) in (1..).zip(names) {
        let mut described = Part {
            part,
            count: 3,
            n_tensors: 3,
            tensors,
        };
        change(&mut described);
        std::fs::write(part_path(dir.path(), part), bytes(&described)).unwrap();
    }
    dir
}

/// The error on opening part 1, without the directory's name.
fn open_error(dir: &tempfile::TempDir, part: u16) -> String {
    let error = GgufFile::open(part_path(dir.path(), part))
        .map(|_| ())
        .unwrap_err();
    chain(&error).replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn opening_the_first_part_opens_all() {
    let dir = three_parts(|_| ());
    let file = GgufFile::open(part_path(dir.path(), 1)).unwrap();
    assert_eq!(file.paths().count(), 3);
    assert_eq!(
        file.paths().nth(2),
        Some(part_path(dir.path(), 3).as_path())
    );
    assert_eq!(
        file.tensors()
            .map(|t| (t.name(), t.file_idx()))
            .collect::<Vec<_>>(),
        [("a", 0), ("b", 1), ("c", 2)]
    );
    for (name, byte) in [("a", b'a'), ("b", b'b'), ("c", b'c')] {
        assert_eq!(file.tensor(name).unwrap().bytes, [byte; 4]);
    }
    assert_eq!(
        file.metadata()
            .require::<&str>("general.architecture")
            .unwrap(),
        "qwen3moe"
    );
    let sizes = (1..=3).map(|part| {
        std::fs::metadata(part_path(dir.path(), part))
            .unwrap()
            .len()
    });
    assert_eq!(file.file_bytes(), sizes.sum::<u64>());
}

#[test]
fn a_split_of_one_is_a_whole_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("any-name.gguf");
    std::fs::write(
        &path,
        bytes(&Part {
            part: 1,
            count: 1,
            n_tensors: 1,
            tensors: &["a"],
        }),
    )
    .unwrap();
    assert_eq!(GgufFile::open(path).unwrap().tensors().count(), 1);
}

#[test]
fn another_part_than_the_first() {
    let dir = three_parts(|_| ());
    assert_eq!(
        open_error(&dir, 2),
        "m-00002-of-00003.gguf is one file of a split model that cannot be put together | \
         this is part 2 of 3; open part 1: m-00001-of-00003.gguf"
    );
}

#[test]
fn a_part_that_is_not_there() {
    let dir = three_parts(|_| ());
    std::fs::remove_file(part_path(dir.path(), 3)).unwrap();
    assert_eq!(
        open_error(&dir, 1),
        "m-00001-of-00003.gguf is one file of a split model that cannot be put together | part 3 of 3 cannot be read | \
         cannot open m-00003-of-00003.gguf | No such file or directory (os error 2)"
    );
}

#[test]
fn a_part_that_is_damaged() {
    let dir = three_parts(|_| ());
    std::fs::write(part_path(dir.path(), 2), b"GGUF").unwrap();
    assert_eq!(
        open_error(&dir, 1),
        "m-00001-of-00003.gguf is one file of a split model that cannot be put together | part 2 of 3 cannot be read | \
         m-00002-of-00003.gguf is not a valid GGUF file: error at byte 4 | \
         the file ends inside the header: 4 more bytes are needed and 0 are left; the file is truncated or damaged"
    );
}

#[test]
fn parts_that_do_not_match() {
    let prefix =
        "m-00001-of-00003.gguf is one file of a split model that cannot be put together | ";
    type Change = fn(&mut Part);
    let cases: [(Change, &str); 5] = [
        (
            |p| {
                if p.part == 2 {
                    p.count = 4;
                }
            },
            "m-00002-of-00003.gguf says that the model has 4 parts, but part 1 says 3",
        ),
        (
            |p| {
                if p.part == 2 {
                    p.part = 3;
                }
            },
            "m-00002-of-00003.gguf should be part 2 of the model and says that it is part 3",
        ),
        (
            |p| {
                if p.part == 3 {
                    p.count = 1;
                }
            },
            "m-00003-of-00003.gguf says that the model has 1 parts, but part 1 says 3",
        ),
        (
            |p| p.n_tensors = 7,
            "the model should have 7 tensors, but its 3 parts have 3",
        ),
        (
            |p| {
                if p.part == 3 {
                    p.tensors = &["a"];
                }
            },
            "tensor 'a' is in m-00001-of-00003.gguf and in m-00003-of-00003.gguf",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(
            open_error(&three_parts(change), 1),
            format!("{prefix}{expected}")
        );
    }
}

#[test]
fn names_that_do_not_lead_to_the_other_parts() {
    let dir = three_parts(|_| ());
    let renamed = dir.path().join("model.gguf");
    std::fs::rename(part_path(dir.path(), 1), &renamed).unwrap();
    let error = chain(&GgufFile::open(&renamed).unwrap_err());
    assert!(
        error.ends_with(
            "the file says it is part 1 of 3, so its name must end in '-00001-of-00003.gguf'"
        ),
        "{error}"
    );
    let in_memory = GgufFile::from_bytes("m.gguf", std::fs::read(renamed).unwrap());
    assert_eq!(
        chain(&in_memory.unwrap_err()),
        "m.gguf is one file of a split model that cannot be put together | \
         the model is split in 3 files, and only the first was given; merge them with llama-gguf-split"
    );
}

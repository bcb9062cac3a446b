//! Kernel sources: the files of `kernels/`, and one text made of a file with all that it includes.

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../kernels/", $name)))),*];
    };
}

sources! {
    "prelude.cuh",
    "planes.cuh",
    "repack.cu",
    "formats.cuh",
    "matrix.cuh",
    "product_generic.cu",
    "product.cuh",
    "gate.cuh",
}

/// The text of a kernel file with its includes in place, each once; `None` if there is no such file.
pub fn source(file: &str) -> Option<String> {
    let mut text = String::new();
    inline(&format!("{file}.cu"), &mut Vec::new(), &mut text)?;
    Some(text)
}

fn inline(name: &str, seen: &mut Vec<&'static str>, text: &mut String) -> Option<()> {
    let (name, content) = FILES.iter().find(|(known, _)| *known == name)?;
    if seen.contains(name) {
        return Some(());
    }
    seen.push(name);
    for line in content.lines() {
        match line.strip_prefix("#include \"").and_then(|l| l.strip_suffix('"')) {
            Some(included) => inline(included, seen, text)?,
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    Some(())
}

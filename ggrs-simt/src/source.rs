//! Kernel sources: the files of `kernels/`, and one text made of a file with all that it includes.

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../kernels/", $name)))),*];
    };
}

sources! {
    "prelude.cuh",
    "order.cuh",
    "select.cu",
    "sample.cu",
    "sample.cuh",
    "router.cu",
    "collective.cu",
    "ssm_conv.cu",
    "gated_delta_net.cu",
    "planes.cuh",
    "peer.cu",
    "peer.cuh",
    "qk_prep.cu",
    "rope_angle.cuh",
    "norm_q8.cu",
    "repack.cu",
    "formats.cuh",
    "matrix.cuh",
    "attention.cuh",
    "attention_combine.cu",
    "attention_decode.cu",
    "attention_generic.cu",
    "attention_prefill.cu",
    "attention_tile.cuh",
    "product_generic.cu",
    "product.cuh",
    "matvec.cu",
    "matvec.cuh",
    "quantise_q8.cu",
    "quantise_q8.cuh",
    "q8_unit.cuh",
    "memory.cuh",
    "gate.cuh",
    "wgmma.cuh",
    "tile_decode.cuh",
    "moe_sort.cu",
    "gemm_wgmma.cu",
    "gemm_rows.cuh",
    "gemm_convert.cu",
    "gemm.cuh",
    "gemm.cu",
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

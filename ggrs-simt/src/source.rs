//! Kernel sources: the files of `kernels/`, and one text made of a file with all that it includes.

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../kernels/", $name)))),*];
    };
}

sources! {
    "attention.cuh",
    "attention_combine.cu",
    "attention_decode.cu",
    "attention_generic.cu",
    "attention_prefill.cu",
    "attention_tile.cuh",
    "axes.cuh",
    "cache.cu",
    "collective.cu",
    "elementwise.cu",
    "floats.cuh",
    "formats.cuh",
    "fused_experts.cu",
    "fused_products.cu",
    "gate.cuh",
    "gated_delta_net.cu",
    "gemm.cu",
    "gemm.cuh",
    "gemm_convert.cu",
    "gemm_rows.cuh",
    "gemm_tiles.cuh",
    "gemm_wgmma.cu",
    "half_pairs.cuh",
    "matrix.cuh",
    "matvec.cu",
    "matvec.cuh",
    "memory.cuh",
    "moe_sort.cu",
    "movement.cu",
    "norm.cu",
    "norm_q8.cu",
    "norm_q8.cuh",
    "order.cuh",
    "pages.cuh",
    "peer.cu",
    "peer.cuh",
    "planes.cuh",
    "prelude.cuh",
    "product.cuh",
    "product_f32.cu",
    "product_f32.cuh",
    "product_generic.cu",
    "product_tf32.cu",
    "q8_unit.cuh",
    "qk_prep.cu",
    "qk_prep.cuh",
    "quantise.cu",
    "quantise.cuh",
    "quantise_q8.cu",
    "quantise_q8.cuh",
    "reduce.cu",
    "repack.cu",
    "roof.cu",
    "rope.cu",
    "router.cu",
    "router.cuh",
    "sample.cu",
    "sample.cuh",
    "select.cu",
    "softmax.cu",
    "ssm_conv.cu",
    "tile_decode.cuh",
    "turns.cuh",
    "weighted_sum.cu",
    "wgmma.cuh",
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
        match line
            .strip_prefix("#include \"")
            .and_then(|l| l.strip_suffix('"'))
        {
            Some(included) => inline(included, seen, text)?,
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules;

    #[test]
    fn every_file_is_listed_and_every_module_has_one() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        let listed: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(listed, there);
        for module in modules() {
            assert!(source(module.file).is_some(), "{module}");
        }
    }
}

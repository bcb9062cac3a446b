//! Reports that were never planned: every kind of thing a report can say, at any number of devices and layers.

use ggrs_sched::report::{
    Arrangement, CellReport, CollectiveReport, ContextReport, CopyReport, DeviceBytesReport,
    DeviceReport, Exchange, LayerReport, ModelReport, NoteKind, NoteReport, OpReport, PartReport,
    PlanReport, StepReport, VERSION, WeightReport,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// One device made of `n` members, and behind it the CPU, which has the experts of the first two layers.
pub(crate) fn report(n: usize, n_layers: usize) -> PlanReport {
    let cpu = n + 1;
    let members: Vec<usize> = (1..=n).collect();
    PlanReport {
        version: VERSION,
        model: ModelReport {
            name: "Qwen3 30B A3B Instruct".to_owned(),
            arch: "qwen3moe".to_owned(),
            file: "models/qwen3-30b-a3b-q4_k_m.gguf".to_owned(),
        },
        precision: "fast".to_owned(),
        context: ContextReport {
            n_ctx: 32_768,
            kv_dtype: "F16".to_owned(),
        },
        split: format!("tensor split over {n} members, experts of 2 layers on cpu:0"),
        devices: devices(n, cpu, &members),
        layers: layers(n_layers, cpu, &members),
        weights: weights(n_layers, cpu),
        steps: vec![
            step("decode of 1 token", 1, n_layers, cpu, &members),
            step("prefill of 512 tokens", 512, n_layers, cpu, &members),
        ],
        notes: notes(cpu),
    }
}

fn devices(n: usize, cpu: usize, members: &[usize]) -> Vec<DeviceReport> {
    let bytes = DeviceBytesReport {
        weights: 17 * GIB / n as u64,
        states: 3 * GIB / n as u64,
        compute: 620 * MIB,
        constants: 4096,
    };
    let names: Vec<String> = (0..n).map(|i| format!("gpu:{i}")).collect();
    let mut devices = vec![DeviceReport {
        name: names.join("+"),
        hardware: format!("{n} devices"),
        features: "tensor parallel".to_owned(),
        members: members.to_vec(),
        ..DeviceReport::default()
    }];
    for (i, name) in names.into_iter().enumerate() {
        let free = 22 * GIB - i as u64 % 4 * 6 * GIB;
        devices.push(DeviceReport {
            name,
            hardware: "Example Accelerator 24".to_owned(),
            features: "matrix units, 84 cores".to_owned(),
            total_bytes: Some(24 * GIB),
            free_bytes: Some(free),
            bytes,
            margin_bytes: Some(free as i64 - bytes.total() as i64),
            ..DeviceReport::default()
        });
    }
    let bytes = DeviceBytesReport {
        weights: 700 * MIB,
        states: 0,
        compute: 12 * MIB,
        constants: 0,
    };
    assert_eq!(devices.len(), cpu);
    devices.push(DeviceReport {
        name: "cpu:0".to_owned(),
        hardware: "Example CPU with 16 cores".to_owned(),
        features: "AVX-512 VNNI, 16 threads".to_owned(),
        total_bytes: Some(64 * GIB),
        free_bytes: Some(50 * GIB),
        bytes,
        margin_bytes: Some(50 * GIB as i64 - bytes.total() as i64),
        ..DeviceReport::default()
    });
    devices
}

fn cell(role: &str, arrangement: Arrangement, devices: &[usize], bytes: u64) -> CellReport {
    let parts = devices.iter().map(|d| PartReport {
        device: *d,
        // Uneven: a cut shows as one.
        bytes: bytes / (*d as u64 + 1),
    });
    CellReport {
        role: role.to_owned(),
        arrangement,
        parts: parts.collect(),
        n_tensors: 3,
        kernels: vec!["matmul_packed".to_owned()],
    }
}

fn layers(n_layers: usize, cpu: usize, members: &[usize]) -> Vec<LayerReport> {
    use Arrangement::{Mixed, Replicated, Split, Whole};
    let mut layers = vec![LayerReport {
        name: "input".to_owned(),
        cells: vec![cell("embedding", Whole, &[cpu], 160 * MIB)],
    }];
    for layer in 0..n_layers {
        let mut cells = vec![
            cell("attention", Split, members, 24 * MIB),
            cell("kv", Split, members, 64 * MIB),
            cell("router", Replicated, members, MIB),
        ];
        let mut everywhere = members.to_vec();
        everywhere.push(cpu);
        cells.push(match layer {
            0 => cell("experts", Whole, &[cpu], 320 * MIB),
            1 => cell("experts", Mixed, &everywhere, 320 * MIB),
            _ => cell("experts", Split, members, 320 * MIB),
        });
        cells.push(cell("norm", Replicated, members, 16 << 10));
        layers.push(LayerReport {
            name: layer.to_string(),
            cells,
        });
    }
    layers.push(LayerReport {
        name: "output".to_owned(),
        cells: vec![
            cell("norm", Replicated, members, 8 << 10),
            cell("output", Split, members, 240 * MIB),
        ],
    });
    layers
}

fn weights(n_layers: usize, cpu: usize) -> Vec<WeightReport> {
    let weight = |name: String, shape: &[usize], device, split: &str| WeightReport {
        name,
        dtype: "Q4_K".to_owned(),
        shape: shape.to_vec(),
        device,
        form: "packed".to_owned(),
        split: split.to_owned(),
        bytes: 9 * MIB / 2,
    };
    let mut all = vec![weight(
        "token_embd.weight".to_owned(),
        &[151_936, 2048],
        cpu,
        "",
    )];
    for layer in 0..n_layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        all.push(weight(
            name("attn_q"),
            &[4096, 2048],
            0,
            "split along axis 0 as 0..2048 | 2048..4096",
        ));
        let (home, split) = if layer < 2 {
            (cpu, "")
        } else {
            (0, "split along axis 1 as 0..384 | 384..768")
        };
        all.push(weight(name("ffn_up_exps"), &[128, 768, 2048], home, split));
    }
    all
}

fn step(name: &str, n_tokens: usize, n_layers: usize, cpu: usize, members: &[usize]) -> StepReport {
    let bytes = n_tokens as u64 * 8192;
    let mut exchanges = vec![copy(
        "input",
        "embedding",
        Some(cpu),
        0,
        n_tokens,
        "for blk.0.attn.norm",
    )];
    let mut ops = Vec::new();
    for layer in 0..n_layers {
        let name = layer.to_string();
        let mut sum = |part: &str, kind: &str, why: &str| {
            exchanges.push(Exchange::Collective(CollectiveReport {
                layer: name.clone(),
                node: format!("blk.{name}.{part}.reduce"),
                kind: kind.to_owned(),
                members: members.to_vec(),
                dtype: "F32".to_owned(),
                shape: vec![n_tokens, 2048],
                bytes,
                wire_dtype: "F32".to_owned(),
                wire_bytes: 2 * bytes * (members.len() as u64 - 1),
                transport: "host staging".to_owned(),
                why: why.to_owned(),
            }));
        };
        sum(
            "attn",
            "all_reduce",
            "attention's output is a partial sum on every member",
        );
        if layer >= 2 {
            sum(
                "ffn",
                "all_reduce",
                "after the expert sum: 8x fewer bytes than before it",
            );
        } else {
            let why = format!(
                "for blk.{layer}.ffn.up, which reads blk.{layer}.ffn_up_exps.weight there (--n-cpu-moe 2)"
            );
            exchanges.push(copy(
                &name,
                &format!("blk.{layer}.ffn.norm"),
                Some(0),
                cpu,
                n_tokens,
                &why,
            ));
            exchanges.push(copy(
                &name,
                &format!("blk.{layer}.ffn.router"),
                Some(0),
                cpu,
                n_tokens,
                &why,
            ));
            exchanges.push(copy(
                &name,
                &format!("blk.{layer}.ffn.down"),
                Some(cpu),
                0,
                n_tokens,
                "for blk.0.ffn.add",
            ));
        }
        for device in members.iter().chain([&cpu]) {
            for (i, op) in [
                "rms_norm",
                "matmul",
                "rope",
                "attention",
                "matmul_id_glu",
                "matmul_id",
                "add",
            ]
            .iter()
            .enumerate()
            {
                ops.push(OpReport {
                    index: layer * 7 + i,
                    layer: name.clone(),
                    node: format!("blk.{layer}.{op}"),
                    op: (*op).to_owned(),
                    device: *device,
                    kernel: format!("{op}_f32"),
                    reason: "activations of 8 bits".to_owned(),
                    flops: 2.0e6 * n_tokens as f64,
                    bytes: 4.5e6,
                });
            }
        }
    }
    if n_tokens > 1 {
        exchanges.push(copy(
            "output",
            "blk.1.ffn_up_exps.weight",
            None,
            1,
            n_tokens,
            "streamed: 512 tokens share it",
        ));
    }
    exchanges.push(Exchange::Collective(CollectiveReport {
        layer: "output".to_owned(),
        node: "logits".to_owned(),
        kind: "all_gather".to_owned(),
        members: members.to_vec(),
        dtype: "F32".to_owned(),
        shape: vec![1, 151_936],
        bytes: 607_744,
        wire_dtype: "F32".to_owned(),
        wire_bytes: 607_744 * (members.len() as u64 - 1),
        transport: "host staging".to_owned(),
        why: "the vocabulary is cut, logits are wanted whole".to_owned(),
    }));
    StepReport::new(name.to_owned(), n_tokens, exchanges, ops)
}

fn copy(
    layer: &str,
    value: &str,
    from: Option<usize>,
    to: usize,
    n_tokens: usize,
    why: &str,
) -> Exchange {
    Exchange::Copy(CopyReport {
        layer: layer.to_owned(),
        value: value.to_owned(),
        from,
        to,
        dtype: "F32".to_owned(),
        shape: vec![n_tokens, 2048],
        bytes: n_tokens as u64 * 8192,
        why: why.to_owned(),
    })
}

fn notes(cpu: usize) -> Vec<NoteReport> {
    let note = |kind, subject: &str, text: &str| NoteReport {
        kind,
        subject: subject.to_owned(),
        text: text.to_owned(),
    };
    vec![
        note(
            NoteKind::Warning,
            &format!("gpu:{}", cpu - 2),
            "1.62 GiB are missing: give it less (--tensor-split)",
        ),
        note(
            NoteKind::Pin,
            "--n-cpu-moe 2",
            "blk.0.ffn_gate_exps.weight, blk.0.ffn_up_exps.weight, blk.0.ffn_down_exps.weight and 3 more on cpu:0",
        ),
        note(
            NoteKind::Spread,
            "with the first layer",
            "token_embd.weight on cpu:0",
        ),
        note(
            NoteKind::Fallback,
            "blk.3.attn.scores",
            "not on gpu:1: no kernel for heads of 80 (generic_attention: needs multiples of 32)",
        ),
        note(NoteKind::Pass, "fuse_gate_up", "48 applied"),
    ]
}

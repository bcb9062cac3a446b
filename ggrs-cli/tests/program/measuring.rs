//! Commands that measure: `logits` against Transformers, `perplexity` against the definition, `bench` by its form.

use std::path::Path;

use ggrs_tests::fixtures::Golden;
use safetensors::SafeTensors;

use crate::process::{arg, ggrs};

/// The matrix of a `.safetensors` file as the format's own library reads it.
fn read_safetensors(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("logits").unwrap();
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32);
    (tensor.shape().to_vec(), floats(tensor.data()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

#[test]
fn logits_are_those_of_the_reference() {
    let golden = Golden::load("qwen3moe", "small-f32").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("logits.safetensors");
    for prompt in &golden.prompts {
        let ids = prompt
            .ids
            .iter()
            .map(i32::to_string)
            .collect::<Vec<_>>()
            .join(",");
        // Two batches: rows must come out in order over the seam.
        let batch = (prompt.ids.len() / 2 + 1).to_string();
        let path = arg(&golden.gguf_path);
        let args = [
            "logits",
            "--ids",
            &ids,
            "-m",
            path,
            "--precision",
            "exact",
            "-b",
            &batch,
            "-o",
            arg(&output),
        ];
        let told = ggrs(args).succeeded().stderr;
        assert!(
            told.contains(&format!("F32 [{}, 416]", prompt.ids.len())),
            "{told}"
        );
        let (shape, logits) = read_safetensors(&output);
        assert_eq!(shape, [prompt.ids.len(), 416]);
        for (row, expected) in prompt.rows.iter().zip(prompt.logits.data.chunks(416)) {
            let actual = &logits[row * 416..(row + 1) * 416];
            let error: f64 = actual
                .iter()
                .zip(expected)
                .map(|(a, e)| (f64::from(*a) - e).powi(2))
                .sum();
            let nmse = error / expected.iter().map(|e| e * e).sum::<f64>();
            assert!(nmse <= 1e-9, "{} row {row}: {nmse:e}", prompt.name);
        }
    }
}

#[test]
fn both_formats_hold_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let (npy, tensors) = (
        folder.path().join("x.npy"),
        folder.path().join("x.safetensors"),
    );
    ggrs(["logits", "What is 17 + 25?", "-o", arg(&npy)]).succeeded();
    ggrs(["logits", "What is 17 + 25?", "-o", arg(&tensors)]).succeeded();
    let (shape, expected) = read_safetensors(&tensors);
    let bytes = std::fs::read(&npy).unwrap();
    assert_eq!(bytes[..8], *b"\x93NUMPY\x01\x00");
    let header_bytes = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let (header, data) = bytes[10..].split_at(header_bytes);
    let header = std::str::from_utf8(header).unwrap();
    let shape = format!("({}, {})", shape[0], shape[1]);
    assert_eq!(
        header.trim_end(),
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}")
    );
    assert!(header.ends_with('\n') && (10 + header_bytes) % 64 == 0);
    assert_eq!(floats(data), expected);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// Text that the demo model has words for.
const TEXT: &str =
    "The capital of France is Paris. What is 17 + 25? 17 + 25 = 42. Hello! I am a small model. ";

#[test]
fn perplexity_is_what_its_definition_says() {
    const WINDOW: usize = 16;
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(&text, TEXT).unwrap();
    let exact = ["--precision", "exact"];
    let args = ["perplexity", arg(&text), "--ctx", "16", "--json"];
    let told = ggrs(args.into_iter().chain(exact)).json();

    let ids = ggrs(["tokenize", TEXT, "--json"]).json()["ids"].clone();
    let ids: Vec<usize> = serde_json::from_value(ids).unwrap();
    let output = folder.path().join("logits.safetensors");
    let mut scored = Vec::new();
    for window in ids.chunks_exact(WINDOW) {
        let list = window
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(",");
        let args = ["logits", "--ids", &list, "-o", arg(&output)];
        ggrs(args.into_iter().chain(exact)).succeeded();
        let (_, logits) = read_safetensors(&output);
        for position in WINDOW / 2..WINDOW - 1 {
            let row: Vec<f64> = logits[position * 1536..(position + 1) * 1536]
                .iter()
                .map(|x| f64::from(*x))
                .collect();
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            scored.push(sum.ln() - row[window[position + 1]]);
        }
    }
    let n = scored.len() as f64;
    let mean = scored.iter().sum::<f64>() / n;
    let deviation = (scored.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    assert_eq!(told["n_scored"], scored.len());
    assert_eq!(told["n_windows"], ids.len() / WINDOW);
    let near = |key: &str, expected: f64| {
        let got = told[key].as_f64().unwrap();
        assert!(
            (got / expected - 1.0).abs() < 1e-4,
            "{key}: {got}, not {expected}"
        );
    };
    near("mean_nll", mean);
    near("mean_nll_error", deviation / n.sqrt());
    near("perplexity", mean.exp());
    near("perplexity_error", mean.exp() * deviation / n.sqrt());
}

#[test]
fn perplexity_says_what_it_scored() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(&text, TEXT).unwrap();
    let told = ggrs(["perplexity", arg(&text), "-c", "8", "--windows", "2"])
        .succeeded()
        .stdout;
    assert!(
        told.starts_with("perplexity ") && told.contains(" +- "),
        "{told}"
    );
    assert!(
        told.ends_with("(6 tokens scored: the second halves of 2 windows of 8)\n"),
        "{told}"
    );
}

const BENCH: [&str; 9] = ["bench", "-p", "32", "-n", "4", "-d", "0,16", "-r", "2"];

#[test]
fn bench_prints_llama_bench_s_table() {
    let table = ggrs(BENCH).succeeded().stdout;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(
        rows[0],
        [
            "model", "size", "params", "backend", "threads", "test", "t/s"
        ]
    );
    assert!(
        rows[1]
            .iter()
            .all(|cell| cell.trim_matches(':').chars().all(|c| c == '-')),
        "{table}"
    );
    let tests: Vec<&str> = rows[2..].iter().map(|row| row[5]).collect();
    assert_eq!(tests, ["pp32", "tg4", "pp32 @ d16", "tg4 @ d16"]);
    for row in &rows[2..] {
        assert_eq!(row[..4], ["qwen3moe Q8_0", "8.01 MiB", "7.88 M", "cpu"]);
        let (mean, deviation) = row[6].split_once(" ± ").expect("mean and deviation");
        assert!(mean.parse::<f64>().unwrap() > 0.0 && deviation.parse::<f64>().unwrap() >= 0.0);
    }
    let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|w| *w == widths[0]), "{table}");
}

#[test]
fn bench_decodes_chained_beside_random_tokens() {
    let args = BENCH.iter().copied().chain(["--chained"]);
    let table = ggrs(args).succeeded().stdout;
    let rows = table.lines().skip(2).map(|line| line.split('|').nth(6));
    let tests: Vec<&str> = rows.flatten().map(str::trim).collect();
    let expected = ["pp32", "tg4", "tg4 chained"];
    let deeper = ["pp32 @ d16", "tg4 @ d16", "tg4 chained @ d16"];
    assert_eq!(tests, [expected, deeper].concat());
}

#[test]
fn bench_says_what_is_unusual() {
    let unusual = [
        "-b",
        "8",
        "--kv-type",
        "q8_0",
        "--precision",
        "exact",
        "--no-pass",
        "fuse_gate_up",
        "-t",
        "1",
    ];
    let table = ggrs(BENCH.into_iter().chain(unusual)).succeeded().stdout;
    let row: Vec<&str> = table
        .lines()
        .nth(2)
        .unwrap()
        .trim_matches('|')
        .split('|')
        .map(str::trim)
        .collect();
    assert_eq!(row[4..9], ["1", "8", "q8_0", "exact", "fuse_gate_up"]);
}

#[test]
fn bench_as_json_and_csv() {
    let told = ggrs(BENCH.into_iter().chain(["-o", "json"])).json();
    let rows = told.as_array().unwrap();
    assert_eq!(rows.len(), 4);
    let row = &rows[2];
    assert_eq!(
        (&row["n_prompt"], &row["n_gen"], &row["n_depth"]),
        (&32.into(), &0.into(), &16.into())
    );
    let speeds: Vec<f64> = serde_json::from_value(row["samples_ts"].clone()).unwrap();
    let times: Vec<f64> = serde_json::from_value(row["samples_ns"].clone()).unwrap();
    assert_eq!(speeds.len(), 2);
    for (speed, ns) in speeds.iter().zip(times) {
        assert!((speed * ns / 1e9 / 32.0 - 1.0).abs() < 1e-9);
    }
    assert!(row["load_bytes"].as_u64().unwrap() > 1 << 20 && row["load_ns"].as_u64().unwrap() > 0);
    assert!(row["bus"].is_null());
    let mean = (speeds[0] + speeds[1]) / 2.0;
    assert!((row["avg_ts"].as_f64().unwrap() / mean - 1.0).abs() < 1e-9);
    let deviation = (speeds[0] - speeds[1]).abs() / 2f64.sqrt();
    assert!((row["stddev_ts"].as_f64().unwrap() - deviation).abs() < 1e-6 * mean);

    let csv = ggrs(BENCH.into_iter().chain(["-o", "csv"]))
        .succeeded()
        .stdout;
    let n_cells: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(n_cells, [21; 5]);
}

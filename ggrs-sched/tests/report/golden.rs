//! Text and JSON of a small report, word for word: whoever reads them by program may rely on them.

use std::path::Path;

use ggrs_sched::report::{TextOptions, VERSION};

use crate::synthetic::report;

#[track_caller]
fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/report/golden")
        .join(name);
    if std::env::var_os("GGRS_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        golden, text,
        "{name} differs; GGRS_BLESS=1 rewrites it. Now:\n{text}"
    );
}

#[test]
fn the_text_is_as_it_was() {
    check("report.txt", &report(2, 3).to_text(TextOptions::default()));
    check(
        "report_with_ops.txt",
        &report(2, 1).to_text(TextOptions { ops: true }),
    );
}

#[test]
fn the_json_is_as_it_was() {
    let text = serde_json::to_string_pretty(&report(2, 2).to_json()).unwrap();
    check("report.json", &format!("{text}\n"));
    assert_eq!(VERSION, 1, "a new version: bless the golden file");
}

#[test]
fn the_sums_are_those_of_what_is_listed() {
    let report = report(4, 48);
    for step in &report.steps {
        let totals = step.totals;
        assert_eq!(totals.n_copies, step.copies().count());
        assert_eq!(totals.n_collectives, step.collectives().count());
        // An all-reduce after attention in every layer, one after the experts that are not on the CPU, the logits.
        assert_eq!(totals.n_collectives, 48 + 46 + 1);
        let token = step.n_tokens as u64 * 8192;
        assert_eq!(totals.wire_bytes, 94 * 2 * 3 * token + 3 * 607_744);
        assert_eq!(totals.copy_bytes, totals.n_copies as u64 * token);
        assert_eq!(step.exchanges.len(), totals.n_copies + totals.n_collectives);
    }
}

#[test]
fn names_that_steer_terminals_are_made_harmless() {
    let mut report = report(1, 1);
    report.model.name = "evil\u{1b}[2J".to_owned();
    report.weights[0].name = "a\nb\u{202e}".to_owned();
    report.steps[0].ops[0].node = "\u{7}bell".to_owned();
    let text = report.to_text(TextOptions { ops: true });
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    assert!(!text.contains('\u{202e}'));
    assert!(text.contains("evil\\u{1b}[2J (qwen3moe)"));
    assert!(text.contains("a\\u{a}b\\u{202e}") && text.contains("\\u{7}bell"));
}

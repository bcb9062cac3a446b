//! The page in a headless Chromium: its script runs without errors, and what it shows is what the report says.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ggrs_sched::report::PlanReport;

use crate::page::hostile;
use crate::synthetic::report;

/// What the browser is called on one system or another.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// The browser, if this machine has one; where it has none, that is said or, if it is required, a failure.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let all = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |f| f.join(name)));
    let found = all.into_iter().find(|p| p.is_file());
    if found.is_none() {
        let required = std::env::var("GGRS_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|wanted| wanted.trim() == "browser"),
            "GGRS_REQUIRE names browser, and this machine has none of {NAMES:?}"
        );
        // Not a print macro: the harness hides those of tests that pass.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: this machine has no browser ({NAMES:?})"
        );
    }
    found
}

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ggrs-page-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the browser on a page; gives what it printed.
fn open(browser: &Path, page: &Path, folder: &Folder, args: &[String]) -> String {
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.0.join("profile").display()
        ))
        .args(args)
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("a page in UTF-8")
}

/// The document of a report's page after its scripts have run.
fn document(browser: &Path, name: &str, report: &PlanReport) -> String {
    document_of(browser, name, &report.to_html())
}

/// A page's document after its scripts have run.
fn document_of(browser: &Path, name: &str, html: &str) -> String {
    let folder = Folder::new(name);
    let page = folder.0.join("plan.html");
    std::fs::write(&page, html).unwrap();
    open(browser, &page, &folder, &["--dump-dom".to_owned()])
}

/// The start tag of the body.
fn body(document: &str) -> &str {
    let start = document.find("<body").expect("a body");
    let end = document[start..].find('>').expect("a whole tag");
    &document[start..start + end]
}

#[test]
fn the_browser_shows_every_device_layer_and_exchange() {
    let Some(browser) = browser() else { return };
    for (n, n_layers) in [(4, 48), (1, 2), (3, 1)] {
        let report = report(n, n_layers);
        let shown = document(&browser, &format!("all-{n}"), &report);
        assert!(
            body(&shown).contains("data-ready=\"yes\""),
            "{}",
            body(&shown)
        );
        assert!(!body(&shown).contains("data-error"), "{}", body(&shown));
        for (i, device) in report.single_devices() {
            let card = format!("<article class=\"device\" data-device=\"{i}\"");
            assert_eq!(shown.matches(&card).count(), 1, "{}", device.name);
        }
        for layer in &report.layers {
            let row = format!("<tr class=\"layer\" data-layer=\"{}\"", layer.name);
            assert_eq!(shown.matches(&row).count(), 1, "layer {}", layer.name);
        }
        let of = |count: fn(&ggrs_sched::report::StepReport) -> usize| {
            report.steps.iter().map(count).sum::<usize>()
        };
        let drawn = |mark: &str| shown.matches(mark).count();
        assert_eq!(
            drawn(" data-collective=\"\""),
            of(|s| s.totals.n_collectives)
        );
        assert_eq!(drawn(" data-copy=\"\""), of(|s| s.totals.n_copies));
        // The script counted the ops of the step that is shown.
        let ops = report.steps.first().unwrap().ops.len();
        assert!(
            shown.contains(&format!("<output>{ops} ops</output>")),
            "{ops} ops"
        );
        assert!(shown.contains(&format!(
            "<output>{} weights</output>",
            report.weights.len()
        )));
        // The second step is there and not shown.
        assert!(shown.contains("data-of-step=\"1\" hidden=\"\""));
    }
}

#[test]
fn a_step_is_chosen_and_tables_are_filtered() {
    let Some(browser) = browser() else { return };
    let report = report(4, 48);
    let acts = r#"<script>
        document.querySelector('button[data-step="1"]').click();
        const input = document.querySelector('input[data-filters="ops"]');
        input.value = "GPU:1 rope";
        input.dispatchEvent(new Event("input"));
    </script></body>"#;
    let html = report.to_html().replace("</body>", acts);
    let shown = document_of(&browser, "acts", &html);
    assert!(
        shown.contains("data-of-step=\"0\" hidden=\"\"")
            && !shown.contains("data-of-step=\"1\" hidden")
    );
    // One such op in every layer.
    let ops = report.steps[1].ops.len();
    assert!(
        shown.contains(&format!("<output>48 of {ops} ops</output>")),
        "48 of {ops}"
    );
    assert!(!body(&shown).contains("data-error"), "{}", body(&shown));
}

#[test]
fn an_error_in_the_script_would_be_seen() {
    let Some(browser) = browser() else { return };
    let html = report(1, 1)
        .to_html()
        .replace("document.querySelector(\".switch\")", "nothing.such");
    let shown = document_of(&browser, "error", &html);
    assert!(body(&shown).contains("data-error=") && !body(&shown).contains("data-ready"));
}

#[test]
fn the_browser_runs_no_name() {
    let Some(browser) = browser() else { return };
    let shown = document(&browser, "hostile", &hostile());
    assert!(
        body(&shown).contains("data-ready=\"yes\""),
        "{}",
        body(&shown)
    );
    assert!(!body(&shown).contains("data-owned") && !body(&shown).contains("data-error"));
    assert!(!shown.contains("<img"));
}

#[test]
fn the_page_draws_at_every_width() {
    let Some(browser) = browser() else { return };
    let folder = Folder::new("drawn");
    let page = folder.0.join("plan.html");
    std::fs::write(&page, report(4, 48).to_html()).unwrap();
    for width in [700, 1280] {
        let picture = folder.0.join(format!("{width}.png"));
        let args = [
            format!("--screenshot={}", picture.display()),
            format!("--window-size={width},900"),
        ];
        open(&browser, &page, &folder, &args);
        let bytes = std::fs::read(&picture).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"));
        // An empty page compresses to less.
        assert!(bytes.len() > 40_000, "{} bytes", bytes.len());
    }
}

//! The page as text: complete, self-contained, and safe against names that are markup. What a browser makes of it is
//! tested beside this.

use crate::synthetic::report;

/// A report in which every name is markup that would run.
pub(crate) fn hostile() -> ggrs_sched::report::PlanReport {
    let mut report = report(2, 3);
    let evil = |what: &str| {
        format!(
            "\"'></td></svg></style><script>document.body.dataset.owned='{what}'</script><img src=x onerror=alert(1)>{{{{ops}}}}"
        )
    };
    report.model.name = evil("name");
    report.model.arch = evil("arch");
    report.model.file = evil("file");
    report.split = evil("split");
    report.devices.iter_mut().for_each(|d| {
        d.name = evil("device");
        d.hardware = evil("hardware");
    });
    report.weights.iter_mut().for_each(|w| {
        w.name = evil("weight");
        w.split = evil("cut");
    });
    for cell in report.layers.iter_mut().flat_map(|l| &mut l.cells) {
        // These two share a column by their names.
        if !["embedding", "output"].contains(&&*cell.role) {
            cell.role = evil(&cell.role);
        }
        cell.kernels = vec![evil("kernel")];
    }
    report.notes.iter_mut().for_each(|n| {
        n.subject = evil("subject");
        n.text = evil("text");
    });
    for step in &mut report.steps {
        step.name = evil("step");
        step.ops.iter_mut().for_each(|o| {
            o.node = evil("node");
            o.reason = evil("reason");
            o.kernel = evil("kernel");
        });
        for exchange in &mut step.exchanges {
            match exchange {
                ggrs_sched::report::Exchange::Copy(c) => {
                    c.value = evil("value");
                    c.why = evil("why");
                }
                ggrs_sched::report::Exchange::Collective(c) => {
                    c.node = evil("collective");
                    c.why = evil("why");
                    c.kind = evil(&c.kind);
                    c.transport = evil("transport");
                }
            }
        }
    }
    report
}

#[test]
fn the_page_asks_nobody_for_anything() {
    let page = report(4, 48).to_html();
    for word in [
        "http:", "https:", "//cdn", "<link", "@import", "url(", " src=", "fetch(", "import(",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'"));
    assert!(
        !page.contains("{{") && !page.contains("}}"),
        "a place that was not filled"
    );
}

#[test]
fn names_cannot_become_markup() {
    let page = hostile().to_html();
    // One script of the page's own, no images, and no tag closed early.
    assert_eq!(page.matches("<script").count(), 1);
    assert_eq!(page.matches("</script").count(), 1);
    assert_eq!(page.matches("<style").count(), 2);
    assert!(!page.contains("<img"));
    assert!(page.contains("&lt;script&gt;document.body.dataset.owned="));
    let honest = report(2, 3).to_html();
    for tag in ["<tr", "<td", "<g ", "<svg", "<article", "<div"] {
        assert_eq!(
            page.matches(tag).count(),
            honest.matches(tag).count(),
            "{tag}"
        );
    }
}

#[test]
fn any_number_of_devices_and_layers_has_a_page() {
    for (n, layers) in [(1, 0), (1, 1), (8, 64), (10, 2)] {
        let page = report(n.min(3), layers).to_html();
        assert_eq!(page.matches("<tr class=\"layer\"").count(), layers + 2);
        let mut many = report(2, layers);
        many.devices
            .extend(many.devices.clone().into_iter().cycle().skip(1).take(n));
        assert!(many.to_html().contains("</html>"));
    }
    let nothing = ggrs_sched::report::PlanReport {
        devices: Vec::new(),
        layers: Vec::new(),
        weights: Vec::new(),
        steps: Vec::new(),
        notes: Vec::new(),
        ..report(1, 1)
    };
    assert!(nothing.to_html().contains("</html>"));
    assert!(
        !nothing
            .to_text(ggrs_sched::report::TextOptions { ops: true })
            .is_empty()
    );
}

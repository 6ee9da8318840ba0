//! The drill's report as one HTML page, with a picture of every scenario's
//! worst repeat. Nothing in it is fetched from elsewhere.

use std::fmt::{self, Write as _};

use super::record::Mark;
use super::report::{COLUMNS, Judged, Repeat, Report};

const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 60.0;

const STYLE: &str = "
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:66rem;padding:0 1rem;color:#1c2126;background:#fff}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid #d8dde2}
th:first-child,td:first-child{text-align:left}
.kept{color:#1a7f37}.broken{color:#b3261e;font-weight:600}
svg{width:100%;height:auto;display:block;margin:.4rem 0}
.grants{fill:#2f6fde}.renewals{fill:#9bb8ea}.mark{stroke:#b3261e;stroke-dasharray:3 3}
text{font:11px system-ui,sans-serif;fill:#56606a}
h2{margin:2rem 0 .2rem;font-size:1.05rem}p{margin:.2rem 0}ol{margin:.3rem 0;padding-left:1.4rem;color:#56606a}
@media(prefers-color-scheme:dark){body{background:#15181b;color:#e4e7ea}th,td{border-color:#343a40}text,ol{fill:#a3adb6;color:#a3adb6}}
";

/// The page.
pub(super) fn render(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut page, report);
    page
}

fn write(page: &mut String, report: &Report) -> fmt::Result {
    let Report { installation, engine, repeats, seconds, .. } = report;
    let version = escape(report.version.lines().next().unwrap_or_default());
    let (installation, engine) = (escape(installation), escape(engine));
    writeln!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Trine drill: {installation}</title><style>{STYLE}</style>\
         <h1>Trine drill: {installation}</h1><p>Trine {version}; {engine}; {repeats} repeats; {seconds} s. \
         Gaps in milliseconds: median / p99 / worst of the repeats.</p>"
    )?;
    writeln!(page, "<table><tr><th>{}</tr>", COLUMNS.join("<th>"))?;
    for outcome in &report.scenarios {
        row(page, outcome)?;
    }
    writeln!(page, "</table>")?;
    match &report.history_broken {
        None => writeln!(
            page,
            "<p>The usage history, counted anew: no moment had more seats than were licensed.</p>"
        )?,
        Some(why) => writeln!(page, "<p class=\"broken\">{}</p>", escape(why))?,
    }
    writeln!(
        page,
        "<p>The pictures show each scenario's worst repeat: \
         <svg viewBox=\"0 0 10 10\" style=\"display:inline;width:.7em\"><rect class=\"grants\" width=\"10\" height=\"10\"/></svg> new grants and \
         <svg viewBox=\"0 0 10 10\" style=\"display:inline;width:.7em\"><rect class=\"renewals\" width=\"10\" height=\"10\"/></svg> renewals over time.</p>"
    )?;
    for outcome in &report.scenarios {
        picture(page, outcome)?;
    }
    writeln!(page, "</html>")
}

fn row(page: &mut String, outcome: &Judged) -> fmt::Result {
    let (class, verdict) =
        if outcome.broken.is_empty() { ("kept", "kept") } else { ("broken", "BROKEN") };
    write!(page, "<tr><td>{}", outcome.scenario)?;
    for spread in [outcome.grant_gap_ms, outcome.renewal_gap_ms, outcome.slowest_ms] {
        write!(page, "<td>{} / {} / {}", spread.p50, spread.p99, spread.max)?;
    }
    writeln!(
        page,
        "<td>{}<td>{}<td>{}<td>{}<td>{}<td class=\"{class}\">{verdict}</tr>",
        outcome.calls, outcome.failed, outcome.unknown, outcome.lost, outcome.doubled
    )
}

fn picture(page: &mut String, outcome: &Judged) -> fmt::Result {
    writeln!(page, "<h2>{}</h2>", outcome.scenario)?;
    for broken in &outcome.broken {
        writeln!(page, "<p class=\"broken\">{}</p>", escape(broken))?;
    }
    let Some(worst) = outcome.repeats.iter().max_by_key(|repeat| repeat.felt.grant_gap_ms) else {
        return Ok(());
    };
    plot(page, worst)?;
    writeln!(page, "<ol>")?;
    for Mark { at_ms, what } in &worst.marks {
        writeln!(page, "<li>{:.3} s: {}", *at_ms as f64 / 1_000.0, escape(what))?;
    }
    writeln!(page, "</ol>")
}

fn plot(page: &mut String, repeat: &Repeat) -> fmt::Result {
    let span = repeat.span_ms.max(1) as f64;
    let at = |ms: u64| ms as f64 / span * WIDTH;
    let most = repeat.grants.iter().chain(&repeat.renewals).copied().max().unwrap_or(0).max(1);
    let height = 2.0 * HEIGHT + 24.0;
    writeln!(page, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">")?;
    let strips = [("grants", &repeat.grants, 0.0), ("renewals", &repeat.renewals, HEIGHT + 4.0)];
    for (class, pulse, top) in strips {
        let width = (at(repeat.step_ms) - 0.3).max(0.3);
        for (place, count) in pulse.iter().enumerate().filter(|(_, count)| **count > 0) {
            let tall = f64::from(*count) / f64::from(most) * HEIGHT;
            let (x, y) = (at(place as u64 * repeat.step_ms), top + HEIGHT - tall);
            writeln!(
                page,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{tall:.1}\"/>"
            )?;
        }
    }
    for (number, mark) in repeat.marks.iter().enumerate() {
        let x = at(mark.at_ms).min(WIDTH);
        writeln!(
            page,
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            height - 14.0,
            height - 2.0,
            number + 1
        )?;
    }
    writeln!(page, "</svg>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::record::{Felt, Spread};
    use super::*;

    #[test]
    fn a_page_shows_the_worst_repeat_and_escapes_what_it_is_told() {
        let repeat = |gap, what: &str| Repeat {
            felt: Felt { grant_gap_ms: gap, ..Felt::default() },
            marks: vec![Mark { at_ms: 10, what: what.to_owned() }],
            span_ms: 100,
            step_ms: 50,
            grants: vec![3, 0],
            renewals: vec![1, 1],
        };
        let outcome = Judged {
            scenario: "leader-killed",
            grant_gap_ms: Spread { p50: 1, p99: 2, max: 3 },
            broken: vec!["a <b> & c".to_owned()],
            repeats: vec![repeat(5, "mild"), repeat(9, "<worst>")],
            ..Judged::default()
        };
        let report = Report {
            installation: "lab".to_owned(),
            version: "0",
            engine: "embedded".to_owned(),
            repeats: 2,
            scenarios: vec![outcome],
            history_broken: None,
            seconds: 1,
        };
        let page = render(&report);
        assert!(page.contains("&lt;worst&gt;") && !page.contains("mild"));
        assert!(page.contains("a &lt;b&gt; &amp; c") && page.contains("1 / 2 / 3"));
        assert_eq!(page.matches("<rect class=\"grants\" x").count(), 1);
        assert!(!page.contains("http"), "the page fetches nothing");
    }
}

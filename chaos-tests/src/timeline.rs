//! A run as a page for a person: who led, what was down and cut, which requests
//! were in flight, and where a law broke. One file, nothing to load.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::history::{Answer, Event, Op, What};
use crate::world::{Ended, Span};

/// Pixels of a second, of a lane's height, and of the column of names.
const SECOND: f64 = 60.0;
const LANE: f64 = 16.0;
const NAMES: f64 = 150.0;

const STYLE: &str = "\
body{font:14px/1.5 system-ui,sans-serif;margin:1.5em;color:#222;background:#fff}\
.chart{overflow-x:auto;border:1px solid #ccc}svg{display:block}\
text{font-size:11px;fill:#333}.grid{stroke:#eee}.broken{stroke:#d00;stroke-width:2}\
.leads{fill:#2b7}.down{fill:#444}.cut{fill:#e83}.fault{fill:#fd8}.address{fill:#69c}\
.done{fill:#7b9}.refused{fill:#bbb}.not-done{fill:#dc8}.unknown{fill:#c5a}.open{fill:#f44}\
rect:hover{stroke:#000}pre{background:#f6f6f6;padding:1em;overflow-x:auto;font-size:12px}\
li b{color:#d00}.key span{padding:0 .6em;margin-right:.4em;color:#fff}\
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}text{fill:#ccc}\
.grid{stroke:#333}pre{background:#222}}";

/// One bar of the chart, in microseconds.
struct Bar {
    lane: String,
    class: &'static str,
    from: u64,
    to: u64,
    says: String,
}

/// The page of a run.
pub fn html(ended: &Ended, commit: &str, again: &str) -> String {
    let end = (ended.seconds * 1e6) as u64;
    let mut bars: Vec<Bar> = ended.spans.iter().map(|span| of_span(span, end)).collect();
    bars.extend(calls(&ended.history, end));
    let mut lanes: Vec<String> = Vec::new();
    for bar in &bars {
        if !lanes.contains(&bar.lane) {
            lanes.push(bar.lane.clone());
        }
    }
    // What happened to the world first, then who asked.
    let rank = |lane: &String| ended.spans.iter().all(|span| span.lane != *lane);
    lanes.sort_by_key(|lane| (rank(lane), lane.clone()));
    let mut page = String::new();
    let seed = ended.options.seed;
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><title>seed {seed}</title>\
         <style>{STYLE}</style><h1>Seed {seed}</h1><ul>"
    );
    for broken in &ended.broken {
        let _ = write!(page, "<li><b>{}</b> {}", broken.law, safe(&broken.how));
    }
    let options = serde_json::to_string_pretty(&ended.options).unwrap_or_default();
    let _ = write!(
        page,
        "</ul><p>{:.1} simulated seconds, {} calls. Commit {}. Again: <code>{}</code></p>\
         <p class=key>calls: <span class=done style=background:#7b9>done</span>\
         <span style=background:#bbb>refused</span><span style=background:#dc8>not done</span>\
         <span style=background:#c5a>unknown</span><span style=background:#f44>open at the end</span>\
         Point at a bar to read it.</p>",
        ended.seconds,
        ended.figures.attempts,
        safe(commit),
        safe(again)
    );
    chart(&mut page, ended, &bars, &lanes, end);
    let _ =
        write!(page, "<h2>Options</h2><pre>{}</pre><h2>What was done</h2><pre>", safe(&options));
    for line in &ended.trace {
        let _ = writeln!(page, "{}", safe(line));
    }
    page.push_str("</pre><h2>What the nodes said</h2><pre>");
    for line in &ended.journal {
        let _ = writeln!(page, "{}", safe(line));
    }
    page.push_str("</pre></html>");
    page
}

fn chart(page: &mut String, ended: &Ended, bars: &[Bar], lanes: &[String], end: u64) {
    let x = |at: u64| NAMES + at as f64 / 1e6 * SECOND;
    let (width, height) = (x(end) + 20.0, (lanes.len() as f64 + 2.0) * LANE);
    let _ = write!(page, "<div class=chart><svg width={width:.0} height={height:.0}>");
    for second in 0..=end / 1_000_000 {
        let at = x(second * 1_000_000);
        let _ = write!(
            page,
            "<path class=grid d='M{at:.0} {LANE}V{height:.0}'/><text x={at:.0} y=11>{second} s</text>"
        );
    }
    let places: BTreeMap<&String, usize> =
        lanes.iter().enumerate().map(|(place, lane)| (lane, place)).collect();
    for lane in lanes {
        let y = (places[lane] as f64 + 1.8) * LANE;
        let _ = write!(page, "<text x=4 y={y:.0}>{}</text>", safe(lane));
    }
    for bar in bars {
        let y = (places[&bar.lane] as f64 + 1.0) * LANE + 2.0;
        let wide = (x(bar.to) - x(bar.from)).max(2.0);
        let _ = write!(
            page,
            "<rect class={} x={:.1} y={y:.0} width={wide:.1} height={:.0}><title>{}</title></rect>",
            bar.class,
            x(bar.from),
            LANE - 4.0,
            safe(&bar.says)
        );
    }
    for broken in &ended.broken {
        let at = x(place(&broken.how, &ended.history).unwrap_or(end));
        let _ = write!(
            page,
            "<path class=broken d='M{at:.1} 0V{height:.0}'><title>{} {}</title></path>",
            broken.law,
            safe(&broken.how)
        );
    }
    page.push_str("</svg></div>");
}

/// When the answer came that a log-order violation names by its place.
fn place(how: &str, history: &[Event]) -> Option<u64> {
    let (log_id, _) = how.strip_prefix("at ")?.split_once(':')?;
    history.iter().find_map(|event| match &event.what {
        What::Answer { answer, .. } => {
            (answer.place()?.log_id.to_string() == log_id).then_some(event.at_us)
        }
        _ => None,
    })
}

fn of_span(span: &Span, end: u64) -> Bar {
    let to = span.to_us.unwrap_or(end);
    let class = match span.lane.as_str() {
        "leads" => "leads",
        "address" => "address",
        "faults" => "fault",
        lane if lane.starts_with("cut") => "cut",
        _ => "down",
    };
    let seconds = |us: u64| us as f64 / 1e6;
    let says = format!("{} {:.3} s to {:.3} s", span.what, seconds(span.from_us), seconds(to));
    Bar { lane: span.lane.clone(), class, from: span.from_us, to, says }
}

fn calls(history: &[Event], end: u64) -> Vec<Bar> {
    let mut open = BTreeMap::new();
    let mut bars = Vec::new();
    for event in history {
        match &event.what {
            What::Invoke { attempt, client, op, .. } => {
                open.insert(*attempt, (client.clone(), op, event.at_us));
            }
            What::Answer { attempt, answer } => {
                let Some((lane, op, from)) = open.remove(attempt) else { continue };
                let class = match answer {
                    Answer::Refused { .. } => "refused",
                    Answer::NotDone { .. } => "not-done",
                    Answer::Unknown { .. } => "unknown",
                    _ => "done",
                };
                let says = format!("{} {}", asked(op), told(answer));
                bars.push(Bar { lane, class, from, to: event.at_us, says });
            }
            What::Note { .. } => {}
        }
    }
    bars.extend(open.into_values().map(|(lane, op, from)| Bar {
        lane,
        class: "open",
        from,
        to: end,
        says: format!("{}: no answer", asked(op)),
    }));
    bars
}

fn asked(op: &Op) -> String {
    match op {
        Op::Acquire { request, wait_until_ms: 0, .. } => format!("acquire {request}"),
        Op::Acquire { request, .. } => format!("queue for a seat {request}"),
        Op::Renew { request, token } => format!("renew {token} {request}"),
        Op::Release { request, token } => format!("release {token} {request}"),
        Op::Cancel { request } => format!("cancel {request}"),
        Op::Seats => "list seats".to_owned(),
    }
}

fn told(answer: &Answer) -> String {
    let at = answer.place().map(|place| format!(" at {} ({} ms)", place.log_id, place.stamp_ms));
    let what = match answer {
        Answer::Granted { grant, .. } => format!("granted seat {}", grant.token),
        Answer::Queued { .. } => "queued".to_owned(),
        Answer::Renewed { deadline_ms, .. } => format!("renewed until {deadline_ms} ms"),
        Answer::Released { .. } => "released".to_owned(),
        Answer::Cancelled { .. } => "cancelled".to_owned(),
        Answer::Seats { seats, .. } => format!("{} seats", seats.len()),
        Answer::Refused { reason, .. } => format!("refused: {reason}"),
        Answer::NotDone { reason } => format!("not done: {reason}"),
        Answer::Unknown { reason } => format!("unknown: {reason}"),
    };
    what + at.as_deref().unwrap_or_default()
}

fn safe(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

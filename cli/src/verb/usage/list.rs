//! `trine usage`: the records, as a page, as JSON, as CSV, or added up.

use std::collections::VecDeque;

use ledger::usage::Page as Records;
use serde::Serialize;

use super::{List, source, verify};
use crate::console::{Cell, Page, Tone};
use crate::dates::show_millis;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::report;
use crate::usage::row::{Row, Rows, later};
use crate::usage::source::{Dates, Source};
use crate::usage::summary::{Adder, Use};
use crate::verb::Call;

/// `trine usage --json`
#[derive(Debug, Serialize)]
struct Listed {
    /// The last record it includes is of this moment: log id and cluster time.
    as_of: String,
    as_of_ms: u64,
    /// How many records were asked for; more than `records` when those are the last.
    matched: u64,
    /// In order.
    records: VecDeque<Row>,
}

/// `trine usage --summary --json`
#[derive(Debug, Serialize)]
struct Summed {
    as_of: String,
    as_of_ms: u64,
    /// By product.
    products: Vec<Use>,
}

impl List {
    pub(super) async fn run(mut self, call: &Call) -> Result<Exit, Failure> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            return Err(Failure::usage("--from is later than --to, so no record can be between"));
        }
        let source = source(call, self.file.take()).await?;
        let filter = self.filter();
        // A grant after `to` may make a denial before it good; and a lease that
        // ended after it was held before.
        let to = if self.summary { None } else { later(self.to, self.window) };
        let told = source.told(Dates { from: self.from, to }).await?;
        if let Source::File(_) = &source {
            verify::require_sound(&source, &told).await?;
        }
        let mut rows = Rows::new(filter.clone(), self.window);
        let mut adder = Adder::new(filter.dates);
        let mut out = Out::new(&self, call)?;
        source
            .each(told.dated.clone(), |bytes| {
                let page = Records::decode(bytes).map_err(unreadable)?;
                let settled = rows.read(&page);
                if self.summary {
                    adder.read(&page);
                    settled.iter().for_each(|row| adder.count(row));
                    return Ok(());
                }
                settled.into_iter().try_for_each(|row| out.row(row))
            })
            .await?;
        let left: Vec<Row> = rows.finish().collect();
        let (as_of, as_of_ms) = (told.ends.log_id.to_string(), told.ends.time.0);
        if self.summary {
            left.iter().for_each(|row| adder.count(row));
            for (token, charged) in &told.ends.live {
                if let Some(since) = told.since.get(token) {
                    adder.live(*token, charged.product.as_str(), *since);
                }
            }
            let mut products = adder.finish(told.ends.time);
            products.retain(|used| {
                self.product.as_ref().is_none_or(|wanted| wanted.as_str() == used.product)
            });
            let summed = Summed { as_of, as_of_ms, products };
            call.console.result(&summed, |page| show_summary(&summed, page))?;
            return Ok(Exit::Done);
        }
        left.into_iter().try_for_each(|row| out.row(row))?;
        match out {
            Out::Csv(mut writer) => {
                let flushed = writer.flush();
                flushed.map_err(|error| csv_failure(csv::Error::from(error)))?;
            }
            Out::Kept { rows: records, matched, .. } => {
                let listed = Listed { as_of, as_of_ms, matched, records };
                call.console.result(&listed, |page| show(&listed, page))?;
            }
        }
        Ok(Exit::Done)
    }
}

/// Where rows go.
enum Out {
    Csv(Box<csv::Writer<std::io::Stdout>>),
    Kept { rows: VecDeque<Row>, matched: u64, most: usize },
}

impl Out {
    fn new(list: &List, call: &Call) -> Result<Self, Failure> {
        if !list.csv {
            let most = if call.console.json() { usize::MAX } else { list.last };
            return Ok(Self::Kept { rows: VecDeque::new(), matched: 0, most });
        }
        if call.console.json() {
            return Err(Failure::usage("--csv and --json are two forms of one result; take one"));
        }
        let mut writer =
            csv::WriterBuilder::new().has_headers(false).from_writer(std::io::stdout());
        writer.write_record(COLUMNS).map_err(csv_failure)?;
        Ok(Self::Csv(Box::new(writer)))
    }

    fn row(&mut self, row: Row) -> Result<(), Failure> {
        match self {
            Self::Csv(writer) => writer.serialize(row).map_err(csv_failure),
            Self::Kept { rows, matched, most } => {
                *matched += 1;
                rows.push_back(row);
                if rows.len() > *most {
                    rows.pop_front();
                }
                Ok(())
            }
        }
    }
}

/// The header of `--csv`, there even when no record is: the fields of [`Row`].
const COLUMNS: [&str; 20] = [
    "record",
    "log_id",
    "time_ms",
    "date",
    "what",
    "seat",
    "product",
    "license",
    "subject",
    "holder",
    "reason",
    "times",
    "waited_ms",
    "held_ms",
    "silent_ms",
    "seats",
    "by",
    "served_later",
    "later_product",
    "later_ms",
];

fn csv_failure(error: csv::Error) -> Failure {
    match error.kind() {
        csv::ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Failure::closed_pipe()
        }
        _ => Failure::failed(format!("cannot write to stdout: {error}")),
    }
}

fn unreadable(error: ledger::CodecError) -> Failure {
    Failure::unsound("ALTERED", error).next("see `trine usage verify` for which page it is")
}

fn show(listed: &Listed, page: &mut Page) {
    if listed.records.is_empty() {
        return page.line("No records.");
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let rows = listed.records.iter().map(|row| {
        let what = match row.what {
            "denied" | "gave-up" if row.served_later == Some("no") => {
                Cell::toned(Tone::Bad, row.what)
            }
            "denied" | "gave-up" | "expired" | "renewed-late" | "revoked" => {
                Cell::toned(Tone::Warning, row.what)
            }
            _ => row.what.to_owned().into(),
        };
        vec![
            Cell::from(row.date.clone().unwrap_or_else(|| format!("{} ms", row.time_ms))),
            what,
            row.seat.map(|seat| seat.to_string()).unwrap_or_default().into(),
            text(&row.product).into(),
            text(&row.holder).into(),
            text(&row.subject).into(),
            details(row).into(),
        ]
    });
    page.table(&["date", "what", "seat", "product", "holder", "subject", ""], rows);
    let shown = listed.records.len() as u64;
    if shown < listed.matched {
        page.line(format_args!(
            "The last {shown} of {} records; --last N shows more, --csv all of them",
            listed.matched
        ));
    }
}

/// What is particular to a record, in words.
fn details(row: &Row) -> String {
    let mut words = Vec::new();
    words.extend(row.reason.as_ref().map(|reason| reason.replace('_', " ")));
    words.extend(row.times.filter(|times| *times > 1).map(|times| format!("{times} times")));
    words.extend(row.seats.map(report::seats));
    words.extend(row.waited_ms.map(|ms| format!("waited {}", show_millis(ms))));
    words.extend(row.held_ms.map(|ms| format!("held {}", show_millis(ms))));
    words.extend(row.silent_ms.map(|ms| format!("silent {}", show_millis(ms))));
    words.extend(row.by.as_ref().map(|by| format!("by {by}")));
    if let (Some(product), Some(ms)) = (&row.later_product, row.later_ms) {
        words.push(format!("served from {product} {} later", show_millis(ms)));
    }
    words.join(", ")
}

fn show_summary(summed: &Summed, page: &mut Page) {
    if summed.products.is_empty() {
        return page.line("No records.");
    }
    let rows = summed.products.iter().map(|used| {
        vec![
            Cell::from(used.product.clone()),
            used.granted.to_string().into(),
            used.peak.to_string().into(),
            format!("{:.1}", used.lease_hours).into(),
            match used.denied {
                0 => Cell::from("0".to_owned()),
                denied => Cell::toned(Tone::Bad, denied.to_string()),
            },
            used.served_later.to_string().into(),
            used.served_by_another.to_string().into(),
            used.waited.to_string().into(),
            show_millis(used.longest_wait_ms).into(),
            used.renewed_late.to_string().into(),
            used.expired.to_string().into(),
            used.revoked.to_string().into(),
        ]
    });
    let columns = [
        "product",
        "granted",
        "peak",
        "hours",
        "denied",
        "served later",
        "by another",
        "waited",
        "longest wait",
        "renewed late",
        "expired",
        "revoked",
    ];
    page.table(&columns, rows);
}

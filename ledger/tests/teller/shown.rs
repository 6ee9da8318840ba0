//! What came of an entry, in the words of the scripts.

use std::fmt::Write as _;

use ledger::command::{Outcome, Reply, Standing};
use ledger::time::ClusterTime;
use ledger::usage::{Denied, Fact, Held, Page, Record};
use ledger::{Applied, Event};

use super::{Teller, lease};

impl Teller {
    pub(super) fn events(&mut self, applied: &Applied) -> String {
        let mut said = String::new();
        for event in &applied.events {
            let text = match event {
                Event::Settled { lease: id, reply } => {
                    if let Outcome::Granted(grant, _) = &reply.outcome {
                        self.learn(*id, grant.token);
                    }
                    let name = self.asked.keys().find(|name| lease(name) == *id).unwrap();
                    format!("{name}: {}", self.outcome(reply))
                }
                Event::LicenseInForce { serial, product, .. } => {
                    format!("{product} is in force at serial {}", serial.0)
                }
                Event::ServiceChanged { .. } | Event::ShareChanged { .. } if !self.watching => {
                    continue;
                }
                Event::ServiceChanged { license, service } => format!("{license} is {service:?}"),
                Event::Revoked { seat, by } => format!("seat {seat} revoked by {by}"),
                Event::ShareChanged { node, state, .. } => format!("share of {node} is {state}"),
            };
            writeln!(said, "{text}").unwrap();
        }
        said
    }

    pub(super) fn outcome(&self, reply: &Reply) -> String {
        match &reply.outcome {
            Outcome::Granted(grant, Standing::Live { deadline }) => {
                format!("granted {} on {} until {deadline}", grant.token, grant.license)
            }
            Outcome::Granted(grant, Standing::Ended(ending)) => {
                format!("granted {} on {}, ended: {ending:?}", grant.token, grant.license)
            }
            Outcome::Queued(place) => format!(
                "queued {} of {}, ask before {}",
                place.position, place.length, place.ask_before
            ),
            Outcome::Renewed { deadline } => format!("renewed until {deadline}"),
            Outcome::Refused(refusal) => format!("refused: {refusal}"),
            other => format!("{other:?}").to_lowercase(),
        }
    }
}

/// What an entry wrote into the history, but for the cluster's own comings and goings.
pub(super) fn records(applied: &Applied) -> Vec<String> {
    let pages = applied.pages.iter().map(|page| Page::decode(&page.bytes).expect("its own page"));
    let told = |(time, record): (ClusterTime, Record)| {
        let seat = |seat: &Held| format!("{} {} {}", seat.token, seat.product, seat.subject);
        Some(match record.fact {
            Fact::Licensed(licensed) => format!(
                "{time} {} serial {}: {} seats, {:?}",
                licensed.product, licensed.serial.0, licensed.seats, licensed.counting
            ),
            Fact::Granted { seat: held, waited_ms: None, .. } => {
                format!("{time} granted {}", seat(&held))
            }
            Fact::Granted { seat: held, waited_ms: Some(waited), .. } => {
                format!("{time} granted {} after {waited} ms in the queue", seat(&held))
            }
            Fact::Denied(Denied { denial, times, since }) => {
                let product = denial.product.map_or("*".to_owned(), |product| product.to_string());
                let subject = denial.subject.map_or("*".to_owned(), |subject| subject.to_string());
                let reason = denial.reason.label();
                format!("{time} denied {product} {subject}: {reason}, {times} since {since}")
            }
            Fact::GaveUp { product, subject, waited_ms, reason, .. } => {
                let reason = reason.label();
                format!("{time} gave up {product} {subject}: {reason} after {waited_ms} ms")
            }
            Fact::RenewedLate { seat: held, silent_ms, left_ms } => {
                format!(
                    "{time} renewed late {}: {silent_ms} ms silent, {left_ms} left",
                    seat(&held)
                )
            }
            Fact::Moved { seat: held, to } => {
                format!("{time} moved {} from {} to {to}", seat(&held), held.license)
            }
            Fact::RevokeOrdered { seat: held, by } => {
                format!("{time} revoke ordered {} by {by}", seat(&held))
            }
            Fact::Ended { seat: held, ending, since } => {
                format!("{time} {ending:?} {} since {since}", seat(&held)).to_lowercase()
            }
            Fact::RetentionSet { retention, by } => format!(
                "{time} kept for {} days, {} MiB by {by}",
                retention.days(),
                retention.mebibytes()
            ),
            Fact::Formed { .. } | Fact::ServiceChanged { .. } | Fact::PartBegun { .. } => {
                return None;
            }
        })
    };
    pages
        .flat_map(|page| page.records.into_iter().map(move |record| (page.time, record)))
        .filter_map(told)
        .collect()
}

pub(super) fn lines(lines: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = lines.collect();
    if all.is_empty() { "none".to_owned() } else { format!("{}\n{}", all.len(), all.join("\n")) }
}

//! Certificates that end soon, and files that are not taken.

use license::product::WallTime;

use super::super::finding::Finding;
use super::super::observations::{Observations, name};
use crate::dates::{show_date, show_millis};

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;
/// Time enough to renew one in working hours.
const WARNING_MILLIS: i64 = 30 * DAY_MILLIS;
/// Nobody has renewed it.
const ERROR_MILLIS: i64 = 3 * DAY_MILLIS;

/// By the clock of this machine: a node's own may be what is wrong.
pub(super) fn findings(seen: &Observations, now: WallTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in seen.answering() {
        let refused = node.checkup.as_ref().map_or("", |checkup| &checkup.certificates_refused);
        if !refused.is_empty() {
            findings.push(Finding::error(
                "CERTIFICATE_REFUSED",
                name(node.id),
                format!(
                    "its certificate files changed and are not taken: {refused}. It goes on with \
                     those before, and may not start again"
                ),
                "put right what `trine node --check` says of them there; the node takes them \
                 without a restart",
            ));
        }
        for certificate in &node.certificates {
            let left = certificate.expires_ms.saturating_sub(now.0);
            if left > WARNING_MILLIS {
                continue;
            }
            let which = match certificate.which.as_str() {
                "ca" => "the cluster CA it believes",
                "peer" => "the certificate of its peer listener",
                _ => "the certificate of its client listener",
            };
            let until = show_date(WallTime(certificate.expires_ms));
            let what = match left {
                ..=0 => format!("{which} expired at {until}: connections to it fail"),
                _ => format!("{which} expires at {until}, in {}", show_millis(left.unsigned_abs())),
            };
            let advice = match certificate.which.as_str() {
                "ca" => "rotate the cluster CA (`trine trust`), before it ends",
                _ => "renew it with `trine pki renew`; the node takes it without a restart",
            };
            findings.push(if left <= ERROR_MILLIS {
                Finding::error("CERTIFICATE_ENDING", name(node.id), what, advice)
            } else {
                Finding::warning("CERTIFICATE_ENDING", name(node.id), what, advice)
            });
        }
    }
    findings
}

//! Licenses that do not serve, and shares that are missing.

use wire::v1;

use super::super::finding::Finding;
use super::super::observations::{Observations, name};
use crate::verb::cluster::settling::{has_new_leader, has_new_members};

/// What the cluster calls a share that an operator withdrew.
const WITHDRAWN: &str = "withdrawn";

pub(super) fn findings(seen: &Observations) -> Vec<Finding> {
    let Ok(status) = &seen.cluster else { return Vec::new() };
    status.licenses.iter().filter_map(|license| of_license(seen, status, license)).collect()
}

fn of_license(
    seen: &Observations,
    status: &v1::StatusReply,
    license: &v1::License,
) -> Option<Finding> {
    let about = format!("{} ({})", license.product, license.id);
    if !license.serving {
        let reason = match license.reason.as_str() {
            "" => "no reason is given",
            reason => reason,
        };
        let is_live = |share: &&v1::Share| share.state == "live";
        let live = license.shares.iter().filter(is_live).count();
        let is_due = if live < 2 {
            has_new_members(status)
        } else {
            !license.signed && (has_new_members(status) || has_new_leader(status))
        };
        if is_due {
            return Some(Finding::not_known_yet(
                "NOT_SERVING_YET",
                about,
                format!(
                    "it does not serve yet, as for a moment after every start and election: {reason}"
                ),
            ));
        }
        return Some(Finding::error(
            "LICENSE_NOT_SERVING",
            about,
            format!("it does not serve: {reason}"),
            "shares that are silent come back with their nodes; others with the vendor's update of the license",
        ));
    }
    // A silent node has a finding of its own.
    let answers = |id: u64| seen.answering().any(|node| node.id == id);
    let missing: Vec<&v1::Share> = license
        .shares
        .iter()
        .filter(|share| share.state != "live" && (share.state != "silent" || answers(share.node)))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let each: Vec<String> =
        missing.iter().map(|share| format!("{} is {}", name(share.node), share.state)).collect();
    let is_withdrawn = missing.iter().any(|share| share.state == WITHDRAWN);
    let advice = if is_withdrawn {
        "two are enough, and the next failure leaves one. A withdrawn share is made again by nobody: `trine license request`, and have the vendor issue the license anew"
    } else {
        "two are enough, and the next failure leaves one: `trine license repair` makes a lost share again; if its disk may be in others' hands, `trine license withdraw-share`, and have the vendor issue the license anew"
    };
    let what = format!("not all shares are live: {}", each.join(", "));
    Some(Finding::warning("SHARE_MISSING", about, what, advice))
}

//! Licenses that do not serve, and shares that are missing.

use wire::v1;

use super::super::finding::Finding;
use super::super::observations::{Observations, name};
use crate::verb::cluster::settling::{has_new_leader, has_new_members};
use crate::verb::license::repair::{WITHOUT_SHARE, lost_place};

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
        let advice = if live < 2 {
            "shares that are silent come back with their nodes; others with the vendor's update of the license"
        } else {
            "its shares are live. If its time is over or has not come, and the date that `trine cluster status` shows is right, the vendor issues it anew (`trine license request`)"
        };
        let what = format!("it does not serve: {reason}");
        return Some(Finding::error("LICENSE_NOT_SERVING", about, what, advice));
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
    let lost = lost_place(status, license);
    let each = missing.iter().map(|share| {
        let of = |place: &v1::Place| format!(" (that of {} is lost)", name(place.node));
        let whose = lost.filter(|_| share.state == WITHOUT_SHARE).map(of).unwrap_or_default();
        format!("{} is {}{whose}", name(share.node), share.state)
    });
    let mut each: Vec<String> = each.collect();
    let withdrawn: Vec<String> = license
        .places
        .iter()
        .filter(|place| place.withdrawn)
        .map(|place| format!("the share of {} was withdrawn", name(place.node)))
        .collect();
    let advice = advice(license, &missing, lost, !withdrawn.is_empty());
    each.extend(withdrawn);
    let what = format!("not all shares are live: {}", each.join(", "));
    Some(Finding::warning("SHARE_MISSING", about, what, advice))
}

/// What each way of missing asks for. A share that is silent is on its node and
/// comes back with it: nothing of it is to be withdrawn.
fn advice(
    license: &v1::License,
    missing: &[&v1::Share],
    lost: Option<&v1::Place>,
    is_withdrawn: bool,
) -> String {
    let is = |state: &str| missing.iter().any(|share| share.state == state);
    let id = &license.id;
    let mut advice = vec!["two are enough, and the next failure leaves one".to_owned()];
    if is_withdrawn || is(WITHDRAWN) {
        advice.push(
            "a withdrawn share is made again by nobody: `trine license request`, and have the vendor issue the license anew"
                .to_owned(),
        );
    } else if is(WITHOUT_SHARE) {
        let with = lost.map_or_else(|| "N".to_owned(), |place| place.node.to_string());
        advice.push(format!(
            "`trine license repair {id}` makes a lost share again; if its disk may be in others' hands, `trine license withdraw-share {id} --node {with}`, and have the vendor issue the license anew"
        ));
    }
    if is("silent") {
        advice.push("a silent share comes back when the leader hears its node again".to_owned());
    }
    if is("not proved") {
        advice.push(
            "a node proves its share within seconds of its start: if it does not, read its log"
                .to_owned(),
        );
    }
    advice.join("; ")
}

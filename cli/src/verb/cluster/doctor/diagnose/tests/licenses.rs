//! Licenses and their shares.

use super::*;

/// Right after a start or an election nothing is wrong and not all is well.
#[test]
fn a_license_that_is_about_to_serve_is_not_known_yet_and_later_it_is_an_error() {
    let about = "cad (6000010:1:1)";
    let waits = || [not_yet("NOT_SERVING_YET", about)];
    let broken = || [error("LICENSE_NOT_SERVING", about)];
    let since = |seen: &mut Observations, members, term| {
        seen.cluster().members_for_ms = Some(members);
        seen.cluster().term_for_ms = Some(term);
    };
    let unsigned = |members, term| {
        move |seen: &mut Observations| {
            let license = &mut seen.cluster().licenses[0];
            (license.serving, license.signed) = (false, false);
            since(seen, members, term);
        }
    };
    assert_eq!(found(unsigned(HOUR, 9_999)), waits());
    assert_eq!(found(unsigned(9_999, HOUR)), waits());
    assert_eq!(found(unsigned(10_000, 10_000)), broken());
    let unproved = |members, term| {
        move |seen: &mut Observations| {
            let license = &mut seen.cluster().licenses[0];
            license.serving = false;
            license.shares[0].state = "not proved".into();
            license.shares[1].state = "not proved".into();
            since(seen, members, term);
        }
    };
    assert_eq!(found(unproved(9_999, HOUR)), waits());
    assert_eq!(found(unproved(10_000, HOUR)), broken());
    assert_eq!(found(unproved(HOUR, 9_999)), broken(), "an election takes no share away");
    let expired = |seen: &mut Observations| {
        seen.cluster().licenses[0].serving = false;
        since(seen, 9_999, 9_999);
    };
    assert_eq!(found(expired), broken(), "signed, with shares enough");
}

#[test]
fn a_license_that_does_not_serve_says_why() {
    let change = |seen: &mut Observations| {
        seen.cluster().licenses[0].serving = false;
        seen.cluster().licenses[0].reason = "1 of 3 shares live".into();
    };
    assert_eq!(found(change), [error("LICENSE_NOT_SERVING", "cad (6000010:1:1)")]);
    let mut seen = healthy();
    change(&mut seen);
    assert!(findings(&seen)[0].what.contains("1 of 3 shares live"));
}

#[test]
fn a_missing_share_is_a_warning_while_two_are_live() {
    for state in ["not proved", "withdrawn", "silent"] {
        let change =
            |seen: &mut Observations| seen.cluster().licenses[0].shares[2].state = state.into();
        assert_eq!(found(change), [warning("SHARE_MISSING", "cad (6000010:1:1)")], "{state}");
    }
}

/// Its node is slow or cut off, and has it still.
#[test]
fn nobody_is_told_to_withdraw_a_share_that_is_only_silent() {
    let mut seen = healthy();
    seen.cluster().licenses[0].shares[2].state = "silent".into();
    let advice = findings(&seen).remove(0).advice;
    assert!(!advice.contains("withdraw") && !advice.contains("repair"), "{advice}");
    assert!(advice.contains("comes back"), "{advice}");
}

/// Node 3 went, and node 4 came without a share: whose it was is told, and what
/// became of it.
#[test]
fn a_lost_share_is_repaired_or_withdrawn_by_the_name_of_who_had_it() {
    let mut seen = healthy();
    let place = |node: u64| {
        let container = format!("of-{node}");
        v1::Place { container, node, withdrawn: false }
    };
    let cluster = seen.cluster();
    cluster.nodes.iter_mut().for_each(|node| node.container = format!("of-{}", node.id));
    cluster.nodes[2].container = "of-4".into();
    cluster.licenses[0].places = [1, 2, 3].map(place).to_vec();
    cluster.licenses[0].shares[2].state = "without a share".into();
    let lost = findings(&seen).remove(0);
    let words = ["license repair 6000010:1:1", "withdraw-share 6000010:1:1 --node 3"];
    assert!(words.iter().all(|words| lost.advice.contains(words)), "{lost:?}");

    seen.cluster().licenses[0].places[2].withdrawn = true;
    let withdrawn = findings(&seen).remove(0);
    assert!(withdrawn.what.contains("the share of node-3 was withdrawn"), "{withdrawn:?}");
    assert!(!withdrawn.advice.contains("license repair"), "{withdrawn:?}");
    assert!(withdrawn.advice.contains("license request"), "{withdrawn:?}");
}

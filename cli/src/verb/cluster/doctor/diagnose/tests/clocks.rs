//! Clocks and the date.

use super::*;

#[test]
fn one_wrong_clock_is_a_warning_and_is_told_by_the_others() {
    for off in [-10 * YEAR, -60 * MINUTE, 60 * MINUTE, 10 * YEAR] {
        let wrong = found(|seen| seen.checkup(3).wall_ms += off);
        assert_eq!(wrong, [warning("CLOCK_WRONG", "node-3")], "{off}");
    }
    assert_eq!(found(|seen| seen.checkup(3).wall_ms += 5 * MINUTE), []);
}

#[test]
fn clocks_of_which_no_two_agree_are_an_error_each() {
    let change = |seen: &mut Observations| {
        seen.checkup(2).wall_ms += 60 * MINUTE;
        seen.checkup(3).wall_ms -= 60 * MINUTE;
        (1..=3).for_each(|id| seen.checkup(id).wall_floor_ms = None);
    };
    let all = ["node-1", "node-2", "node-3"].map(|node| error("CLOCKS_DISAGREE", node));
    assert_eq!(found(change), all);
}

/// A bad time server is believed by two: neither is right for that.
#[test]
fn two_wrong_clocks_that_agree_are_named_by_the_date_and_not_the_third() {
    for off in [-10 * YEAR, -60 * MINUTE, 60 * MINUTE, 10 * YEAR] {
        let change = |seen: &mut Observations| {
            seen.checkup(1).wall_ms += off;
            seen.checkup(2).wall_ms += off;
        };
        let expected = [error("CLOCK_WRONG", "node-1"), error("CLOCK_WRONG", "node-2")];
        assert_eq!(found(change), expected, "{off}");
        // This machine is the wrong one: the nodes and the date agree.
        let mut seen = healthy();
        for id in 1..=3 {
            seen.checkup(id).wall_ms += off;
            seen.checkup(id).wall_floor_ms = Some(NOW + off);
        }
        assert!(findings(&seen).iter().all(|f| f.code != "CLOCK_WRONG"), "{off}");
    }
}

#[test]
fn right_clocks_below_the_date_mean_that_the_date_is_ahead() {
    let change = |seen: &mut Observations| {
        (1..=3).for_each(|id| seen.checkup(id).wall_floor_ms = Some(NOW + 10 * YEAR));
    };
    assert_eq!(found(change), [error("DATE_AHEAD", "cluster")]);
    let mut seen = healthy();
    change(&mut seen);
    assert!(findings(&seen)[0].advice.contains("trine cluster clock-reset"));
}

#[test]
fn a_date_behind_the_clocks_is_late() {
    let change = |seen: &mut Observations| {
        (1..=3).for_each(|id| seen.checkup(id).wall_floor_ms = Some(NOW - 60 * MINUTE));
    };
    assert_eq!(found(change), [warning("DATE_LATE", "cluster")]);
}

/// A node on its way in has read the history of long ago, and no more yet.
#[test]
fn a_node_that_joins_raises_no_alarm_about_the_date() {
    let joining = |seen: &mut Observations| {
        seen.cluster().wall_floor_ms = Some(NOW - 500);
        for id in 1..=3 {
            seen.checkup(id).wall_floor_ms = Some(NOW - YEAR);
        }
    };
    assert_eq!(found(joining), []);
}

/// Neither side is taken for the right one.
#[test]
fn clocks_that_are_all_ahead_of_this_machines_are_told_by_how_much() {
    const DAYS: i64 = 40 * 24 * 60 * MINUTE;
    for off in [DAYS, -DAYS] {
        let change = |seen: &mut Observations| {
            (1..=3).for_each(|id| {
                seen.checkup(id).wall_ms += off;
                seen.checkup(id).wall_floor_ms = Some(NOW + off);
            });
        };
        assert_eq!(found(change), [warning("CLOCK_HERE_DIFFERS", "cluster")]);
        let mut seen = healthy();
        change(&mut seen);
        let what = findings(&seen).remove(0).what;
        let which =
            if off > 0 { "40d ahead of this machine's" } else { "40d behind this machine's" };
        assert!(what.contains(which), "{what}");
    }
}

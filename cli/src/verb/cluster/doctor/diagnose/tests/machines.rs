//! Disks, certificates, builds: what a node stands on.

use super::*;

#[test]
fn a_disk_fills_before_it_is_full() {
    let free = |bytes| {
        move |seen: &mut Observations| {
            seen.checkup(2).disk.as_mut().expect("a disk").bytes_free = bytes;
        }
    };
    assert_eq!(found(free(2 * GIB)), []);
    assert_eq!(found(free(2 * GIB - 1)), [warning("DISK_FILLING", "node-2")]);
    assert_eq!(found(free(GIB / 2 - 1)), [error("DISK_FULL", "node-2")]);
}

#[test]
fn a_slow_disk_is_told_by_its_latest_syncs() {
    let syncs = |count, median_us, p99_us| {
        move |seen: &mut Observations| {
            seen.checkup(1).syncs = Some(Syncs { count, median_us, p99_us });
        }
    };
    assert_eq!(found(syncs(512, 50_001, 60_000)), [warning("DISK_SLOW", "node-1")]);
    assert_eq!(found(syncs(512, 900, 400_001)), [warning("DISK_SLOW", "node-1")]);
    assert_eq!(found(syncs(20, 50_001, 60_000)), [warning("DISK_SLOW", "node-1")]);
    assert_eq!(found(syncs(19, 900_000, 900_000)), [], "too few to tell");
    assert_eq!(found(syncs(399, 900, 900_000)), [], "a few slow ones are a busy moment");
    assert_eq!(found(syncs(400, 900, 400_001)), [warning("DISK_SLOW", "node-1")]);
}

#[test]
fn a_certificate_is_renewed_in_time_or_it_is_an_error() {
    const DAY: i64 = 24 * 60 * MINUTE;
    for (which, at) in [("client", 0), ("peer", 1), ("ca", 2)] {
        let left = |millis| {
            move |seen: &mut Observations| seen.node(2).certificates[at].expires_ms = NOW + millis
        };
        assert_eq!(found(left(30 * DAY + 1)), [], "{which}");
        assert_eq!(found(left(30 * DAY)), [warning("CERTIFICATE_ENDING", "node-2")], "{which}");
        assert_eq!(found(left(3 * DAY)), [error("CERTIFICATE_ENDING", "node-2")], "{which}");
        assert_eq!(found(left(-1)), [error("CERTIFICATE_ENDING", "node-2")], "{which}");
    }
}

#[test]
fn builds_that_differ_are_a_warning() {
    let change = |seen: &mut Observations| seen.node(2).version = "0.2.0".into();
    assert_eq!(found(change), [warning("VERSIONS_DIFFER", "cluster")]);
}

/// In the middle of an upgrade nobody is told to raise anything.
#[test]
fn a_level_that_all_builds_know_is_a_warning_and_not_one_that_some_know() {
    let newer = |nodes: &'static [usize]| {
        move |seen: &mut Observations| nodes.iter().for_each(|id| seen.node(*id).highest_level = 3)
    };
    assert_eq!(found(newer(&[1, 2])), []);
    assert_eq!(found(newer(&[1, 2, 3])), [warning("LEVEL_CAN_RISE", "cluster")]);

    // One that is down was heard before that.
    let heard = |level| {
        move |seen: &mut Observations| {
            newer(&[1, 2])(seen);
            seen.down(3);
            seen.cluster().nodes[2].highest_level = level;
        }
    };
    let down = || error("NODE_DOWN", "node-3");
    assert_eq!(found(heard(2)), [down()]);
    assert_eq!(found(heard(3)), [down(), warning("LEVEL_CAN_RISE", "cluster")]);
    assert_eq!(found(heard(0)), [down()]);
}

#[test]
fn a_build_that_is_too_old_for_the_level_is_an_error() {
    let change = |seen: &mut Observations| seen.node(2).highest_level = 1;
    assert_eq!(found(change), [error("BUILD_TOO_OLD", "node-2")]);
    let stopped = |seen: &mut Observations| {
        seen.down(2);
        seen.cluster().nodes[1].highest_level = 1;
    };
    assert_eq!(found(stopped), [error("NODE_DOWN", "node-2"), error("BUILD_TOO_OLD", "node-2")]);
}

//! S9 and S26: mass expiry and memory stay bounded per entry; S18: nodes that
//! report another hash are named.

mod support;

use ledger::Ledger;
use ledger::command::{
    AbandonReplacement, Acquire, Batch, Bound, Cancel, Command, IssueToken, LeaseId, Outcome,
    Refusal, Release, Renew, RevokeCertificate, Token, WithdrawShare,
};
use ledger::limits::{
    BEARER_TOKENS_MAX, DEPARTED_MAX, ENDINGS_PER_ENTRY, LEASES_MAX, LICENSES_MAX, QUEUE_MAX,
    REQUESTS_MAX, REVOKED_CERTIFICATES_MAX, SUBJECT_SEATS_MAX,
};
use ledger::name::HolderName;
use ledger::time::{ClusterTime, Stamp, Ttl};
use ledger::view::Comparison;
use license::product::{LicenseSerial, NodeId, ProductName, WallTime};
use support::{ISSUED, World, subject, terms};

struct Cluster {
    world: World,
    ledger: Ledger,
    index: u64,
}

impl Cluster {
    fn serving(seats: u32) -> Self {
        let mut world = World::new(4);
        let issued = world.issue(terms("cad", 1, 1, 1, seats));
        let commands = vec![
            world.genesis(),
            World::install(&issued),
            world.attest(&issued, 1),
            world.attest(&issued, 2),
            world.attest(&issued, 3),
            Command::SignTerm(world.sign(&issued, 1)),
        ];
        let mut cluster = Self { world, ledger: Ledger::new(), index: 0 };
        cluster.apply(0, commands);
        cluster
    }

    /// Applies an entry after every node was heard.
    fn apply(&mut self, time: u64, mut commands: Vec<Command>) -> Vec<Outcome> {
        if self.ledger.charter().is_some() {
            let beats = (1..=3).map(|node| self.world.beat(node, ISSUED, (0, [0; 32])));
            commands.splice(0..0, beats);
        }
        self.apply_only(time, commands)
    }

    fn apply_only(&mut self, time: u64, commands: Vec<Command>) -> Vec<Outcome> {
        self.index += 1;
        let stamp = Stamp { time: ClusterTime(time), term: 1, withheld: false };
        let applied = self.ledger.apply(self.index, 1, &Batch { stamp, commands });
        applied.replies.into_iter().map(|reply| reply.outcome).collect()
    }
}

fn acquire(id: u128, wait_until: Option<u64>) -> Command {
    Command::Acquire(Acquire {
        lease: LeaseId(id),
        subject: subject("alice"),
        product: ProductName::parse("cad").unwrap(),
        holder: HolderName::parse("").unwrap(),
        version: None,
        ttl: Ttl::from_millis(10_000).unwrap(),
        not_after: ClusterTime(60_000),
        wait_until: wait_until.map(ClusterTime),
    })
}

/// Ten thousand leases die at once: each entry ends its share of them, the
/// rest is dead to its holders at once, and its seats follow.
#[test]
fn a_mass_expiry_stalls_nobody() {
    let mut cluster = Cluster::serving(10_000);
    cluster.apply(0, (0..10_000).map(|id| acquire(id, None)).collect());
    assert_eq!(cluster.ledger.live(), 10_000);

    cluster.apply_only(10_000, vec![]);
    assert_eq!(cluster.ledger.live(), 10_000 - ENDINGS_PER_ENTRY as u64);
    assert!(cluster.ledger.overdue());

    let overdue = 9_999;
    let renew = Renew {
        lease: LeaseId(overdue),
        subject: subject("alice"),
        token: Token(10_000),
        hold_ended: true,
    };
    let answers = cluster.apply_only(10_000, vec![Command::Renew(renew)]);
    assert!(matches!(answers[0], Outcome::Refused(Refusal::LeaseEnded { .. })), "{answers:?}");

    cluster.apply_only(10_000, vec![]);
    assert_eq!(cluster.ledger.live(), 0);
    assert!(!cluster.ledger.overdue());
    assert_eq!(cluster.ledger.check(), Ok(()));
}

#[test]
fn a_queue_has_a_stated_length() {
    let mut cluster = Cluster::serving(1);
    let waits = (0..=u128::from(QUEUE_MAX) + 1).map(|id| acquire(id, Some(50_000))).collect();
    let answers = cluster.apply(0, waits);
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| matches!(answer, Outcome::Refused(Refusal::QueueFull { .. })))
        .collect();
    assert_eq!(refused.len(), 1);
    let Some(Outcome::Queued(place)) = answers.get(answers.len() - 2) else { panic!("queued") };
    assert_eq!((place.position, place.length), (QUEUE_MAX, QUEUE_MAX));
}

#[test]
fn one_subject_has_a_stated_number_of_seats() {
    let mut cluster = Cluster::serving(SUBJECT_SEATS_MAX + 1);
    let answers =
        cluster.apply(0, (0..=u128::from(SUBJECT_SEATS_MAX)).map(|id| acquire(id, None)).collect());
    assert_eq!(cluster.ledger.live(), u64::from(SUBJECT_SEATS_MAX));
    assert!(matches!(answers.last(), Some(Outcome::Refused(Refusal::TooManySeats { .. }))));
}

#[test]
fn licenses_and_bearer_tokens_have_a_stated_number() {
    let mut cluster = Cluster::serving(1);
    for code in 2..=LICENSES_MAX as u32 + 1 {
        let issued = cluster.world.issue(terms("cam", code, 1, 1, 1));
        let answers = cluster.apply(0, vec![World::install(&issued)]);
        let fits = u64::from(code) <= LICENSES_MAX;
        assert_eq!(answers.last() == Some(&Outcome::Done), fits, "license {code}");
    }
    let token = |number: u64| {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        let expires = ISSUED.plus_millis(1);
        Command::IssueToken(IssueToken {
            digest,
            subject: subject("app"),
            expires,
            by: subject("ops"),
        })
    };
    let answers = cluster.apply(0, (0..=BEARER_TOKENS_MAX).map(token).collect());
    let full = Refusal::LedgerFull { what: Bound::BearerTokens, limit: BEARER_TOKENS_MAX };
    assert_eq!(answers.last(), Some(&Outcome::Refused(full)));
    assert_eq!(answers[answers.len() - 2], Outcome::Done);
}

/// Every replacement, finished or given up, is remembered for ever.
#[test]
fn nodes_that_are_gone_have_a_stated_number() {
    let mut cluster = Cluster::serving(1);
    let by = || subject("ops");
    for number in 0..DEPARTED_MAX {
        let (old, new) = (NodeId(3), 10 + number);
        let begin = cluster.world.newcomer(3, new, None, 4711);
        let new = NodeId(new);
        let give_up = Command::AbandonReplacement(AbandonReplacement { old, new, by: by() });
        let answers = cluster.apply(0, vec![begin, give_up]);
        assert!(answers.ends_with(&[Outcome::Done, Outcome::Done]), "{answers:?}");
    }
    let begin = cluster.world.newcomer(3, 10 + DEPARTED_MAX, None, 4711);
    let full = Refusal::LedgerFull { what: Bound::Departed, limit: DEPARTED_MAX };
    assert_eq!(cluster.apply(0, vec![begin]).last(), Some(&Outcome::Refused(full)));
}

#[test]
fn revoked_certificates_have_a_stated_number() {
    let mut cluster = Cluster::serving(1);
    let revoke = |number: u64, expires: WallTime| {
        let mut fingerprint = [0; 32];
        fingerprint[..8].copy_from_slice(&number.to_be_bytes());
        let subject = subject("app:cad");
        let by = support::subject("ops");
        Command::RevokeCertificate(RevokeCertificate {
            fingerprint,
            subject,
            from: expires,
            expires,
            by,
        })
    };
    let past = WallTime(0);
    let first = vec![revoke(0, past)];
    assert_eq!(cluster.apply(0, first).last(), Some(&Outcome::Done));
    let more = (1..=REVOKED_CERTIFICATES_MAX).map(|number| revoke(number, ISSUED)).collect();
    let later = 31 * 24 * 60 * 60 * 1_000;
    let answers = cluster.apply(later, more);
    assert_eq!(answers.last(), Some(&Outcome::Done), "what expired long ago takes no room");
    let what = Bound::RevokedCertificates;
    let full = Refusal::LedgerFull { what, limit: REVOKED_CERTIFICATES_MAX };
    let answers = cluster.apply(later, vec![revoke(0, ISSUED)]);
    assert_eq!(answers.last(), Some(&Outcome::Refused(full)));
}

/// The ledger is as full as it may be: it refuses, and has room again when one
/// lets go. Takes minutes: `cargo test -p trine-ledger --test bounds -- --ignored`.
#[test]
#[ignore = "fills a whole ledger; takes minutes and gigabytes"]
fn a_full_ledger_refuses_and_has_room_again() {
    let mut cluster = Cluster::serving(1_000_000);
    let more = [2, 3].map(|tmr| cluster.world.issue(terms("cad", 1, tmr, 1, 1_000_000)));
    for issued in &more {
        let mut commands = vec![World::install(issued)];
        commands.extend((1..=3).map(|node| cluster.world.attest(issued, node)));
        commands.push(Command::SignTerm(cluster.world.sign(issued, 1)));
        cluster.apply(0, commands);
    }
    let by = |id: u64| subject(&format!("station-{}", id % 64));
    let acquire_by = |id: u64| match acquire(u128::from(id), None) {
        Command::Acquire(body) => Command::Acquire(Acquire { subject: by(id), ..body }),
        other => other,
    };
    let cancel =
        |id: u64| Command::Cancel(Cancel { lease: LeaseId(u128::from(id)), subject: by(id) });
    let full = |what: Bound| Outcome::Refused(Refusal::LedgerFull { what, limit: what.limit() });

    for first in (0..LEASES_MAX).step_by(10_000) {
        cluster.apply(0, (first..first + 10_000).map(acquire_by).collect());
    }
    assert_eq!(cluster.ledger.live(), LEASES_MAX);
    let answers = cluster.apply(0, vec![acquire_by(LEASES_MAX)]);
    assert_eq!(answers.last(), Some(&full(Bound::Leases)));
    let answers = cluster.apply(0, vec![cancel(0), acquire_by(LEASES_MAX)]);
    assert!(matches!(answers.last(), Some(Outcome::Granted(..))), "{:?}", answers.last());

    for first in (LEASES_MAX + 1..REQUESTS_MAX).step_by(10_000) {
        cluster.apply(0, (first..(first + 10_000).min(REQUESTS_MAX)).map(cancel).collect());
    }
    let answers = cluster.apply(0, vec![cancel(REQUESTS_MAX), cancel(1), acquire_by(REQUESTS_MAX)]);
    assert_eq!(answers[3], full(Bound::Memories));
    assert_eq!(answers[4], Outcome::Cancelled, "a known request takes no room");
    assert_eq!(answers[5], full(Bound::Memories));
}

/// Everything ends, so everything is forgotten: the ledger comes back to empty.
#[test]
fn a_quiet_ledger_forgets_everything() {
    let mut cluster = Cluster::serving(2);
    let empty = cluster.ledger.snapshot().len();
    cluster.apply(0, (0..100).map(|id| acquire(id, None)).collect());
    let release = Release { lease: LeaseId(0), subject: subject("alice"), token: Token(1) };
    let cancel = Cancel { lease: LeaseId(1_000), subject: subject("alice") };
    cluster.apply(1_000, vec![Command::Release(release), Command::Cancel(cancel)]);
    cluster.apply(10_000, vec![]);
    cluster.apply(200_000, vec![]);
    assert_eq!(cluster.ledger.next_deadline(), None);
    assert!(cluster.ledger.snapshot().len() < empty + 300, "only vitals and counters are left");
}

/// A node whose ledger went another way is named, and only who reached the same
/// checkpoint counts as one that agrees.
#[test]
fn a_checkpoint_agrees_contradicts_or_says_nothing() {
    let mut cluster = Cluster::serving(1);
    cluster.index = 255;
    cluster.apply(1_000, vec![]);
    let (index, hash) = cluster.ledger.checkpoint().expect("index 256 was passed");
    assert_eq!(index, 256);
    let honest = cluster.world.beat(1, ISSUED, (index, hash));
    let diverged = cluster.world.beat(2, ISSUED, (index, [1; 32]));
    let ahead = cluster.world.beat(3, ISSUED, (512, [1; 32]));
    cluster.apply_only(1_000, vec![honest, diverged, ahead]);
    let differs = Comparison::Differs { index, theirs: [1; 32], ours: hash };
    let asked_by = |node| cluster.ledger.comparisons(NodeId(node));
    assert_eq!(asked_by(1), [(NodeId(2), differs), (NodeId(3), Comparison::NotComparable)]);
    assert_eq!(
        asked_by(3),
        [(NodeId(1), Comparison::Equal { index }), (NodeId(2), differs)],
        "nobody is compared with itself"
    );
    assert!(Ledger::new().comparisons(NodeId(1)).is_empty(), "no members, no comparisons");
}

/// A share withdrawn from the editions of its day is not withdrawn from the next.
#[test]
fn a_withdrawal_is_of_the_editions_it_met() {
    let mut cluster = Cluster::serving(1);
    let license = terms("cad", 1, 1, 1, 1).license;
    let is_withdrawn = |ledger: &Ledger, serial, node| {
        ledger.is_withdrawn(license, LicenseSerial(serial), NodeId(node))
    };
    let withdraw = WithdrawShare { license, node: NodeId(2), by: subject("ops") };
    cluster.apply(1_000, vec![Command::WithdrawShare(withdraw)]);
    let update = cluster.world.issue(terms("cad", 1, 1, 2, 1));
    cluster.apply(1_000, vec![World::install(&update)]);
    assert!(is_withdrawn(&cluster.ledger, 1, 2));
    assert!(!is_withdrawn(&cluster.ledger, 1, 1), "another node's share");
    assert!(!is_withdrawn(&cluster.ledger, 2, 2), "an update brings new shares");
    assert!(!is_withdrawn(&cluster.ledger, 3, 2), "no such edition");
}

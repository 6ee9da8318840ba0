//! Container certificates: what vouches for a container, and what does not.

use std::time::Duration;

use pki::{
    Authority, CertificateDer, ContainerRefusal, ContainerSubject, Pem, UnixTime, Validity,
    container_chain, identity_of, verify_container,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000))
}

fn later(days: u32) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs()) + DAY * days)
}

fn authority() -> Authority {
    Authority::create("a cluster's CA", Validity::starting(now(), DAY * 3_650)).expect("a CA")
}

/// A P-256 key as certificates carry it.
fn key() -> Vec<u8> {
    use rcgen::PublicKeyData as _;
    rcgen::KeyPair::generate().expect("a key").subject_public_key_info()
}

fn subject(key: &[u8]) -> ContainerSubject<'_> {
    ContainerSubject { node: 2, serial: "130-0123456789", key }
}

fn chain(authority: &Authority, subject: &ContainerSubject<'_>) -> Vec<Vec<u8>> {
    let validity = Validity::starting(now(), DAY * 365);
    let pem = authority.certify_container(subject, validity).expect("a certificate");
    container_chain(Pem::new("container.pem", pem.as_bytes())).expect("two certificates")
}

/// What the chain is worth for node 2's container, where only `ca` counts.
fn judge(
    chain: &[Vec<u8>],
    key: &[u8],
    ca: &Authority,
    at: UnixTime,
) -> Result<(), ContainerRefusal> {
    let counts = |digest: &[u8; 32]| *digest == ca.ca().digest();
    verify_container(chain, &subject(key), counts, at).map(|found| {
        assert_eq!(&found, ca.ca());
    })
}

#[test]
fn the_cluster_s_ca_vouches_for_a_container() {
    let (ca, key) = (authority(), key());
    assert_eq!(judge(&chain(&ca, &subject(&key)), &key, &ca, now()), Ok(()));
}

#[test]
fn a_container_s_certificate_lets_nobody_in() {
    let (ca, key) = (authority(), key());
    let own = CertificateDer::from(chain(&ca, &subject(&key))[0].clone());
    assert!(identity_of(&own).is_err());
}

#[test]
fn without_a_certificate_nobody_vouches() {
    let (ca, key) = (authority(), key());
    assert_eq!(judge(&[], &key, &ca, now()), Err(ContainerRefusal::None));
}

#[test]
fn the_word_of_another_ca_is_worth_nothing() {
    let (ca, other, key) = (authority(), authority(), key());
    let theirs = chain(&other, &subject(&key));
    let found = other.ca().digest();
    assert_eq!(judge(&theirs, &key, &ca, now()), Err(ContainerRefusal::OtherCa { found }));

    // Nor is it with the right CA's certificate put behind it.
    let mended = [theirs[0].clone(), ca.ca().der().to_vec()];
    assert_eq!(judge(&mended, &key, &ca, now()), Err(ContainerRefusal::NotSignedByCa));
}

#[test]
fn a_certificate_vouches_for_one_key_one_node_and_one_container() {
    let (ca, own, others) = (authority(), key(), key());
    let chained = chain(&ca, &subject(&own));
    assert_eq!(judge(&chained, &others, &ca, now()), Err(ContainerRefusal::OtherKey));

    for another in [
        ContainerSubject { node: 3, ..subject(&own) },
        ContainerSubject { serial: "130-9876543210", ..subject(&own) },
    ] {
        let refused = judge(&chain(&ca, &another), &own, &ca, now());
        assert!(matches!(refused, Err(ContainerRefusal::OtherName { .. })), "{refused:?}");
    }
}

#[test]
fn a_node_s_certificate_is_not_its_container_s() {
    let (ca, key) = (authority(), key());
    let issued = ca.issue_node(2, &[], Validity::starting(now(), DAY)).expect("a certificate");
    let pem = issued.certificate_pem + &ca.pem().certificate_pem;
    let chained = container_chain(Pem::new("node.pem", pem.as_bytes())).expect("certificates");
    let refused = judge(&chained, &key, &ca, now());
    assert!(matches!(refused, Err(ContainerRefusal::OtherName { .. })), "{refused:?}");
}

#[test]
fn a_certificate_counts_within_its_dates() {
    let (ca, key) = (authority(), key());
    let chained = chain(&ca, &subject(&key));
    let expired = ContainerRefusal::Expired { expired: later(365) };
    assert_eq!(judge(&chained, &key, &ca, later(366)), Err(expired));
    let before = UnixTime::since_unix_epoch(Duration::from_secs(1_000_000_000));
    let refused = judge(&chained, &key, &ca, before);
    assert!(matches!(refused, Err(ContainerRefusal::NotYetValid { .. })), "{refused:?}");
}

#[test]
fn a_chain_ends_with_an_authority() {
    let (ca, key) = (authority(), key());
    let chained = chain(&ca, &subject(&key));
    for short in [&chained[..1], &[vec![1, 2, 3], chained[0].clone()], &[vec![0x30], vec![0x30]]] {
        assert_eq!(judge(short, &key, &ca, now()), Err(ContainerRefusal::Unreadable));
    }
    let garbled = [vec![0x30, 3, 1, 2, 3], ca.ca().der().to_vec()];
    assert_eq!(judge(&garbled, &key, &ca, now()), Err(ContainerRefusal::Unreadable));
}

//! Certificates and keys as files: what is believed, and what a wrong file is told.

use std::time::Duration;

use pki::{
    Authority, AuthorityError, Ca, CredentialError, Credentials, Issued, Pem, UnixTime, Validity,
    expires, identity_of,
};

const NOW: UnixTime = at(1_800_000_000);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn this_year() -> Validity {
    Validity::starting(NOW, YEAR)
}

fn authority() -> Authority {
    Authority::create("test CA", this_year()).expect("an authority")
}

fn read(ca: &Authority, pair: &Issued) -> Result<Credentials, CredentialError> {
    Credentials::parse(
        Pem::new("ca.pem", ca.pem().certificate_pem.as_bytes()),
        Pem::new("node.pem", pair.certificate_pem.as_bytes()),
        Pem::new("node.key", pair.key_pem.as_bytes()),
    )
}

fn message(refused: impl std::error::Error) -> String {
    refused.to_string()
}

#[test]
fn what_the_authority_issues_is_believed_and_says_who_it_is() {
    let ca = authority();
    for (pair, uri) in [
        (ca.issue_node(2, &["10.0.0.2", "db.example"], this_year()), "trine://peer/node-2"),
        (ca.issue_application("cad@ws-7", this_year()), "trine://application/cad@ws-7"),
        (ca.issue_operator("ana", this_year()), "trine://operator/ana"),
    ] {
        let credentials = read(&ca, &pair.expect("issued")).expect("readable");
        assert_eq!(credentials.identity().to_string(), uri);
        credentials.check(NOW).expect("believed");
        let own = &credentials.chain()[0];
        assert_eq!(identity_of(own).expect("an identity").to_string(), uri);
        assert_eq!(expires(own), Some(this_year().not_after));
        assert_eq!(credentials.expires().expect("dates"), this_year().not_after);
    }
}

#[test]
fn an_authority_read_back_issues_as_before() {
    let made = authority();
    let read_back = Authority::from_pem(
        Pem::new("ca.pem", made.pem().certificate_pem.as_bytes()),
        Pem::new("ca.key", made.pem().key_pem.as_bytes()),
    )
    .expect("readable");
    assert_eq!(read_back.ca().digest(), made.ca().digest());
    let pair = read_back.issue_node(1, &[], this_year()).expect("issued");
    read(&made, &pair).expect("readable").check(NOW).expect("believed");
}

#[test]
fn two_authorities_have_two_digests() {
    assert_ne!(authority().ca().digest(), authority().ca().digest());
}

#[test]
fn a_certificate_is_believed_within_its_dates_only() {
    let ca = authority();
    let pair = ca.issue_node(1, &[], this_year()).expect("issued");
    let credentials = read(&ca, &pair).expect("readable");
    let Validity { not_before, not_after } = this_year();
    credentials.check(not_before).expect("its first second");
    credentials.check(not_after).expect("its last second");
    let early = credentials.check(at(not_before.as_secs() - 1)).expect_err("a second early");
    assert!(matches!(early, CredentialError::NotYetValid { .. }), "{early}");
    let late = credentials.check(at(not_after.as_secs() + 1)).expect_err("a second late");
    assert!(matches!(late, CredentialError::Expired { .. }), "{late}");
}

#[test]
fn an_expired_certificate_says_which_file_and_when() {
    let ca = authority();
    let past = Validity { not_before: at(0), not_after: at(86_399) };
    let pair = ca.issue_node(1, &[], past).expect("issued");
    let refused = message(read(&ca, &pair).expect("readable").check(NOW).expect_err("expired"));
    assert_eq!(
        refused,
        "the certificate in node.pem expired at 1970-01-01T23:59:59Z and it is \
         2027-01-15T08:00:00Z; issue another with `trine pki issue`, or set this machine's clock"
    );
}

#[test]
fn another_authoritys_certificate_is_not_believed() {
    let pair = authority().issue_node(1, &[], this_year()).expect("issued");
    let refused = read(&authority(), &pair).expect("readable").check(NOW).expect_err("foreign");
    assert!(matches!(refused, CredentialError::NotSignedByCa { .. }), "{refused}");
}

#[test]
fn a_key_of_another_pair_is_noticed_at_once() {
    let ca = authority();
    let one = ca.issue_node(1, &[], this_year()).expect("issued");
    let other = ca.issue_node(2, &[], this_year()).expect("issued");
    let mixed = Issued { certificate_pem: one.certificate_pem, key_pem: other.key_pem };
    let refused = read(&ca, &mixed).expect_err("mixed up");
    assert!(matches!(refused, CredentialError::KeyMismatch { .. }), "{refused}");
}

#[test]
fn a_wrong_file_is_named_with_what_it_lacks() {
    let ca = authority();
    let pair = ca.issue_node(1, &[], this_year()).expect("issued");
    let (ca_pem, pem, key) = (&ca.pem().certificate_pem, &pair.certificate_pem, &pair.key_pem);
    let cut = &pem[..pem.len() / 2];
    for (ca_pem, pem, key, says) in [
        ("", pem.as_str(), key.as_str(), "ca.pem holds no certificate"),
        (pem, pem, key, "ca.pem holds a certificate that may not sign others"),
        (ca_pem, key, key, "node.pem holds no certificate"),
        (ca_pem, cut, key, "node.pem is damaged: a block has no -----END line"),
        (ca_pem, pem, pem, "node.key holds no private key"),
        (ca_pem, ca_pem, &ca.pem().key_pem, "node.pem cannot be used: the certificate has 0"),
        (ca_pem, pem, "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", "node.key is"),
    ] {
        let refused = message(
            Credentials::parse(
                Pem::new("ca.pem", ca_pem.as_bytes()),
                Pem::new("node.pem", pem.as_bytes()),
                Pem::new("node.key", key.as_bytes()),
            )
            .expect_err(says),
        );
        assert!(refused.starts_with(says), "{refused:?} does not start with {says:?}");
    }
}

#[test]
fn nobody_becomes_an_authority_with_a_nodes_certificate() {
    let pair = authority().issue_node(1, &[], this_year()).expect("issued");
    let refused = Authority::from_pem(
        Pem::new("node.pem", pair.certificate_pem.as_bytes()),
        Pem::new("node.key", pair.key_pem.as_bytes()),
    )
    .expect_err("no authority");
    assert!(matches!(refused, AuthorityError::NotAnAuthority { .. }), "{refused}");
}

#[test]
fn names_and_dates_that_cannot_stand_are_refused() {
    let ca = authority();
    assert!(ca.issue_node(0, &[], this_year()).is_err());
    assert!(ca.issue_application("", this_year()).is_err());
    assert!(ca.issue_application("a/b", this_year()).is_err());
    assert!(ca.issue_operator(&"x".repeat(129), this_year()).is_err());
    assert!(Authority::create("", this_year()).is_err());
    let refused = ca.issue_node(1, &["not a host"], this_year()).expect_err("no host");
    assert!(matches!(refused, AuthorityError::HostName { .. }), "{refused}");
    let backwards = Validity { not_before: at(10), not_after: at(9) };
    assert!(ca.issue_node(1, &[], backwards).is_err());
    let never = Validity { not_before: at(0), not_after: at(u64::MAX) };
    assert!(ca.issue_node(1, &[], never).is_err());
}

#[test]
fn a_key_is_never_shown() {
    let ca = authority();
    let pair = ca.issue_operator("ana", this_year()).expect("issued");
    let credentials = read(&ca, &pair).expect("readable");
    for shown in [format!("{pair:?}"), format!("{ca:?}"), format!("{credentials:?}")] {
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
    assert!(Ca::parse(Pem::new("ca.pem", ca.pem().certificate_pem.as_bytes())).is_ok());
}

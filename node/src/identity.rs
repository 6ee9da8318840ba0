//! Who is asking: what a connection proved, and what a call may claim from it.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use ledger::name::Subject;
use license::product::InvalidName;
use pki::Fingerprint;
use sha2::{Digest, Sha256};

/// The other end of one connection, as the door learned it. In the extensions
/// of every request that comes over the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it calls from; behind a balancer, as the PROXY header says. For
    /// logs and limits only, never for identity.
    pub address: IpAddr,
    /// Whom its certificate speaks for; `None` if it showed none.
    pub identity: Option<pki::Identity>,
    /// That very certificate, which may be revoked while the connection stands;
    /// `None` if it showed none.
    pub certificate: Option<Fingerprint>,
}

/// Who makes one call, and what it may do. In the extensions of every request
/// that passed the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its name in the ledger, which is also its station.
    pub subject: Subject,
    /// Its role.
    pub role: Role,
}

/// What a caller of the client listener may be. Nodes are none of these: they
/// have their own listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes seats.
    Application,
    /// Runs the cluster, and may take a seat by hand.
    Operator,
}

impl Role {
    /// Its name in messages and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Operator => "operator",
        }
    }
}

/// Why a call has no caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCaller {
    /// A certificate that an operator revoked.
    #[error("this certificate of {0} was revoked; ask the operator of the cluster for a new one")]
    Revoked(pki::Identity),
    /// Neither certificate nor token.
    #[error("no identity: show a certificate of this cluster's CA, or a bearer token")]
    Nobody,
    /// The `authorization` header is not a bearer token.
    #[error("the authorization header is not understood: send one `Bearer TOKEN`")]
    NotBearer,
    /// No such token.
    #[error(
        "the bearer token is unknown here, has expired or was revoked; ask the operator for a new one"
    )]
    UnknownToken,
    /// A node's certificate.
    #[error(
        "{0} is a node and has no business at the client listener; use an application's or operator's certificate"
    )]
    Node(pki::Identity),
    /// A name that the ledger cannot hold.
    #[error("the certificate's name cannot be used: {0}")]
    Name(InvalidName),
}

/// The subject of the application `name`: `app:NAME`.
///
/// Applications and operators are named apart, so that one never holds the
/// other's seat whatever their certificates say. A token issued to an
/// application makes the same subject as a certificate of the same name.
pub fn application(name: &str) -> Result<Subject, InvalidName> {
    Subject::parse(&format!("app:{name}"))
}

/// The name inside [`application`]'s subject; all of it if it is no application's.
pub(crate) fn application_name(subject: &Subject) -> &str {
    subject.as_str().strip_prefix("app:").unwrap_or(subject.as_str())
}

/// The subject of the operator `name`: `op:NAME`.
pub fn operator(name: &str) -> Result<Subject, InvalidName> {
    Subject::parse(&format!("op:{name}"))
}

/// Whether a caller of the client listener may be this subject: see
/// [`application`] and [`operator`].
pub(crate) fn is_caller(subject: &Subject) -> bool {
    ["app:", "op:"].iter().any(|station| subject.as_str().starts_with(station))
}

/// How the ledger and operators call whom a certificate speaks for.
///
/// `app:NAME`, `op:NAME` or `node-N`.
pub fn subject_of(identity: &pki::Identity) -> Result<Subject, InvalidName> {
    match identity.role() {
        pki::Role::Application => application(identity.name()),
        pki::Role::Operator => operator(identity.name()),
        pki::Role::Peer => Subject::parse(identity.name()),
    }
}

/// What the ledger knows a bearer token by: its SHA-256.
pub fn token_digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Who makes a call that came over this connection with these headers.
///
/// A certificate decides alone: it is the connection's own proof, while a
/// header may have been added on the way; a token beside it is not looked at.
/// Without a certificate `find_token` says whose token it is, by digest.
pub fn caller_of(
    peer: &Peer,
    headers: &HeaderMap,
    find_token: impl FnOnce(&[u8; 32]) -> Option<Subject>,
) -> Result<Caller, NoCaller> {
    if let Some(identity) = &peer.identity {
        let role = match identity.role() {
            pki::Role::Application => Role::Application,
            pki::Role::Operator => Role::Operator,
            pki::Role::Peer => return Err(NoCaller::Node(identity.clone())),
        };
        return Ok(Caller { subject: subject_of(identity).map_err(NoCaller::Name)?, role });
    }
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(NoCaller::Nobody)?;
    if values.next().is_some() {
        return Err(NoCaller::NotBearer);
    }
    let (scheme, secret) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(NoCaller::NotBearer)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(NoCaller::NotBearer);
    }
    let subject = find_token(&token_digest(secret.trim())).ok_or(NoCaller::UnknownToken)?;
    Ok(Caller { subject, role: Role::Application })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(identity: Option<&str>) -> Peer {
        let identity = identity.map(|uri| uri.parse().expect("an identity"));
        Peer { address: [127, 0, 0, 1].into(), identity, certificate: None }
    }

    fn headers(authorization: &[&str]) -> HeaderMap {
        let values = authorization.iter().map(|value| value.parse().expect("a header value"));
        values.map(|value| (AUTHORIZATION, value)).collect()
    }

    fn ask(identity: Option<&str>, authorization: &[&str]) -> Result<Caller, NoCaller> {
        caller_of(&peer(identity), &headers(authorization), |digest| {
            (*digest == token_digest("s3cret")).then(|| application("line-7").expect("a name"))
        })
    }

    #[test]
    fn an_operator_and_an_application_of_one_name_are_two_subjects() {
        let application = ask(Some("trine://application/x"), &[]).expect("a caller");
        let operator = ask(Some("trine://operator/x"), &[]).expect("a caller");
        assert_ne!(application.subject, operator.subject);
        assert_eq!(application.role, Role::Application);
        assert_eq!(operator.role, Role::Operator);
    }

    /// Whatever name a certificate may carry, the ledger has room for its subject.
    #[test]
    fn the_longest_name_is_a_subject() {
        let name = "x".repeat(pki::Identity::NAME_LENGTH_MAX);
        for role in ["application", "operator"] {
            let caller = ask(Some(&format!("trine://{role}/{name}")), &[]).expect("a caller");
            assert!(caller.subject.as_str().ends_with(&name));
        }
        assert!(format!("trine://operator/{name}x").parse::<pki::Identity>().is_err());
    }

    #[test]
    fn a_tokens_subject_gives_its_name_back() {
        let subject = application("line-7").expect("a name");
        assert_eq!(application_name(&subject), "line-7");
    }

    #[test]
    fn a_token_and_a_certificate_of_one_application_are_one_subject() {
        let by_token = ask(None, &["Bearer s3cret"]).expect("a caller");
        assert_eq!(Ok(by_token), ask(Some("trine://application/line-7"), &[]));
    }

    #[test]
    fn a_certificate_decides_over_a_token() {
        let caller = ask(Some("trine://operator/ana"), &["Bearer s3cret"]).expect("a caller");
        assert_eq!(caller.subject.as_str(), "op:ana");
        let caller = ask(Some("trine://operator/ana"), &["Bearer nonsense"]).expect("a caller");
        assert_eq!(caller.subject.as_str(), "op:ana");
    }

    #[test]
    fn whoever_proves_nothing_is_nobody() {
        assert_eq!(ask(None, &[]), Err(NoCaller::Nobody));
        assert_eq!(ask(None, &["Bearer guess"]), Err(NoCaller::UnknownToken));
        assert_eq!(ask(None, &["Basic s3cret"]), Err(NoCaller::NotBearer));
        assert_eq!(ask(None, &["s3cret"]), Err(NoCaller::NotBearer));
        assert_eq!(ask(None, &["Bearer s3cret", "Bearer s3cret"]), Err(NoCaller::NotBearer));
    }

    #[test]
    fn a_node_is_no_caller() {
        let node = ask(Some("trine://peer/node-2"), &["Bearer s3cret"]);
        assert!(matches!(node, Err(NoCaller::Node(_))), "{node:?}");
    }
}

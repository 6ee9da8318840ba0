//! Whom a certificate speaks for: a role and a name, written as one URI.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What the holder of a certificate may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes seats.
    Application,
    /// Runs the cluster.
    Operator,
    /// Is a node of the cluster.
    Peer,
}

impl Role {
    const ALL: [Self; 3] = [Self::Application, Self::Operator, Self::Peer];

    fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Operator => "operator",
            Self::Peer => "peer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who is at the other end: shown and parsed as `trine://ROLE/NAME`.
///
/// A name is 1 to 120 of `A-Z a-z 0-9` and `-._~!$&'()*+,;=:@`: what a URI
/// path segment holds without escapes, so it has one spelling only. A peer's
/// name is always `node-N`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    role: Role,
    name: String,
}

/// A role or name that breaks the rules of [`Identity`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid identity: {rule}")]
pub struct InvalidIdentity {
    /// What was given, cut to 80 characters.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// A certificate that does not say whom it speaks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not an X.509 certificate.
    #[error("the certificate is not readable as X.509")]
    Unreadable,
    /// No identity, or more than one.
    #[error(
        "the certificate has {count} trine:// names where exactly one is needed; \
         issue it with `trine pki issue`"
    )]
    NotOneName {
        /// How many `trine://` URIs it carries.
        count: usize,
    },
    /// An identity that breaks the rules.
    #[error("the certificate's name is not usable")]
    Invalid(#[source] InvalidIdentity),
}

pub(crate) const SCHEME: &str = "trine://";

impl Identity {
    /// Longest name, in bytes: with its role before it, it is a subject of the
    /// ledger, and that has room for 128.
    pub const NAME_LENGTH_MAX: usize = 120;

    /// An identity of this role and name.
    pub fn new(role: Role, name: &str) -> Result<Self, InvalidIdentity> {
        let invalid = |rule| InvalidIdentity { value: name.chars().take(80).collect(), rule };
        if name.is_empty() || name.len() > Self::NAME_LENGTH_MAX {
            return Err(invalid("a name is 1 to 120 characters long"));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b)) {
            return Err(invalid("a name is made of letters, digits and -._~!$&'()*+,;=:@"));
        }
        if role == Role::Peer && node_number(name).is_none() {
            return Err(invalid("a peer's name is node-N, N counting from 1"));
        }
        Ok(Self { role, name: name.to_owned() })
    }

    /// The identity of node `id`, which is at least 1.
    pub fn node(id: u64) -> Result<Self, InvalidIdentity> {
        Self::new(Role::Peer, &format!("node-{id}"))
    }

    /// What it may be.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What it is called, within its role.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which node it is; `None` unless it is a peer.
    pub fn node_id(&self) -> Option<u64> {
        (self.role == Role::Peer).then(|| node_number(&self.name)).flatten()
    }
}

/// N of `node-N`; `None` for 0, signs and leading zeros, so that a node has one name.
fn node_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("node-")?;
    let number = digits.parse().ok()?;
    (number > 0 && digits == format!("{number}")).then_some(number)
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(uri: &str) -> Result<Self, InvalidIdentity> {
        let wrong = || InvalidIdentity {
            value: uri.chars().take(80).collect(),
            rule: "write it as trine://application/NAME, trine://operator/NAME or trine://peer/node-N",
        };
        let (role, name) =
            uri.strip_prefix(SCHEME).and_then(|path| path.split_once('/')).ok_or_else(wrong)?;
        let role = Role::ALL.into_iter().find(|r| r.as_str() == role).ok_or_else(wrong)?;
        Self::new(role, name)
    }
}

/// Whom this certificate speaks for: its one `trine://` URI.
///
/// Says nothing about who signed it; TLS, or [`crate::Credentials::check`], does.
pub fn identity_of(certificate: &CertificateDer<'_>) -> Result<Identity, IdentityError> {
    let (_, x509) =
        X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
    let names = x509.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .filter(|uri| uri.starts_with(SCHEME))
        .collect();
    match uris[..] {
        [uri] => uri.parse().map_err(IdentityError::Invalid),
        _ => Err(IdentityError::NotOneName { count: uris.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_it_was_written() {
        for uri in ["trine://application/cad@ws-7", "trine://operator/ana", "trine://peer/node-1"] {
            let identity: Identity = uri.parse().expect(uri);
            assert_eq!(identity.to_string(), uri);
        }
        assert_eq!(Identity::node(3).expect("3").node_id(), Some(3));
        assert_eq!(Identity::new(Role::Operator, "node-3").expect("name").node_id(), None);
    }

    #[test]
    fn a_name_has_one_spelling_only() {
        let long = format!("trine://application/{}", "x".repeat(Identity::NAME_LENGTH_MAX + 1));
        for uri in [
            "trine://application/",
            "trine://application/a/b",
            "trine://application/a%62",
            "trine://application/a b",
            "trine://application/größe",
            "trine://admin/ana",
            "trine://Operator/ana",
            "https://operator/ana",
            "trine://operator",
            "trine://peer/ana",
            "trine://peer/node-0",
            "trine://peer/node-01",
            "trine://peer/node-+1",
            "trine://peer/node-18446744073709551616",
            &long,
        ] {
            assert!(uri.parse::<Identity>().is_err(), "{uri} was taken");
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_are_nobody() {
        let der = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        assert_eq!(identity_of(&der), Err(IdentityError::Unreadable));
    }
}

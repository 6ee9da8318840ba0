//! What a ledger holds at most of everything that grows (S26).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::command::Refusal;
use crate::limits;

/// What there can be too many of (S26).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// Remembered request ids.
    Memories,
    /// Live and waiting requests.
    Leases,
    /// Installed licenses.
    Licenses,
    /// Bearer tokens.
    BearerTokens,
    /// Nodes that are gone.
    Departed,
    /// Revoked certificates.
    RevokedCertificates,
}

impl Bound {
    /// The limit.
    pub fn limit(self) -> u64 {
        match self {
            Self::Memories => limits::REQUESTS_MAX,
            Self::Leases => limits::LEASES_MAX,
            Self::Licenses => limits::LICENSES_MAX,
            Self::BearerTokens => limits::BEARER_TOKENS_MAX,
            Self::Departed => limits::DEPARTED_MAX,
            Self::RevokedCertificates => limits::REVOKED_CERTIFICATES_MAX,
        }
    }

    /// Whether there is room for one more beside `held`.
    pub(crate) fn check_room(self, held: u64) -> Result<(), Refusal> {
        let limit = self.limit();
        if held < limit { Ok(()) } else { Err(Refusal::LedgerFull { what: self, limit }) }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memories => "remembered requests",
            Self::Leases => "live and waiting requests",
            Self::Licenses => "licenses",
            Self::BearerTokens => "bearer tokens",
            Self::Departed => "nodes that are gone",
            Self::RevokedCertificates => "revoked certificates",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_taken_and_no_other() {
        for bound in [
            Bound::Memories,
            Bound::Leases,
            Bound::Licenses,
            Bound::BearerTokens,
            Bound::Departed,
            Bound::RevokedCertificates,
        ] {
            let limit = bound.limit();
            assert_eq!(bound.check_room(limit - 1), Ok(()));
            let full = Refusal::LedgerFull { what: bound, limit };
            assert_eq!(bound.check_room(limit), Err(full.clone()));
            assert!(full.to_string().contains(&format!("limit of {limit} {bound}")), "{full}");
        }
    }
}

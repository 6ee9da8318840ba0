//! The chain of trust: a vendor root certifies firms, a firm states licenses.

use serde::{Deserialize, Serialize};

use crate::key::{PublicKey, Signature};
use crate::product::FirmCode;

/// A vendor's trust root. Which roots are trusted is configuration, never a file's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorRoot {
    /// Whose it is, for people; 1 to 64 characters.
    pub name: String,
    /// The key that certifies firms.
    pub key: PublicKey,
}

/// A root's word that a firm code and a key belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmCertificate {
    /// The firm.
    pub firm: FirmCode,
    /// The vendor's name, for people.
    pub vendor: String,
    /// The key that signs licenses.
    pub key: PublicKey,
    /// SHA-256 of the root key that certifies this.
    pub issuer: [u8; 32],
    /// By the root.
    pub signature: Signature,
}

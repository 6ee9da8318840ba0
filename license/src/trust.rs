//! The chain of trust: a vendor root certifies firms, a firm states licenses.
//!
//! Which roots are trusted is configuration, logged at genesis. No file brings
//! a root that is believed: files name their root by digest only.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, FileKind};
use crate::key::{PublicKey, Signature, Statement};
use crate::product::FirmCode;

/// Longest name of a vendor, in bytes.
pub const NAME_MAX: usize = 64;

/// A vendor's trust root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorRoot {
    /// Whose it is, for people; the vendor chose it. 1 to [`NAME_MAX`] bytes, printable.
    pub name: String,
    /// The key that certifies firms.
    pub key: PublicKey,
}

/// Why a root or certificate file is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TrustRefusal {
    /// Not such a file.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// It was altered after it was made.
    #[error(
        "the {kind} does not verify: the file was altered or damaged; ask the vendor to send it again"
    )]
    SignatureWrong {
        /// Which kind of file.
        kind: FileKind,
    },
    /// Its name breaks the rules.
    #[error("the vendor's name must have 1 to {NAME_MAX} bytes of printable text")]
    NameInvalid,
}

/// What a root file holds: the root and its signature over itself, which shows
/// that the file is whole and that its maker has the key. It is not trusted for that.
#[derive(Serialize, Deserialize)]
struct RootFile {
    root: VendorRoot,
    signature: Signature,
}

impl VendorRoot {
    /// Reads a root file, strictly. Reading is not trusting.
    ///
    /// # Errors
    /// When the file is of another kind, damaged or altered.
    pub fn decode(file: &[u8]) -> Result<Self, TrustRefusal> {
        let kind = FileKind::VendorRoot;
        let RootFile { root, signature } = codec::decode(kind, file)?;
        if !root.key.verify(Statement::Root, &codec::body(&root), &signature) {
            return Err(TrustRefusal::SignatureWrong { kind });
        }
        check_name(&root.name)?;
        Ok(root)
    }

    /// The root file, with the root's signature over itself.
    pub(crate) fn encode(self, signature: Signature) -> Vec<u8> {
        codec::encode(FileKind::VendorRoot, &RootFile { root: self, signature })
    }

    /// For people to compare when they decide to trust it.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint()
    }
}

/// A root's word that a firm code and a key belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmCertificate {
    pub(crate) body: FirmBody,
    pub(crate) signature: Signature,
}

/// What the root signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FirmBody {
    pub(crate) firm: FirmCode,
    pub(crate) vendor: String,
    pub(crate) key: PublicKey,
    /// Digest of the root key.
    pub(crate) issuer: [u8; 32],
}

impl FirmCertificate {
    /// Reads a certificate file, strictly. It is not verified yet.
    ///
    /// # Errors
    /// When the file is of another kind or damaged.
    pub fn decode(file: &[u8]) -> Result<Self, TrustRefusal> {
        let certificate: Self = codec::decode(FileKind::FirmCertificate, file)?;
        check_name(&certificate.body.vendor)?;
        Ok(certificate)
    }

    /// The certificate file.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(FileKind::FirmCertificate, self)
    }

    /// The firm.
    pub fn firm(&self) -> FirmCode {
        self.body.firm
    }

    /// The vendor's name, for people.
    pub fn vendor(&self) -> &str {
        &self.body.vendor
    }

    /// The key that signs this firm's licenses.
    pub fn key(&self) -> &PublicKey {
        &self.body.key
    }

    /// SHA-256 of the root key that certifies it.
    pub fn issuer(&self) -> &[u8; 32] {
        &self.body.issuer
    }

    /// Whether this root certified it.
    pub fn verify(&self, root: &VendorRoot) -> bool {
        root.key.verify(Statement::Firm, &codec::body(&self.body), &self.signature)
    }
}

/// Checks the name that a vendor or root goes by.
pub(crate) fn check_name(name: &str) -> Result<(), TrustRefusal> {
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(TrustRefusal::NameInvalid);
    }
    Ok(())
}

//! A vendor's private key on disk: PKCS#8 in PEM, encrypted under a passphrase
//! with scrypt (N = 2^17, r = 8, p = 1: 128 MiB) and AES-256-CBC.
//!
//! The library's own default costs a guesser an eighth of that, so that plain
//! OpenSSL opens it; a key worth all licenses of a vendor deserves more.

use p256::ecdsa::SigningKey;
use pkcs8::der::pem::PemLabel;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{
    DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef,
    SecretDocument,
};
use zeroize::Zeroizing;

use crate::key::PublicKey;
use crate::rand_core::CryptoRng;

/// Shortest passphrase that a key is exported under, in bytes.
pub const PASSPHRASE_MIN: usize = 8;

/// The most memory that opening a key file may take, in bytes.
const MEMORY_MAX: u64 = 256 * 1024 * 1024;

/// Why a key file is not opened or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// Wrong passphrase, or not such a file at all.
    #[error(
        "the key file does not open: the passphrase is wrong, or it is not a P-256 private key encrypted with scrypt (PKCS#8, PEM)"
    )]
    DoesNotOpen,
    /// A key, but not the one that the public file names.
    #[error(
        "the key file opens but holds another key than {name:?} is known by; give the key file that was made with it"
    )]
    OtherKey {
        /// The root or vendor.
        name: String,
    },
    /// Too short to protect a key.
    #[error("the passphrase is too short; give at least {PASSPHRASE_MIN} bytes")]
    PassphraseTooShort,
    /// The key cannot be encrypted.
    #[error("the key could not be encrypted; check this machine's source of randomness")]
    NotWritten,
}

pub(crate) fn export<R: CryptoRng>(
    secret: &SigningKey,
    passphrase: &[u8],
    rng: &mut R,
) -> Result<Zeroizing<String>, KeyRefusal> {
    if passphrase.len() < PASSPHRASE_MIN {
        return Err(KeyRefusal::PassphraseTooShort);
    }
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    rng.fill_bytes(&mut salt);
    rng.fill_bytes(&mut iv);
    encrypt(secret, passphrase, &salt, iv).map_err(|_| KeyRefusal::NotWritten)
}

fn encrypt(
    secret: &SigningKey,
    passphrase: &[u8],
    salt: &[u8; 16],
    iv: [u8; 16],
) -> Result<Zeroizing<String>, pkcs8::Error> {
    let cost = scrypt::Params::RECOMMENDED;
    let parameters = pbes2::Parameters::generate_scrypt_aes256cbc(cost, salt, iv)?;
    let plain = secret.to_pkcs8_der()?;
    let encrypted = PrivateKeyInfoRef::try_from(plain.as_bytes())?
        .encrypt_with_params(parameters, passphrase)?;
    Ok(encrypted.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)?)
}

/// Opens a key file and checks that its key is the one known as `name`.
pub(crate) fn import(
    pem: &str,
    passphrase: &[u8],
    public: &PublicKey,
    name: &str,
) -> Result<SigningKey, KeyRefusal> {
    let secret = decrypt(pem, passphrase).ok_or(KeyRefusal::DoesNotOpen)?;
    if PublicKey::of(&secret) != *public {
        return Err(KeyRefusal::OtherKey { name: name.to_owned() });
    }
    Ok(secret)
}

fn decrypt(pem: &str, passphrase: &[u8]) -> Option<SigningKey> {
    let (label, document) = SecretDocument::from_pem(pem).ok()?;
    EncryptedPrivateKeyInfoRef::validate_pem_label(label).ok()?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).ok()?;
    let cost = encrypted.encryption_algorithm.pbes2()?.kdf.scrypt()?;
    // The file chooses these numbers, and the library trusts them.
    let block = 128 * u64::from(cost.block_size) * u64::from(cost.parallelization);
    let memory = cost.cost_parameter.checked_mul(block)?;
    let in_form = cost.cost_parameter.is_power_of_two() && cost.cost_parameter > 1 && block > 0;
    if !in_form || memory > MEMORY_MAX {
        return None;
    }
    let plain = encrypted.decrypt(passphrase).ok()?;
    SigningKey::from_pkcs8_der(plain.as_bytes()).ok()
}

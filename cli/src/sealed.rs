//! Files sealed to an operator's key: the age format, which the `age` tool reads too.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use age::secrecy::{ExposeSecret, SecretString};
use age::stream::StreamWriter;
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::files;

/// The variable that holds a backup's passphrase for scripts.
pub const PASSPHRASE: &str = "TRINE_BACKUP_PASSPHRASE";

/// scrypt with N = 2^18: 256 MiB and about a second, as the `age` tool chooses.
const WORK: u8 = 18;
/// The most that opening may cost: 1 GiB.
const WORK_MAX: u8 = 20;

/// Longest file of keys or recipients.
const KEYS_BYTES_MAX: u64 = 1 << 20;

/// What a file is sealed with.
pub enum Lock {
    /// To whoever holds one of the keys.
    Recipients(Vec<x25519::Recipient>),
    /// To whoever knows the passphrase.
    Passphrase(Zeroizing<String>),
}

/// What a file is opened with.
pub enum Key {
    /// A file of age identities.
    Identity(PathBuf),
    /// The passphrase.
    Passphrase(Zeroizing<String>),
}

/// A key pair, as its files hold it.
pub struct KeyPair {
    /// The secret: `AGE-SECRET-KEY-1…`.
    pub secret: Zeroizing<String>,
    /// What others seal to: `age1…`.
    pub recipient: String,
}

/// Draws a new key pair.
pub fn new_key() -> KeyPair {
    let identity = x25519::Identity::generate();
    KeyPair {
        secret: Zeroizing::new(identity.to_string().expose_secret().to_owned()),
        recipient: identity.to_public().to_string(),
    }
}

/// The recipients that were named: each `age1…`, or a file with one on each line.
pub fn recipients(named: &[String]) -> Result<Vec<x25519::Recipient>, Failure> {
    let mut recipients = Vec::new();
    for name in named {
        if let Ok(recipient) = x25519::Recipient::from_str(name) {
            recipients.push(recipient);
            continue;
        }
        let path = Path::new(name);
        let bytes = files::read("file of recipients", path, KEYS_BYTES_MAX)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            recipients.push(x25519::Recipient::from_str(line).map_err(|_| {
                Failure::usage(format!("{name} holds a line that is no age recipient"))
                    .next("a recipient begins with age1; `trine cluster backup-key` prints one")
            })?);
        }
    }
    Ok(recipients)
}

impl Lock {
    /// Seals what is written; [`StreamWriter::finish`] ends the file.
    pub fn seal<W: Write>(&self, output: W) -> Result<StreamWriter<W>, Failure> {
        let broken = |error: &dyn std::fmt::Display| {
            Failure::failed(format!("the backup cannot be encrypted: {error}"))
        };
        let encryptor = match self {
            Self::Recipients(recipients) => {
                let recipients = recipients.iter().map(|known| known as &dyn age::Recipient);
                Encryptor::with_recipients(recipients)
            }
            Self::Passphrase(passphrase) => {
                let mut recipient = scrypt::Recipient::new(secret(passphrase));
                recipient.set_work_factor(WORK);
                Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            }
        };
        let encryptor = encryptor.map_err(|error| broken(&error))?;
        encryptor.wrap_output(output).map_err(|error| broken(&error))
    }
}

impl Key {
    /// Opens a sealed file of at most `bytes_max`, whole.
    pub fn open(&self, path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
        let file = File::open(path).map_err(|error| Failure::reading("backup", path, &error))?;
        let wrong = |error: DecryptError| refused(path, &error);
        let decryptor = Decryptor::new_buffered(BufReader::new(file)).map_err(wrong)?;
        let identities = self.identities(decryptor.is_scrypt())?;
        let opened = decryptor
            .decrypt(identities.iter().map(|identity| &**identity as &dyn age::Identity))
            .map_err(wrong)?;
        let mut bytes = Vec::new();
        opened
            .take(bytes_max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| refused(path, &DecryptError::Io(error)))?;
        if bytes.len() as u64 > bytes_max {
            let what = format!("{} holds more than {bytes_max} bytes", path.display());
            return Err(Failure::refused("BACKUP_REFUSED", what));
        }
        Ok(bytes)
    }

    fn identities(&self, is_scrypt: bool) -> Result<Vec<Box<dyn age::Identity>>, Failure> {
        match self {
            Self::Identity(_) if is_scrypt => {
                Err(Failure::usage("the backup is sealed with a passphrase, not to a key")
                    .next(format!("give --passphrase, or set {PASSPHRASE}")))
            }
            Self::Passphrase(_) if !is_scrypt => {
                Err(Failure::usage("the backup is sealed to a key, not with a passphrase")
                    .next("give --identity FILE, the key that `trine cluster backup-key` made"))
            }
            Self::Identity(path) => {
                let bytes = Zeroizing::new(files::read("key", path, KEYS_BYTES_MAX)?);
                let no_key = || {
                    Failure::usage(format!("{} holds no age identity", path.display()))
                        .next("one begins with AGE-SECRET-KEY-1")
                };
                let text = std::str::from_utf8(&bytes).map_err(|_| no_key())?;
                let lines = text.lines().map(str::trim);
                let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
                let identities = lines
                    .map(|line| x25519::Identity::from_str(line).map_err(|_| no_key()))
                    .map(|parsed| parsed.map(|known| Box::new(known) as Box<dyn age::Identity>))
                    .collect::<Result<Vec<_>, _>>()?;
                if identities.is_empty() { Err(no_key()) } else { Ok(identities) }
            }
            Self::Passphrase(passphrase) => {
                let mut identity = scrypt::Identity::new(secret(passphrase));
                identity.set_max_work_factor(WORK_MAX);
                Ok(vec![Box::new(identity)])
            }
        }
    }
}

fn secret(text: &Zeroizing<String>) -> SecretString {
    SecretString::from(text.as_str().to_owned())
}

fn refused(path: &Path, error: &DecryptError) -> Failure {
    let name = path.display();
    let damaged = "it is cut short or was altered; take another backup";
    let why = match error {
        DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed => {
            return Failure::refused("WRONG_KEY", format!("{name} is sealed to another key"))
                .next("give the key whose recipient it was backed up to");
        }
        DecryptError::DecryptionFailed => {
            return Failure::refused("WRONG_KEY", format!("{name} does not open"))
                .next(format!("the passphrase is another, or {damaged}"));
        }
        DecryptError::InvalidMac | DecryptError::InvalidHeader => damaged,
        DecryptError::UnknownFormat => "it is no file of the age format",
        DecryptError::Io(_) => damaged,
        DecryptError::ExcessiveWork { .. } => "its passphrase costs more work than is reasonable",
    };
    Failure::refused("BACKUP_REFUSED", format!("{name} cannot be opened: {why}"))
}

//! What only the machine can tell: whether the files a configuration names are
//! there, may be read by this node alone, and hold what they should.

use std::path::Path;

use license::product::WallTime;
use license::trust::VendorRoot;
use nix::unistd::{AccessFlags, access};
use pki::{Ca, CredentialError, Credentials, Pem};

use super::{Config, ConfigError, Pair};
use crate::certificates::unix;

/// Longest file that is read: certificates, keys and trust roots are far shorter.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Shortest key file that a container is sealed to: what nobody guesses.
const KEY_FILE_BYTES_MIN: usize = 16;

/// What the files of a configuration hold. Only [`Config::check`] makes one.
#[derive(Debug, Clone)]
pub struct Checked {
    /// For the client listener.
    pub client: Credentials,
    /// For the peer listener, and for dialing the other nodes.
    pub peer: Credentials,
    /// The vendors' trust roots, in the order of the configuration.
    pub vendor_roots: Vec<VendorRoot>,
}

/// What the files of one pair hold, as bytes.
struct PairFiles<'a> {
    pair: &'a Pair,
    /// The certificate's key in the configuration.
    cert_key: String,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Config {
    /// Reads what the configuration names and checks it at wall time `now`.
    ///
    /// Creates nothing and binds nothing.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn check(&self, now: WallTime) -> Result<Checked, Vec<ConfigError>> {
        self.check_at(Some(now))
    }

    /// The same, whatever the date is: for who knows only this machine's clock,
    /// which may be wrong.
    ///
    /// # Errors
    /// Everything else that is wrong.
    pub fn check_undated(&self) -> Result<Checked, Vec<ConfigError>> {
        self.check_at(None)
    }

    fn check_at(&self, now: Option<WallTime>) -> Result<Checked, Vec<ConfigError>> {
        let mut wrong = Vec::new();
        wrong.extend(self.data_folder().err());
        let pairs = self.check_certificates(now).map_err(|more| wrong.extend(more)).ok();
        wrong.extend(self.container_chain().err());
        wrong.extend(self.container_key().err());
        let mut vendor_roots = Vec::new();
        for (at, path) in self.vendor_roots.iter().enumerate() {
            let root = self.vendor_root(&format!("trust.vendor_roots[{at}]"), path);
            vendor_roots.extend(keep(&mut wrong, root));
        }
        match pairs {
            Some((client, peer)) if wrong.is_empty() => Ok(Checked { client, peer, vendor_roots }),
            _ => Err(wrong),
        }
    }

    /// Reads the certificates alone and checks them at wall time `now`, or at
    /// a time when they were in date: the client listener's and the peer listener's.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn check_certificates(
        &self,
        now: Option<WallTime>,
    ) -> Result<(Credentials, Credentials), Vec<ConfigError>> {
        let mut wrong = Vec::new();
        let ca = keep(&mut wrong, self.read("tls.ca", &self.tls.ca));
        let mut credentials = |table, pair| {
            let pair = self.pair(table, pair).map_err(|more| wrong.extend(more)).ok();
            let (ca, files) = (ca.as_ref()?, pair?);
            keep(&mut wrong, self.credentials(ca, &files, now))
        };
        let client = credentials("tls", &self.tls.client);
        let peer = if self.tls.peer == self.tls.client {
            client.clone()
        } else {
            credentials("tls.peer", &self.tls.peer)
        };
        client.zip(peer).ok_or(wrong)
    }

    /// What is in the key file that the container is sealed to, if one is named.
    pub(crate) fn container_key(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(path) = &self.container.key_file else { return Ok(None) };
        let key = "container.key_file";
        self.kept_secret(key, path)?;
        let contents = self.read(key, path)?;
        if contents.len() < KEY_FILE_BYTES_MIN {
            let rule = "it must hold at least 16 random bytes; make one with \
                        `head -c 32 /dev/urandom > FILE`";
            return Err(self.wrong(key, shown(path), rule));
        }
        Ok(Some(contents))
    }

    /// The files of one pair of the `[tls]` tables.
    fn pair<'a>(&self, table: &str, pair: &'a Pair) -> Result<PairFiles<'a>, Vec<ConfigError>> {
        let mut wrong = Vec::new();
        let cert_key = format!("{table}.cert");
        let cert = keep(&mut wrong, self.read(&cert_key, &pair.cert));
        let key_key = format!("{table}.key");
        let key = self.kept_secret(&key_key, &pair.key);
        let key = keep(&mut wrong, key.and_then(|()| self.read(&key_key, &pair.key)));
        match cert.zip(key) {
            Some((cert, key)) => Ok(PairFiles { pair, cert_key, cert, key }),
            None => Err(wrong),
        }
    }

    /// One pair with the CA; they are this node's and in date, or were at some
    /// time if there is no `now`.
    fn credentials(
        &self,
        ca: &[u8],
        files: &PairFiles<'_>,
        now: Option<WallTime>,
    ) -> Result<Credentials, ConfigError> {
        let PairFiles { pair, cert_key, cert, key } = files;
        let names = [&self.tls.ca, &pair.cert, &pair.key].map(|path| path.display().to_string());
        let because =
            |error: CredentialError| self.wrong(cert_key, shown(&pair.cert), error.to_string());
        let credentials = Credentials::parse(
            Pem::new(&names[0], ca),
            Pem::new(&names[1], cert),
            Pem::new(&names[2], key),
        )
        .map_err(because)?;
        let at = now.map_or_else(|| credentials.first_moment(), |now| Ok(unix(now)));
        at.and_then(|at| credentials.check(at)).map_err(because)?;
        if credentials.identity().node_id() != Some(self.id.0) {
            let rule = format!(
                "the certificate is {}'s, and this is node {} (key `id`); name this node's \
                 certificate, or issue one with `trine pki issue`",
                credentials.identity(),
                self.id.0,
            );
            return Err(self.wrong(cert_key, shown(&pair.cert), rule));
        }
        Ok(credentials)
    }

    /// The cluster CA, in date or not.
    ///
    /// # Errors
    /// When the file is not there, or holds no CA.
    pub fn ca(&self) -> Result<Ca, ConfigError> {
        let ca = self.read("tls.ca", &self.tls.ca)?;
        Ca::parse_all(Pem::new(&self.tls.ca.display().to_string(), &ca))
            .map(|mut cas| cas.swap_remove(0))
            .map_err(|error| self.wrong("tls.ca", shown(&self.tls.ca), error.to_string()))
    }

    /// A node that is not enrolled runs, and is enrolled later; what is there
    /// instead of the certificates is a mistake.
    fn container_chain(&self) -> Result<(), ConfigError> {
        let path = &self.tls.container;
        if !path.exists() {
            return Ok(());
        }
        let chain = self.read("tls.container", path)?;
        let name = path.display().to_string();
        pki::container_chain(Pem::new(&name, &chain)).map(drop).map_err(|error| {
            let rule = format!("{error}; put what `trine pki enroll` wrote there");
            self.wrong("tls.container", shown(path), rule)
        })
    }

    fn vendor_root(&self, key: &str, path: &Path) -> Result<VendorRoot, ConfigError> {
        VendorRoot::decode(&self.read(key, path)?).map_err(|refusal| {
            let rule = format!("{refusal}; name the root file that the vendor published");
            self.wrong(key, shown(path), rule)
        })
    }

    /// The data directory may be written to by whoever runs this, or made.
    pub(crate) fn data_folder(&self) -> Result<(), ConfigError> {
        let Some(exists) = self.data.ancestors().find(|path| path.exists()) else { return Ok(()) };
        if !exists.is_dir() {
            let rule = "a file stands in the way of this folder; name another, or move the file";
            return Err(self.wrong("data", shown(&self.data), rule));
        }
        access(exists, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| {
            let rule = format!(
                "whoever runs this may not write to {} ({}); run it as the user that the node's \
                 service runs as (`sudo -u USER trine node …`), and give that user the folder \
                 (`chown -R USER: {}`)",
                exists.display(),
                errno.desc(),
                self.data.display()
            );
            self.wrong("data", shown(&self.data), rule)
        })
    }

    fn read(&self, key: &str, path: &Path) -> Result<Vec<u8>, ConfigError> {
        let unreadable = |error: std::io::Error| {
            let rule = format!("cannot read it ({error}); put the file there, or fix the path");
            self.wrong(key, shown(path), rule)
        };
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            let rule = "it must be a file of at most 1 MiB; fix the path";
            return Err(self.wrong(key, shown(path), rule));
        }
        std::fs::read(path).map_err(unreadable)
    }

    /// Refuses a private key that every user of the machine could read. Its
    /// group may: that is how secrets are mounted in Kubernetes.
    fn kept_secret(&self, key: &str, path: &Path) -> Result<(), ConfigError> {
        use std::os::unix::fs::PermissionsExt;
        let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
        if metadata.permissions().mode() & 0o007 != 0 {
            let rule = format!(
                "every user of this machine can get at the private key; run `chmod o= {}`",
                path.display()
            );
            return Err(self.wrong(key, shown(path), rule));
        }
        Ok(())
    }
}

fn keep<T>(wrong: &mut Vec<ConfigError>, result: Result<T, ConfigError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            wrong.push(error);
            None
        }
    }
}

fn shown(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

//! Who we are and whom we believe, read again from the files that say so
//! whenever a connection is made anew: what was renewed counts from then on.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;
use pki::{Ca, Credentials, Pem, Shown, Trust};

use crate::options::OptionsError;

/// A file and the variable that names it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) variable: &'static str,
    pub(crate) path: String,
}

impl Named {
    pub(crate) fn read(&self) -> Result<Vec<u8>, OptionsError> {
        std::fs::read(Path::new(&self.path)).map_err(|source| OptionsError::File {
            variable: self.variable,
            path: self.path.clone(),
            source,
        })
    }
}

/// The CA's file and, unless a token says who we are, the files of our pair.
#[derive(Debug)]
pub(crate) struct Files {
    ca: Named,
    pair: Option<(Named, Named)>,
    pub(crate) trust: Trust,
    pub(crate) shown: Option<Shown>,
    /// What was judged last.
    seen: Mutex<Contents>,
}

type Contents = Vec<Vec<u8>>;

impl Files {
    /// Reads them for the first time, when they must hold.
    pub(crate) fn read(ca: Named, pair: Option<(Named, Named)>) -> Result<Self, OptionsError> {
        let contents = contents(&ca, pair.as_ref())?;
        let (believed, own) = parse(&ca, pair.as_ref(), &contents)?;
        let trust = Trust::new(&believed)?;
        let shown = own.as_ref().map(Shown::new).transpose()?;
        Ok(Self { ca, pair, trust, shown, seen: Mutex::new(contents) })
    }

    /// Reads them again. Files that do not hold, as when they are half replaced,
    /// change nothing.
    pub(crate) fn refresh(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = contents(&self.ca, self.pair.as_ref()).and_then(|contents| {
            if *seen == contents {
                return Ok(());
            }
            let (cas, own) = parse(&self.ca, self.pair.as_ref(), &contents)?;
            if let (Some(shown), Some(own)) = (&self.shown, &own) {
                shown.show(own)?;
            }
            self.trust.believe(&cas)?;
            *seen = contents;
            Ok(())
        });
        if let Err(error) = taken {
            tracing::warn!(%error, "new certificate files are not used; the old ones are");
        }
    }
}

fn contents(ca: &Named, pair: Option<&(Named, Named)>) -> Result<Contents, OptionsError> {
    let pair = pair.into_iter().flat_map(|(certificate, key)| [certificate, key]);
    std::iter::once(ca).chain(pair).map(Named::read).collect()
}

fn parse(
    ca: &Named,
    pair: Option<&(Named, Named)>,
    contents: &Contents,
) -> Result<(Vec<Ca>, Option<Credentials>), OptionsError> {
    let pem = |named: &Named, at: usize| -> (String, Vec<u8>) {
        (named.path.clone(), contents.get(at).cloned().unwrap_or_default())
    };
    let (name, bytes) = pem(ca, 0);
    let authority = Pem::new(&name, &bytes);
    let own = match pair {
        Some((certificate, key)) => {
            let (certificate, key) = (pem(certificate, 1), pem(key, 2));
            let certificate = Pem::new(&certificate.0, &certificate.1);
            Some(Credentials::parse(authority, certificate, Pem::new(&key.0, &key.1))?)
        }
        None => None,
    };
    Ok((Ca::parse_all(authority)?, own))
}

/// The bearer token to show, if any.
pub(crate) struct Bearer {
    file: Option<PathBuf>,
    value: Mutex<Option<HeaderValue>>,
}

impl Bearer {
    /// Shows none.
    pub(crate) fn none() -> Self {
        Self { file: None, value: Mutex::default() }
    }

    /// Shows this one, always.
    pub(crate) fn fixed(token: &str) -> Result<Self, OptionsError> {
        Ok(Self { file: None, value: Mutex::new(Some(header(token)?)) })
    }

    /// Shows what the file holds when a connection is made.
    pub(crate) fn in_file(named: &Named) -> Result<Self, OptionsError> {
        let value = header(&String::from_utf8_lossy(&named.read()?))?;
        Ok(Self { file: Some(PathBuf::from(&named.path)), value: Mutex::new(Some(value)) })
    }

    /// The token for a new connection; the last good one while the file has none.
    pub(crate) fn refreshed(&self) -> Option<HeaderValue> {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.file {
            let read = std::fs::read(path).map_err(|error| error.to_string());
            match read.and_then(|bytes| {
                header(&String::from_utf8_lossy(&bytes)).map_err(|error| error.to_string())
            }) {
                Ok(token) => *value = Some(token),
                Err(error) => {
                    tracing::warn!(%error, "the token file is not used; the last token is");
                }
            }
        }
        value.clone()
    }
}

fn header(token: &str) -> Result<HeaderValue, OptionsError> {
    let token = token.trim();
    let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible || !(1..=4096).contains(&token.len()) {
        return Err(OptionsError::Token);
    }
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| OptionsError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

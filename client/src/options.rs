//! What a client needs to know: where the servers are, whom to trust, who we
//! are, and how patient to be.
//!
//! | variable | meaning |
//! |---|---|
//! | `TRINE_HOST`, else `CODEMETER_HOST` | servers: `host`, `host:port`, `[ipv6]:port`, or a list with commas |
//! | `TRINE_CA` | PEM file of the cluster's CA |
//! | `TRINE_CERT`, `TRINE_KEY` | PEM files of our certificate and its key |
//! | `TRINE_TOKEN_FILE` | or a file with our bearer token |
//!
//! The files are read again whenever a connection is made anew.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{BootClock, Clock};
use crate::connect::{Connector, Tls};
use crate::endpoints::{Endpoint, InvalidEndpoint};
use crate::identity::{Bearer, Files, Named};
use crate::observe::{Observer, Unobserved};
use crate::random::{Random, Seeded};

/// How long one try may go unanswered, unless set. A node answers within 1.9 s
/// whatever happens (L4), be it to say "unknown"; the rest is for the way there
/// and back, so that its word arrives.
const ANSWER_WITHIN: Duration = Duration::from_millis(2_500);

/// How a client finds the cluster and behaves.
#[derive(Clone)]
pub struct Options {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) bearer: Arc<Bearer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Option<Arc<dyn Random>>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) patience: Duration,
    pub(crate) answer_within: Duration,
    pub(crate) connect_within: Duration,
    pub(crate) holder: String,
}

/// Options that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Nobody says where the servers are.
    #[error(
        "no server is named: set TRINE_HOST to host, host:port or a list such as a:22450,b:22450"
    )]
    NoHost,
    /// The list of servers cannot be read.
    #[error("{variable}: {source}")]
    Host {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        source: InvalidEndpoint,
    },
    /// Nobody says whom to trust.
    #[error("no cluster CA is named: set TRINE_CA to the PEM file of the cluster's CA certificate")]
    NoCa,
    /// One of two that belong together.
    #[error(
        "{present} is set and {absent} is not: a certificate needs its key, so set both or neither"
    )]
    HalfPair {
        /// The one that is set.
        present: &'static str,
        /// The one that is not.
        absent: &'static str,
    },
    /// Two identities.
    #[error(
        "both TRINE_CERT and TRINE_TOKEN_FILE are set: say who you are in one way, and unset the other"
    )]
    TwoIdentities,
    /// A file that cannot be read.
    #[error("{variable}: cannot read {path}: {source}")]
    File {
        /// The variable that names it.
        variable: &'static str,
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A token that cannot be sent.
    #[error("the bearer token is not one line of 1 to 4096 visible ASCII characters")]
    Token,
    /// A certificate or key that cannot be used.
    #[error(transparent)]
    Credential(#[from] pki::CredentialError),
    /// The operating system has no randomness to give.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(std::io::Error),
    /// The client was connected outside a Tokio runtime.
    #[error(
        "a Trine client needs a Tokio runtime: connect inside #[tokio::main] or Runtime::block_on"
    )]
    NoRuntime,
}

impl Options {
    /// Dials these endpoints, in this order of preference, with this connector.
    pub fn new(endpoints: Vec<Endpoint>, connector: Arc<dyn Connector>) -> Self {
        Self {
            endpoints,
            connector,
            bearer: Arc::new(Bearer::none()),
            clock: Arc::new(BootClock),
            random: None,
            observer: Arc::new(Unobserved),
            patience: Duration::from_secs(10),
            answer_within: ANSWER_WITHIN,
            connect_within: ANSWER_WITHIN / 2,
            holder: String::new(),
        }
    }

    /// Reads the environment (see the table above).
    ///
    /// # Errors
    /// A variable is missing or does not hold.
    pub fn from_env() -> Result<Self, OptionsError> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// Reads variables from wherever `var` finds them; an empty one counts as
    /// not set. Reads the files they name.
    ///
    /// # Errors
    /// A variable is missing or does not hold.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, OptionsError> {
        let var = |name: &'static str| {
            var(name).filter(|value| !value.trim().is_empty()).map(|value| (name, value))
        };
        let (variable, hosts) =
            var("TRINE_HOST").or_else(|| var("CODEMETER_HOST")).ok_or(OptionsError::NoHost)?;
        let endpoints = Endpoint::parse_list(&hosts)
            .map_err(|source| OptionsError::Host { variable, source })?;
        let named = |(variable, path): (&'static str, String)| Named { variable, path };
        let ca = named(var("TRINE_CA").ok_or(OptionsError::NoCa)?);
        let token = var("TRINE_TOKEN_FILE").map(named);
        let pair = match (var("TRINE_CERT"), var("TRINE_KEY")) {
            (Some(_), Some(_)) if token.is_some() => return Err(OptionsError::TwoIdentities),
            (Some(certificate), Some(key)) => Some((named(certificate), named(key))),
            (None, None) => None,
            (Some((present, _)), None) => {
                return Err(OptionsError::HalfPair { present, absent: "TRINE_KEY" });
            }
            (None, Some((present, _))) => {
                return Err(OptionsError::HalfPair { present, absent: "TRINE_CERT" });
            }
        };
        let tls = Tls::from_files(Files::read(ca, pair)?)?;
        let mut options = Self::new(endpoints, Arc::new(tls));
        if let Some(token) = token {
            options.bearer = Arc::new(Bearer::in_file(&token)?);
        }
        Ok(options)
    }

    /// Shows this bearer token with every call.
    ///
    /// # Errors
    /// [`OptionsError::Token`] if it cannot be sent.
    pub fn token(mut self, token: &str) -> Result<Self, OptionsError> {
        self.bearer = Arc::new(Bearer::fixed(token)?);
        Ok(self)
    }

    /// How long to go on asking when no definite answer comes. 10 s unless set. Who
    /// has a place in the queue goes on for as long as it waits.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long one try may go unanswered before it is repeated elsewhere. 2.5 s
    /// unless set; a connection gets half of it. A node may take 1.9 s to say
    /// that it does not know: with less, that word is not waited for.
    pub fn answer_within(mut self, limit: Duration) -> Self {
        self.answer_within = limit;
        self.connect_within = limit / 2;
        self
    }

    /// What this application calls itself to operators, unless a request says
    /// otherwise. Empty unless set.
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = holder.into();
        self
    }

    /// Reads time from this clock instead of [`BootClock`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Draws request ids and jitter from here instead of the operating system.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = Some(random);
        self
    }

    /// Tells this observer of every attempt and answer.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    pub(crate) fn random_or_system(&self) -> Result<Arc<dyn Random>, OptionsError> {
        match &self.random {
            Some(random) => Ok(Arc::clone(random)),
            None => Ok(Arc::new(Seeded::from_system().map_err(OptionsError::Randomness)?)),
        }
    }
}

impl fmt::Debug for Options {
    /// Not the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("endpoints", &self.endpoints)
            .field("patience", &self.patience)
            .field("answer_within", &self.answer_within)
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(vars: &[(&str, &str)]) -> String {
        let find = |name: &str| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Options::from_vars(find).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(error_of(&[]).contains("TRINE_HOST"));
        assert!(error_of(&[("TRINE_HOST", " ")]).contains("TRINE_HOST"));
        assert!(error_of(&[("TRINE_HOST", "a")]).contains("TRINE_CA"));
        assert!(error_of(&[("CODEMETER_HOST", "a b")]).starts_with("CODEMETER_HOST"));
        let unreadable = error_of(&[("TRINE_HOST", "a"), ("TRINE_CA", "no/such/file")]);
        assert!(unreadable.contains("TRINE_CA") && unreadable.contains("no/such/file"));
    }

    #[test]
    fn a_token_never_shows_and_must_fit_one_line() {
        let options = Options::new(Vec::new(), Arc::new(Nowhere));
        let options = options.token(" secret\n").expect("one line");
        assert!(!format!("{options:?} {:?}", options.bearer.refreshed()).contains("secret"));
        assert!(options.clone().token("two words").is_err());
        assert!(options.token("").is_err());
    }

    struct Nowhere;

    impl Connector for Nowhere {
        fn connect<'a>(&'a self, _: &'a Endpoint) -> crate::connect::Connecting<'a> {
            Box::pin(async { Err(std::io::ErrorKind::NotConnected.into()) })
        }
    }
}

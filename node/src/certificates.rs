//! What this node shows of itself and whom it believes, as of now.

use std::sync::Arc;
use std::time::Duration;

use license::product::WallTime;
use pki::{Fingerprint, Shown, Trust, UnixTime};
use tokio::sync::watch;

/// The certificates of one node, which may change while it runs.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// Whom the listeners and the dialing side believe.
    pub trust: Trust,
    /// What is shown, by where: `client` or `peer`.
    pub shown: Vec<(&'static str, Shown)>,
    /// Why the files are not taken as they are now.
    pub refused: Refused,
}

/// Why changed certificate files are not taken: the node goes on with what it
/// shows, and would not start with them.
#[derive(Debug, Clone, Default)]
pub struct Refused(Arc<watch::Sender<Option<String>>>);

impl Refused {
    /// As the files were judged last.
    pub(crate) fn is_now(&self, reason: Option<String>) {
        self.0.send_replace(reason);
    }

    /// The reason, while they are not taken.
    pub(crate) fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }
}

/// One certificate in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InUse {
    /// `client`, `peer` or `ca`.
    pub which: &'static str,
    /// What names it.
    pub fingerprint: Fingerprint,
    /// When it ends.
    pub expires: WallTime,
}

impl Certificates {
    /// For a world where connections prove who they are in another way.
    pub fn none() -> Self {
        Self { trust: Trust::nobody(), shown: Vec::new(), refused: Refused::default() }
    }

    /// SHA-256 of the CA certificate that this node's own are under; `None` in a
    /// world without certificates.
    pub fn ca(&self) -> Option<[u8; 32]> {
        self.shown.last().map(|(_, shown)| shown.ca())
    }

    /// Every certificate that this node's connections stand on.
    pub fn in_use(&self) -> Vec<InUse> {
        let shown = self.shown.iter().map(|(which, shown)| InUse {
            which,
            fingerprint: shown.fingerprint(),
            expires: wall(shown.expires()),
        });
        let cas = self.trust.cas().into_iter().filter_map(|ca| {
            let expires = wall(ca.expires()?);
            Some(InUse { which: "ca", fingerprint: Fingerprint(ca.digest()), expires })
        });
        shown.chain(cas).collect()
    }
}

/// X.509's time as the wall clock's.
pub(crate) fn wall(time: UnixTime) -> WallTime {
    WallTime(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000))
}

/// The wall clock's time as X.509's.
pub(crate) fn unix(time: WallTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(time.0).unwrap_or(0)))
}

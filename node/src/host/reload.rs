//! Certificates renewed under a running node: its files are looked at every few
//! seconds, and what they hold is taken if it holds, or refused with a word to
//! the operator while the old stays in use.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use pki::{Credentials, Shown};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::certificates::{Certificates, unix};
use crate::clock::Clock;
use crate::config::Config;
use crate::telemetry::Metrics;

/// How often the files are looked at. They must be the same twice, so that
/// files half in place are not judged: a new pair is in use after twice as long.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What to look at, and what to change.
pub(super) struct Reload {
    pub(super) config: Config,
    pub(super) certificates: Certificates,
    pub(super) client: Shown,
    pub(super) peer: Shown,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    /// Told when the files are to be judged at once.
    pub(super) wished: Arc<Notify>,
}

/// Decides when changed files are to be judged: once, when they have settled.
#[derive(Debug)]
struct Settling {
    judged: [u8; 32],
    seen: [u8; 32],
}

impl Settling {
    /// Files that are in use as they are.
    fn new(files: [u8; 32]) -> Self {
        Self { judged: files, seen: files }
    }

    fn is_to_be_judged(&mut self, files: [u8; 32]) -> bool {
        let has_settled = files == self.seen;
        self.seen = files;
        let is_news = has_settled && files != self.judged;
        if is_news {
            self.judged = files;
        }
        is_news
    }
}

impl Reload {
    /// Looks for ever.
    pub(super) async fn run(self) {
        let reload = Arc::new(self);
        let mut settling = Settling::new(reload.clone().off_the_runtime(Self::digest).await);
        loop {
            let is_wished = tokio::select! {
                () = reload.wished.notified() => true,
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
            };
            let files = reload.clone().off_the_runtime(Self::digest).await;
            if is_wished {
                tracing::info!("the certificate files are read again, as asked for");
                // Whoever asks says that they are in place.
                settling = Settling::new(files);
            }
            if is_wished || settling.is_to_be_judged(files) {
                reload.clone().off_the_runtime(Self::judge).await;
            }
        }
    }

    /// Files are read where a disk that hangs holds up nobody else.
    async fn off_the_runtime<T: Send + 'static>(self: Arc<Self>, work: fn(&Self) -> T) -> T {
        let done = tokio::task::spawn_blocking(move || work(&self)).await;
        done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Changes with the files, and with whom the cluster trusts: what was
    /// refused because its CA was unknown is judged again once that is known.
    fn digest(&self) -> [u8; 32] {
        let tls = &self.config.tls;
        let mut digest = Sha256::new_with_prefix(self.certificates.trust.version().to_be_bytes());
        let pairs = [&tls.client, &tls.peer];
        for path in [&tls.ca].into_iter().chain(pairs.iter().flat_map(|p| [&p.cert, &p.key])) {
            let file = fs::read(path).unwrap_or_else(|error| error.kind().to_string().into());
            digest.update(Sha256::digest(file));
        }
        digest.finalize().into()
    }

    /// Takes the files if they hold, as a start would, and the cluster believes them.
    fn judge(&self) {
        let trust = &self.certificates.trust;
        let now = unix(self.clock.wall());
        let (client, peer) = match self.config.check_certificates(None) {
            Ok(pairs) => pairs,
            Err(wrong) => {
                return self.refuse(wrong.iter().map(ToString::to_string).collect());
            }
        };
        let believed = trust.cas();
        let wrong: Vec<String> = [&client, &peer]
            .into_iter()
            .filter_map(|pair| {
                let holds = trust.in_date(now, |at| pair.check_by(&believed, at));
                let holds = holds.map_err(|error| error.to_string());
                holds.and_then(|()| self.not_revoked(pair)).err()
            })
            .collect();
        if !wrong.is_empty() {
            return self.refuse(wrong);
        }
        self.certificates.refused.is_now(None);
        for (which, shown, pair) in [("client", &self.client, &client), ("peer", &self.peer, &peer)]
        {
            if shown.fingerprint() == pair.fingerprint() {
                continue;
            }
            match shown.show(pair) {
                Ok(()) => {
                    self.metrics.certificate_reloaded("taken");
                    let fingerprint = pair.fingerprint();
                    tracing::info!(which, %fingerprint, "a new certificate is in use");
                }
                Err(error) => self.refuse(vec![error.to_string()]),
            }
        }
    }

    fn not_revoked(&self, pair: &Credentials) -> Result<(), String> {
        let fingerprint = pair.fingerprint();
        if self.certificates.trust.is_revoked(&fingerprint) {
            return Err(format!(
                "the certificate {fingerprint} was revoked; issue another with `trine pki renew`"
            ));
        }
        Ok(())
    }

    fn refuse(&self, mut wrong: Vec<String>) {
        wrong.dedup();
        let reason = wrong.join("; ");
        self.certificates.refused.is_now(Some(reason.clone()));
        self.metrics.certificate_reloaded("refused");
        tracing::error!(
            reason,
            "the certificate files changed and are not taken; the certificate in use stays. See `trine node --check`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two files are never written in one moment.
    #[test]
    fn files_are_judged_when_they_have_settled_and_once() {
        let [old, half, new] = [[1; 32], [2; 32], [3; 32]];
        let mut settling = Settling::new(old);
        let judged: Vec<bool> = [old, half, new, new, new, old, old]
            .into_iter()
            .map(|files| settling.is_to_be_judged(files))
            .collect();
        assert_eq!(judged, [false, false, false, true, false, false, true]);
    }
}

//! Has this node's shares proved and, while it leads, every term signed.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use ledger::command::{Command, Outcome, SignTerm};
use ledger::view::{AttestationNeed, SignatureNeed};
use license::product::{LicenseId, LicenseSerial};
use tokio::time::{Instant, MissedTickBehavior};

use crate::peers::Peers;
use crate::service::Service;
use crate::shares::Shares;

/// How often needs are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long two rounds with a peer may take.
const PEER_WAIT_MAX: Duration = Duration::from_millis(500);

/// Licenses whose terms are being signed at once; fewer than the nonces a peer keeps.
const SIGNING_MAX: usize = 16;

/// A share that cannot be proved is tried again after this, then after twice as long…
const RETRY_MIN: Duration = Duration::from_millis(100);

/// …and so on, up to this.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Proves this node's shares. Runs for ever.
pub(crate) async fn prove_shares(shares: Shares, service: Service) {
    let mut refused: BTreeMap<(LicenseId, LicenseSerial), Refused> = BTreeMap::new();
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let (needs, _) = shares.needs();
        let editions: Vec<_> = needs.iter().map(|need| (need.license, need.serial)).collect();
        refused.retain(|edition, _| editions.contains(edition));
        for need in needs {
            let edition = (need.license, need.serial);
            if refused.get(&edition).is_some_and(|refused| Instant::now() < refused.again) {
                continue;
            }
            if let Err(reason) = prove(&shares, &service, need).await {
                refused.entry(edition).or_insert_with(Refused::new).count(need, reason);
            }
        }
    }
}

/// A share that could not be proved, and when to try again.
struct Refused {
    reason: String,
    pause: Duration,
    again: Instant,
}

impl Refused {
    fn new() -> Self {
        Self { reason: String::new(), pause: RETRY_MIN, again: Instant::now() }
    }

    /// Says why, once for each reason.
    fn count(&mut self, need: AttestationNeed, reason: String) {
        self.again = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(RETRY_MAX);
        if self.reason != reason {
            tracing::error!(
                license = %need.license,
                serial = need.serial.0,
                reason,
                "this node's share cannot be proved; ask the vendor for a new package"
            );
            self.reason = reason;
        }
    }
}

async fn prove(shares: &Shares, service: &Service, need: AttestationNeed) -> Result<(), String> {
    let attest = shares.prove(need)?;
    match service.submit(Command::Attest(attest)).await.map(|reply| reply.outcome) {
        Ok(Outcome::Refused(refusal)) => Err(refusal.to_string()),
        // Unanswered, the need is still there at the next look.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// While this node leads, has every license signed for its term. Runs for ever.
pub(crate) async fn sign_terms(shares: Shares, service: Service, peers: Peers) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if !service.leads() {
            continue;
        }
        let (_, needs) = shares.needs();
        // Side by side: a license whose shares are bad or gone holds up no other.
        stream::iter(needs)
            .for_each_concurrent(SIGNING_MAX, |need| have_signed(&shares, &service, &peers, need))
            .await;
    }
}

/// Asks both other nodes at once and takes the first signature: a dead one
/// costs no time.
async fn have_signed(shares: &Shares, service: &Service, peers: &Peers, need: SignatureNeed) {
    let with_each =
        peers.ids().into_iter().map(|peer| Box::pin(shares.sign_with(peers, peer, need)));
    let first = tokio::time::timeout(PEER_WAIT_MAX, future::select_ok(with_each)).await;
    let reason = match first {
        Ok(Ok((signature, _))) => {
            let SignatureNeed { license, serial, term, .. } = need;
            let sign = Command::SignTerm(SignTerm { license, serial, term, signature });
            // Unanswered, the need is still there at the next look.
            drop(service.submit_here(sign).await);
            return;
        }
        Ok(Err(reason)) => reason,
        Err(_) => "no other node answered in time".to_owned(),
    };
    tracing::debug!(license = %need.license, term = need.term, reason, "term not signed yet");
}

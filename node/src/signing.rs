//! Has this node's shares proved and, while it leads, every term signed.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use ledger::command::{Command, Outcome, SignTerm};
use ledger::view::{AttestationNeed, SignatureNeed};
use license::product::{LicenseId, LicenseSerial};
use tokio::time::{Instant, MissedTickBehavior};

use crate::cosigning::Cosigning;
use crate::peers::Peers;
use crate::service::Service;
use crate::shares::Shares;

/// How often needs are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long two rounds with a peer may take.
const PEER_WAIT_MAX: Duration = Duration::from_millis(500);

/// Licenses whose terms are being signed at once; fewer than the nonces a peer keeps.
const SIGNING_MAX: usize = 16;

/// A term that was not signed by then is the operator's concern.
const UNSIGNED_MAX: Duration = Duration::from_secs(1);

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
        let needs = shares.attestation_needs();
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

/// While this node leads, has every license signed for its term: from the moment
/// it was elected, so that the first request of the term finds the signature
/// under way. Runs for ever.
pub(crate) async fn sign_terms(shares: Shares, service: Service, peers: Peers) {
    let cosigning = Cosigning::new(shares.clone(), peers);
    let mut unsigned: BTreeMap<SignatureNeed, Unsigned> = BTreeMap::new();
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut elections = service.elections();
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = elections.next() => {}
        }
        let Some(term) = service.leading_term() else {
            unsigned.clear();
            continue;
        };
        let needs = shares.signature_needs(term);
        unsigned.retain(|need, _| needs.contains(need));
        // Side by side: a license whose shares are bad or gone holds up no other.
        let attempts = stream::iter(needs).map(|need| {
            let signed = have_signed(&cosigning, &service, need);
            async move { (need, signed.await) }
        });
        let attempts: Vec<_> = attempts.buffer_unordered(SIGNING_MAX).collect().await;
        for (need, signed) in attempts {
            if let Err(reason) = signed {
                unsigned.entry(need).or_insert_with(Unsigned::new).count(need, reason);
            }
        }
    }
}

/// A term that was not signed at the first attempt.
struct Unsigned {
    since: Instant,
    reason: String,
}

impl Unsigned {
    fn new() -> Self {
        Self { since: Instant::now(), reason: String::new() }
    }

    /// Says why, once for each reason, when it has lasted.
    fn count(&mut self, need: SignatureNeed, reason: String) {
        let SignatureNeed { license, serial, term, .. } = need;
        tracing::debug!(%license, serial = serial.0, term, reason, "term not signed yet");
        if self.since.elapsed() >= UNSIGNED_MAX && self.reason != reason {
            tracing::error!(
                %license,
                serial = serial.0,
                term,
                reason,
                "nothing of a license is granted: two shares have not signed for this term"
            );
            self.reason = reason;
        }
    }
}

async fn have_signed(
    cosigning: &Cosigning,
    service: &Service,
    need: SignatureNeed,
) -> Result<(), String> {
    let signed = tokio::time::timeout(PEER_WAIT_MAX, cosigning.sign(need)).await;
    let (signers, signature) = signed
        .map_err(|_| "the other nodes did not answer in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let SignatureNeed { license, serial, term, .. } = need;
    let sign = SignTerm { license, serial, term, signers, signature };
    match service.submit_here(Command::SignTerm(sign)).await.map(|reply| reply.outcome) {
        Ok(Outcome::Refused(refusal)) => Err(refusal.to_string()),
        // Unanswered, the need is still there at the next look.
        Ok(_) | Err(_) => Ok(()),
    }
}

//! This node's shares: opened, proved to the others, and used two at a time.
//!
//! A license serves in a term only after two shares have signed for it
//! (design.md, TMR). The leader asks one other node for a commitment, then for
//! its part of the signature; nonces live two seconds, in memory, once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger::command::{Attest, Command, Outcome, SignTerm};
use ledger::view::{AttestationNeed, SignatureNeed};
use license::container::Container;
use license::package::{License, Package};
use license::product::{ClusterId, LicenseId, LicenseSerial, NodeId};
use license::request::ContainerRequest;
use license::share::{Commitment, Nonces, Share, SignatureShare, TermSignature, aggregate_term};
use openraft::async_runtime::WatchReceiver as _;
use tokio::time::Instant;
use tonic::Status;
use wire::peer::{CommitTermReply, CommitTermRequest, SignTermReply, SignTermRequest};

use crate::entropy::{Entropy, EntropyRng};
use crate::peers::Peers;
use crate::raft::Raft;
use crate::service::Service;
use crate::store::machine::View;

/// A nonce that was not used by then is dropped.
const NONCE_LIFE: Duration = Duration::from_secs(2);

/// Nonces that may be outstanding; a peer that asks for more is refused.
const NONCES_MAX: usize = 64;

/// How often needs are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How long a peer may take for its part of a signature.
const PEER_WAIT_MAX: Duration = Duration::from_millis(500);

/// One edition of one license.
type Edition = (LicenseId, LicenseSerial);

/// The node's shares. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shares {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    container: Container,
    boot: [u8; 32],
    raft: Raft,
    view: View,
    entropy: Arc<dyn Entropy>,
    opened: Mutex<BTreeMap<Edition, Arc<Opened>>>,
    outstanding: Mutex<BTreeMap<u64, Outstanding>>,
}

struct Opened {
    license: License,
    share: Share,
}

struct Outstanding {
    edition: Edition,
    term: u64,
    nonces: Nonces,
    dropped_at: Instant,
}

/// Why this node's share cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("the cluster is not formed")]
    NotFormed,
    #[error("no such license is installed")]
    NotInstalled,
    #[error("the package does not hold: {0}")]
    Package(#[from] license::package::PackageRefusal),
    #[error("the share does not open: {0}")]
    Share(#[from] license::share::ShareRefusal),
    #[error("the share does not sign: {0}")]
    Sign(#[from] license::share::SignRefusal),
}

impl Shares {
    pub(crate) fn new(
        node: NodeId,
        container: Container,
        boot: [u8; 32],
        raft: Raft,
        view: View,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let inner = Inner {
            node,
            container,
            boot,
            raft,
            view,
            entropy,
            opened: Mutex::default(),
            outstanding: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// This node's container request, for genesis and for the vendor.
    ///
    /// Refused, with the reason, for a cluster that is not this node's.
    pub(crate) fn container_request(&self, cluster: ClusterId) -> Result<ContainerRequest, String> {
        let inner = &self.inner;
        let ours = inner.view.look(|ledger| ledger.genesis().map(|genesis| genesis.cluster));
        if let Some(ours) = ours.filter(|ours| *ours != cluster) {
            return Err(format!("{} belongs to cluster {ours}, not {cluster}", inner.node));
        }
        ContainerRequest::make(&inner.container, cluster, inner.node, inner.boot, Vec::new())
            .map_err(|refusal| refusal.to_string())
    }

    pub(crate) fn container(&self) -> &Container {
        &self.inner.container
    }

    /// Proves this node's shares and, while it leads, has each term signed. Runs for ever.
    pub(crate) async fn run(self, service: Service, peers: Peers) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut complained = BTreeMap::new();
        loop {
            looks.tick().await;
            let (attestations, signatures) = self.inner.view.look(|ledger| {
                (ledger.attestation_needs(self.inner.node), ledger.signature_needs())
            });
            for need in attestations {
                if let Err(reason) = self.attest(&service, need).await {
                    complain(&mut complained, (need.license, need.serial), &reason);
                }
            }
            if !self.leads() {
                continue;
            }
            for need in signatures {
                if let Err(reason) = self.have_signed(&service, &peers, need).await {
                    tracing::debug!(license = %need.license, term = need.term, reason, "term not signed yet");
                }
            }
        }
    }

    fn leads(&self) -> bool {
        let metrics = self.inner.raft.server_metrics();
        metrics.borrow_watched().current_leader == Some(self.inner.node.0)
    }

    async fn attest(&self, service: &Service, need: AttestationNeed) -> Result<(), String> {
        let proof = self
            .opened((need.license, need.serial))
            .and_then(|opened| Ok(opened.share.prove(self.inner.node, &mut self.rng())?))
            .map_err(|unusable| unusable.to_string())?;
        let attest =
            Attest { license: need.license, serial: need.serial, node: self.inner.node, proof };
        match service.submit(Command::Attest(attest), Duration::ZERO).await {
            Ok(reply) => match reply.outcome {
                Outcome::Refused(refusal) => Err(refusal.to_string()),
                _ => Ok(()),
            },
            // Looked for again in a moment.
            Err(_) => Ok(()),
        }
    }

    /// Two rounds with one other node, whichever answers first in order.
    async fn have_signed(
        &self,
        service: &Service,
        peers: &Peers,
        need: SignatureNeed,
    ) -> Result<(), String> {
        let mut reasons = Vec::new();
        for peer in peers.ids() {
            let signing = self.sign_with(peers, peer, need);
            match tokio::time::timeout(PEER_WAIT_MAX, signing).await {
                Ok(Ok(signature)) => {
                    let command = Command::SignTerm(SignTerm {
                        license: need.license,
                        serial: need.serial,
                        term: need.term,
                        signature,
                    });
                    // Unanswered, the need is still there at the next look.
                    let _ = service.submit_here(command).await;
                    return Ok(());
                }
                Ok(Err(reason)) => reasons.push(format!("node-{peer}: {reason}")),
                Err(_) => reasons.push(format!("node-{peer}: no answer in time")),
            }
        }
        Err(reasons.join("; "))
    }

    async fn sign_with(
        &self,
        peers: &Peers,
        peer: u64,
        need: SignatureNeed,
    ) -> Result<TermSignature, String> {
        let ours = self.opened((need.license, need.serial)).map_err(|e| e.to_string())?;
        let mut client = peers.calls(peer).ok_or("not in this node's config")?;
        let request = CommitTermRequest {
            license: need.license.to_string(),
            serial: need.serial.0,
            term: need.term,
        };
        let committed =
            client.commit_term(request).await.map_err(|s| s.message().to_owned())?.into_inner();
        let theirs: Commitment = decode(&committed.commitment)?;

        let (nonces, commitment) = ours.share.commit(&mut self.rng()).map_err(|e| e.to_string())?;
        let commitments = [commitment, theirs];
        let request = SignTermRequest {
            license: need.license.to_string(),
            serial: need.serial.0,
            term: need.term,
            nonce: committed.nonce,
            commitments: encode(&commitments.as_slice())?,
        };
        let signed =
            client.sign_term(request).await.map_err(|s| s.message().to_owned())?.into_inner();
        let their_part: SignatureShare = decode(&signed.signature_share)?;
        let our_part =
            ours.share.sign_term(need.term, nonces, &commitments).map_err(|e| e.to_string())?;
        aggregate_term(&ours.license, need.term, &commitments, &[our_part, their_part])
            .map_err(|e| e.to_string())
    }

    /// First round, asked by the leader: a fresh commitment.
    pub(crate) fn commit(&self, request: &CommitTermRequest) -> Result<CommitTermReply, Status> {
        let edition = edition(&request.license, request.serial)?;
        self.require_term(request.term)?;
        self.require_in_service(edition)?;
        let opened = self.opened(edition).map_err(refuse)?;
        let (nonces, commitment) =
            opened.share.commit(&mut self.rng()).map_err(|e| refuse(e.into()))?;

        let now = Instant::now();
        let mut outstanding = self.outstanding();
        outstanding.retain(|_, kept| kept.dropped_at > now);
        if outstanding.len() >= NONCES_MAX {
            return Err(Status::resource_exhausted("too many signatures under way"));
        }
        let nonce = self.fresh_id();
        let kept =
            Outstanding { edition, term: request.term, nonces, dropped_at: now + NONCE_LIFE };
        outstanding.insert(nonce, kept);
        Ok(CommitTermReply { nonce, commitment: encode(&commitment).map_err(Status::internal)? })
    }

    /// Second round: this node's part, for the very term it committed to.
    pub(crate) fn sign(&self, request: &SignTermRequest) -> Result<SignTermReply, Status> {
        let edition = edition(&request.license, request.serial)?;
        self.require_term(request.term)?;
        self.require_in_service(edition)?;
        // Taken out before anything else: a nonce serves once, whatever comes of it.
        let kept = self.outstanding().remove(&request.nonce);
        let kept = kept
            .filter(|kept| {
                kept.edition == edition
                    && kept.term == request.term
                    && kept.dropped_at > Instant::now()
            })
            .ok_or_else(|| Status::not_found("no such nonce, or it was dropped after 2 s"))?;
        let commitments: Vec<Commitment> =
            decode(&request.commitments).map_err(Status::invalid_argument)?;
        let opened = self.opened(edition).map_err(refuse)?;
        let part = opened
            .share
            .sign_term(request.term, kept.nonces, &commitments)
            .map_err(|e| refuse(e.into()))?;
        Ok(SignTermReply { signature_share: encode(&part).map_err(Status::internal)? })
    }

    /// A share signs only for the term its own node is in.
    fn require_term(&self, term: u64) -> Result<(), Status> {
        let current = self.inner.raft.metrics().borrow_watched().current_term;
        if current == term {
            return Ok(());
        }
        Err(Status::failed_precondition(format!("this node is in term {current}, not {term}")))
    }

    /// A withdrawn share signs nothing, whoever asks.
    fn require_in_service(&self, (license, _): Edition) -> Result<(), Status> {
        use ledger::command::ShareState;
        let node = self.inner.node;
        let is_withdrawn = self.inner.view.look(|ledger| {
            ledger
                .licenses()
                .iter()
                .filter(|view| view.terms.license == license)
                .flat_map(|view| view.shares.iter())
                .any(|share| share.node == node && share.state == ShareState::Withdrawn)
        });
        if is_withdrawn {
            return Err(Status::failed_precondition("this node's share is withdrawn"));
        }
        Ok(())
    }

    /// The share of one edition: verified against the logged vendor roots and opened, once.
    fn opened(&self, edition: Edition) -> Result<Arc<Opened>, Unusable> {
        if let Some(opened) = self.opened_shares().get(&edition) {
            return Ok(opened.clone());
        }
        let (genesis, packages) = self.inner.view.look(|ledger| {
            let packages: Vec<Vec<u8>> =
                ledger.packages(edition.0).into_iter().map(<[u8]>::to_vec).collect();
            (ledger.genesis().cloned(), packages)
        });
        let genesis = genesis.ok_or(Unusable::NotFormed)?;
        let members: Vec<_> =
            genesis.members.iter().map(|member| member.container.clone()).collect();
        for package in packages {
            let license = Package::decode(&package)?.verify(
                &genesis.vendor_roots,
                &genesis.cluster,
                &members,
            )?;
            if license.terms().serial != edition.1 {
                continue;
            }
            let share = Share::open(&license, &self.inner.container)?;
            let opened = Arc::new(Opened { license, share });
            let mut shares = self.opened_shares();
            // Editions before the one in force are of no more use.
            shares.retain(|(license, serial), _| {
                *license != edition.0 || serial.0 + 1 >= edition.1.0
            });
            shares.insert(edition, opened.clone());
            return Ok(opened);
        }
        Err(Unusable::NotInstalled)
    }

    fn rng(&self) -> EntropyRng {
        EntropyRng(self.inner.entropy.clone())
    }

    fn fresh_id(&self) -> u64 {
        let mut bytes = [0; 8];
        self.inner.entropy.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn opened_shares(&self) -> MutexGuard<'_, BTreeMap<Edition, Arc<Opened>>> {
        self.inner.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outstanding(&self) -> MutexGuard<'_, BTreeMap<u64, Outstanding>> {
        self.inner.outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn edition(license: &str, serial: u64) -> Result<Edition, Status> {
    let license =
        LicenseId::parse(license).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok((license, LicenseSerial(serial)))
}

fn refuse(unusable: Unusable) -> Status {
    Status::failed_precondition(unusable.to_string())
}

/// Says once, not every look, why a share cannot be proved.
fn complain(complained: &mut BTreeMap<Edition, String>, edition: Edition, reason: &str) {
    if complained.insert(edition, reason.to_owned()).as_deref() != Some(reason) {
        tracing::error!(
            license = %edition.0,
            serial = edition.1.0,
            reason,
            "this node's share cannot be proved; ask the vendor for a new package"
        );
    }
}

fn encode(value: &impl serde::Serialize) -> Result<Vec<u8>, String> {
    postcard::to_allocvec(value).map_err(|error| error.to_string())
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| error.to_string())
}

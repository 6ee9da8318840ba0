//! This node's shares: opened, proved to the others, and used two at a time.
//!
//! A license serves in a term only after two shares have signed for it. The
//! leader (`cosigning.rs`) asks for a commitment, then for the part of the
//! signature; nonces live two seconds, in memory, once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ledger::Ledger;
use ledger::command::Attest;
use ledger::view::{AttestationNeed, PackageView, RepairNeed, SignatureNeed};
use license::container::{Container, ContainerSerial};
use license::package::{License, Package};
use license::product::{ClusterId, Epoch, LicenseId, LicenseSerial, NodeId};
use license::repair::{self, Contribution, Half, RepairedShare};
use license::request::ContainerRequest;
use license::share::{Commitment, Nonces, Share, ShareProof, ShareRefusal};
use openraft::async_runtime::WatchReceiver as _;
use tonic::Status;
use wire::peer::{CommitTermReply, CommitTermRequest, SignTermReply, SignTermRequest};

use crate::enrollment::Enrolled;
use crate::entropy::{Entropy, EntropyRng};
use crate::outstanding::Outstanding;
use crate::raft::Raft;
use crate::store::machine::View;

/// One edition of one license.
pub(crate) type Edition = (LicenseId, LicenseSerial);

/// The node's shares. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shares {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    container: Container,
    enrolled: Arc<dyn Enrolled>,
    boot: [u8; 32],
    raft: Raft,
    view: View,
    entropy: Arc<dyn Entropy>,
    opened: Mutex<BTreeMap<Edition, Arc<Opened>>>,
    outstanding: Mutex<Outstanding<u64, Committed>>,
}

/// One edition that was verified, and this node's share of it.
pub(crate) struct Opened {
    pub(crate) license: License,
    /// Or why it has none that can be used. That stays so: the license says it.
    share: Result<Share, ShareRefusal>,
    /// How many shares had been made again then: another is another license.
    repairs: usize,
}

impl Opened {
    pub(crate) fn share(&self) -> Result<&Share, ShareRefusal> {
        self.share.as_ref().map_err(Clone::clone)
    }
}

/// The nonces of one commitment, and what they may sign.
struct Committed {
    edition: Edition,
    term: u64,
    nonces: Nonces,
}

/// Why this node's share cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("the cluster is not formed")]
    NotFormed,
    #[error("no such license is installed")]
    NotInstalled,
    #[error("the package does not hold: {0}")]
    Package(#[from] license::package::PackageRefusal),
    #[error("a share that was made again has no place in it")]
    Repaired,
    #[error("the share does not open: {0}")]
    Share(#[from] ShareRefusal),
    #[error("the share does not sign: {0}")]
    Sign(#[from] license::share::SignRefusal),
}

impl Shares {
    pub(crate) fn new(
        node: NodeId,
        container: Container,
        enrolled: Arc<dyn Enrolled>,
        boot: [u8; 32],
        raft: Raft,
        view: View,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let inner = Inner {
            node,
            container,
            enrolled,
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
        let ours = inner.view.look(|ledger| ledger.charter().map(|charter| charter.cluster));
        if let Some(ours) = ours.filter(|ours| *ours != cluster) {
            return Err(format!("{} belongs to cluster {ours}, not {cluster}", inner.node));
        }
        let chain = inner.enrolled.chain()?;
        ContainerRequest::make(&inner.container, cluster, inner.node, inner.boot, chain)
            .map_err(|refusal| refusal.to_string())
    }

    pub(crate) fn container(&self) -> &Container {
        &self.inner.container
    }

    /// Which shares this node has not proved.
    pub(crate) fn attestation_needs(&self) -> Vec<AttestationNeed> {
        self.inner.view.look(|ledger| ledger.attestation_needs(self.inner.node))
    }

    /// Which editions' signatures of `term` are missing.
    pub(crate) fn signature_needs(&self, term: u64) -> Vec<SignatureNeed> {
        self.inner.view.look(|ledger| ledger.signature_needs(term))
    }

    /// The proof, for the log, that this node holds its share of an edition.
    pub(crate) fn prove(&self, need: AttestationNeed) -> Result<Attest, String> {
        let AttestationNeed { license, serial, epoch } = need;
        let node = self.inner.node;
        let opened = self.opened((license, serial)).map_err(|unusable| unusable.to_string())?;
        let share = opened.share().map_err(|refusal| Unusable::from(refusal).to_string())?;
        let proof = share.prove(epoch, node, &mut self.rng()).map_err(|e| e.to_string())?;
        Ok(Attest { license, serial, node, proof })
    }

    /// The members whose share of an edition may sign, as this node knows, and
    /// the containers that they are in.
    pub(crate) fn signers(&self, (license, serial): Edition) -> Vec<(NodeId, ContainerSerial)> {
        self.inner.view.look(|ledger| ledger.signers(license, serial))
    }

    pub(crate) fn node(&self) -> NodeId {
        self.inner.node
    }

    /// First round, asked by the leader: a fresh commitment.
    pub(crate) fn commit(&self, request: &CommitTermRequest) -> Result<CommitTermReply, Status> {
        let edition = edition(&request.license, request.serial)?;
        self.require_term(request.term)?;
        self.require_in_service(edition)?;
        let opened = self.opened(edition).map_err(refuse)?;
        let share = opened.share().map_err(|e| refuse(e.into()))?;
        let (nonces, commitment) = share.commit(&mut self.rng()).map_err(|e| refuse(e.into()))?;

        let committed = Committed { edition, term: request.term, nonces };
        let nonce = self.fresh_id();
        if !self.outstanding().keep(nonce, committed) {
            return Err(Status::resource_exhausted("too many signatures under way"));
        }
        Ok(CommitTermReply { nonce, commitment: encode(&commitment).map_err(Status::internal)? })
    }

    /// Second round: this node's part, for the very term it committed to.
    pub(crate) fn sign(&self, request: &SignTermRequest) -> Result<SignTermReply, Status> {
        let edition = edition(&request.license, request.serial)?;
        self.require_term(request.term)?;
        self.require_in_service(edition)?;
        // Taken out before anything else: a nonce serves once, whatever comes of it.
        let kept = self.outstanding().take(request.nonce);
        let kept = kept
            .filter(|kept| kept.edition == edition && kept.term == request.term)
            .ok_or_else(|| Status::not_found("no such nonce, or it was dropped after 2 s"))?;
        let commitments: Vec<Commitment> =
            decode(&request.commitments).map_err(Status::invalid_argument)?;
        let opened = self.opened(edition).map_err(refuse)?;
        let share = opened.share().map_err(|e| refuse(e.into()))?;
        let part = share
            .sign_term(self.epoch(), request.term, kept.nonces, &commitments)
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

    /// A withdrawn share signs nothing, whoever asks; its successor may.
    fn require_in_service(&self, (license, serial): Edition) -> Result<(), Status> {
        let node = self.inner.node;
        if self.inner.view.look(|ledger| ledger.is_withdrawn(license, serial, node)) {
            return Err(Status::failed_precondition("this node's share is withdrawn"));
        }
        Ok(())
    }

    /// One edition, verified against the logged vendor roots, and its share opened: once.
    pub(crate) fn opened(&self, edition: Edition) -> Result<Arc<Opened>, Unusable> {
        let repairs = self.inner.view.look(|ledger| ledger.repairs_made(edition.0, edition.1));
        let opened = self.opened_shares().get(&edition).cloned();
        if let Some(opened) = opened.filter(|opened| opened.repairs == repairs) {
            return Ok(opened);
        }
        let (license, repairs) = self.license(edition)?;
        let share = Share::open(&license, &self.inner.container);
        let opened = Arc::new(Opened { license, share, repairs });
        let mut shares = self.opened_shares();
        // Editions before the one in force are of no more use.
        shares.retain(|(license, serial), _| *license != edition.0 || serial.0 + 1 >= edition.1.0);
        shares.insert(edition, opened.clone());
        Ok(opened)
    }

    /// One edition of a license, verified against the logged vendor roots, with
    /// the shares that were made again in their places.
    ///
    /// Its shares may be for containers of nodes that are gone: the ledger
    /// checked the members of the time when it was installed. Other editions
    /// are no concern of this one: after a restore into new containers the one
    /// in force holds for nobody, and its update must not wait for it.
    fn license(&self, (id, serial): Edition) -> Result<(License, usize), Unusable> {
        let (charter, editions) = self.inner.view.look(|ledger| {
            let copy =
                |edition: PackageView<'_>| (edition.package.to_vec(), edition.repaired.to_vec());
            let editions: Vec<_> = ledger.packages(id).into_iter().map(copy).collect();
            (ledger.charter().cloned(), editions)
        });
        let charter = charter.ok_or(Unusable::NotFormed)?;
        let containers: Vec<_> = charter.containers_ever().cloned().collect();
        for (package, repaired) in editions {
            let package = Package::decode(&package)?;
            if package.claimed_terms().serial != serial {
                continue;
            }
            let license = package.verify(&charter.vendor_roots, &charter.cluster, &containers)?;
            let reseated = repaired.iter().try_fold(license, |license, repaired| {
                license.reseat(repaired).map(|(license, _)| license)
            });
            return Ok((reseated.ok_or(Unusable::Repaired)?, repaired.len()));
        }
        Err(Unusable::NotInstalled)
    }

    pub(crate) fn rng(&self) -> EntropyRng {
        EntropyRng(self.inner.entropy.clone())
    }

    /// What an operator ordered to be made again for `node`, as this node knows.
    pub(crate) fn repair_needs(&self, node: NodeId) -> Vec<RepairNeed> {
        self.inner.view.look(|ledger| ledger.repair_needs(node))
    }

    /// The container of a member.
    pub(crate) fn container_of(&self, node: NodeId) -> Option<ContainerSerial> {
        self.inner.view.look(|ledger| Some(ledger.charter()?.member(node)?.container.serial()))
    }

    /// The two halves of what this node's share contributes to the lost one:
    /// its own, and that of the other helper.
    pub(crate) fn halve(
        &self,
        need: &RepairNeed,
        partner: ContainerSerial,
    ) -> Result<(Half, Half), Status> {
        let edition = (need.license, need.serial);
        self.require_in_service(edition)?;
        let opened = self.opened(edition).map_err(refuse)?;
        let share = opened.share().map_err(|e| refuse(e.into()))?;
        let halves = share.halve(&opened.license, partner, need.lost, &mut self.rng());
        halves.map_err(|error| Status::failed_precondition(error.to_string()))
    }

    /// The share that two contributions make, and the proof that this node has it.
    pub(crate) fn restore(
        &self,
        need: &RepairNeed,
        contributions: &[Contribution; 2],
    ) -> Result<(RepairedShare, ShareProof), String> {
        let inner = &self.inner;
        let license = self.license((need.license, need.serial));
        let (license, _) = license.map_err(|unusable| unusable.to_string())?;
        let rng = &mut self.rng();
        let (license, repaired) =
            repair::restore(&license, need.lost, contributions, &inner.container, rng)
                .map_err(|error| error.to_string())?;
        let share = Share::open(&license, &inner.container).map_err(|error| error.to_string())?;
        let proof =
            share.prove(self.epoch(), inner.node, rng).map_err(|error| error.to_string())?;
        Ok((repaired, proof))
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.inner.view.look(Ledger::epoch))
    }

    /// A name that is nobody else's.
    pub(crate) fn fresh_session(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.inner.entropy.fill(&mut bytes);
        bytes
    }

    fn fresh_id(&self) -> u64 {
        let mut bytes = [0; 8];
        self.inner.entropy.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn opened_shares(&self) -> MutexGuard<'_, BTreeMap<Edition, Arc<Opened>>> {
        self.inner.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outstanding(&self) -> MutexGuard<'_, Outstanding<u64, Committed>> {
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

pub(crate) fn encode(value: &impl serde::Serialize) -> Result<Vec<u8>, String> {
    postcard::to_allocvec(value).map_err(|error| error.to_string())
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| error.to_string())
}

//! The ledger: who holds which seat, as a pure function of the commands so far.

use license::product::{LicenseId, NodeId, ProductName, WallTime};

use crate::codec::CodecError;
use crate::command::{Batch, Genesis};
use crate::event::Applied;
use crate::name::Subject;
use crate::time::ClusterTime;
use crate::view::{
    AttestationNeed, Disagreement, LicenseView, MemberView, PoolView, SeatView, SignatureNeed,
};

/// Who holds what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {}

#[expect(unused_variables, reason = "signatures first; the bodies follow in the next commits")]
impl Ledger {
    /// An empty ledger, before genesis.
    pub fn new() -> Self {
        Self::default()
    }
    /// Applies one committed batch. Total and deterministic.
    pub fn apply(&mut self, index: u64, entry_term: u64, batch: &Batch) -> Applied {
        Applied { replies: Vec::new(), events: Vec::new() }
    }
    /// The hash of the whole ledger (S18).
    pub fn hash(&self) -> [u8; 32] {
        [0; 32]
    }
    /// The latest checkpoint, (log index, hash), for this node's heartbeat.
    pub fn checkpoint(&self) -> Option<(u64, [u8; 32])> {
        None
    }
    /// Deterministic bytes of the whole ledger.
    pub fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }
    /// Reads a snapshot, strictly.
    pub fn restore(bytes: &[u8]) -> Result<Self, CodecError> {
        Ok(Self {})
    }
    /// Cluster time.
    pub fn clock(&self) -> ClusterTime {
        ClusterTime(0)
    }
    /// The wall floor, `None` before anything set it.
    pub fn wall(&self) -> Option<WallTime> {
        None
    }
    /// The term of the last batch.
    pub fn term(&self) -> u64 {
        0
    }
    /// The index of the last batch that had an effect.
    pub fn applied(&self) -> u64 {
        0
    }
    /// How the cluster was formed.
    pub fn genesis(&self) -> Option<&Genesis> {
        None
    }
    /// The earliest time at which something is due.
    pub fn next_deadline(&self) -> Option<ClusterTime> {
        None
    }
    /// Whether something is due already: the next entry has work left over.
    pub fn overdue(&self) -> bool {
        false
    }
    /// The members.
    pub fn members(&self) -> Vec<MemberView> {
        Vec::new()
    }
    /// Whom a bearer token stands for, unless it has expired.
    pub fn find_token(&self, digest: &[u8; 32]) -> Option<Subject> {
        None
    }
    /// The live seats of one product, or of all, by token.
    pub fn seats(&self, product: Option<&ProductName>) -> Vec<SeatView> {
        Vec::new()
    }
    /// All pools, by product.
    pub fn pools(&self) -> Vec<PoolView> {
        Vec::new()
    }
    /// All licenses.
    pub fn licenses(&self) -> Vec<LicenseView> {
        Vec::new()
    }
    /// The package of a license: the update that is on its way if there is one.
    pub fn packages(&self, license: LicenseId) -> Vec<&[u8]> {
        Vec::new()
    }
    /// Which editions need a signature of the current term.
    pub fn signature_needs(&self) -> Vec<SignatureNeed> {
        Vec::new()
    }
    /// Which editions this node has not attested.
    pub fn attestation_needs(&self, node: NodeId) -> Vec<AttestationNeed> {
        Vec::new()
    }
    /// Nodes whose reported hash differs from this ledger's (S18).
    pub fn disagreements(&self) -> Vec<Disagreement> {
        Vec::new()
    }
}

//! The leader's part in the signature of a term: it asks two shares, and joins
//! what they make.
//!
//! Its own share is one of the two if it has one that may sign. If it has none,
//! the other two nodes' shares sign together and the leader carries their
//! messages: joining takes the license alone. So a node whose share is lost,
//! spoiled or withdrawn leads as well as any.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::future::{select_ok, try_join};
use ledger::view::SignatureNeed;
use license::container::ContainerSerial;
use license::package::License;
use license::product::{LicenseId, NodeId};
use license::share::{
    Commitment, Nonces, Share, SignRefusal, SignatureShare, TermSignature, aggregate_term,
};
use wire::peer::{CommitTermRequest, SignTermRequest};

use crate::peers::Peers;
use crate::shares::{Opened, Shares, decode, encode};

/// Has terms signed, on the leader.
pub(crate) struct Cosigning {
    shares: Shares,
    peers: Peers,
    /// Who was asked for a commitment and has not given one; 0 for nobody.
    owing: AtomicU64,
    /// What was said of a node that signs a license wrongly.
    said: Mutex<BTreeMap<(LicenseId, NodeId), String>>,
}

/// Why a term was not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSigned {
    #[error("this node cannot read the license: {0}")]
    License(String),
    #[error("{} and two are needed", Ready(.0))]
    TooFew(Vec<NodeId>),
    /// It is not there, or does not want to.
    #[error("{node} does not sign: {why}")]
    Declined { node: NodeId, why: String },
    /// It signs, and wrongly.
    #[error("{node} signs wrongly: {why}")]
    Wrong { node: NodeId, why: String },
    #[error(transparent)]
    Refused(SignRefusal),
}

/// The two whose shares signed, and what they made.
pub(crate) type Signed = ([NodeId; 2], TermSignature);

/// Whose shares are proved and in service.
struct Ready<'a>(&'a [NodeId]);

impl fmt::Display for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => write!(f, "no share is proved and in service,"),
            [node, ..] => write!(f, "only the share of {node} is proved and in service,"),
        }
    }
}

/// Another node whose share may sign.
#[derive(Debug, Clone, Copy)]
struct Other {
    node: NodeId,
    container: ContainerSerial,
}

/// What another node committed to, and its name for the nonces.
struct Committed {
    nonce: u64,
    commitment: Commitment,
}

impl Cosigning {
    pub(crate) fn new(shares: Shares, peers: Peers) -> Self {
        Self { shares, peers, owing: AtomicU64::new(0), said: Mutex::default() }
    }

    /// Two shares' signature of a term, and whose they are.
    pub(crate) async fn sign(&self, need: SignatureNeed) -> Result<Signed, NotSigned> {
        let edition = (need.license, need.serial);
        let opened = self.shares.opened(edition);
        let opened = opened.map_err(|unusable| NotSigned::License(unusable.to_string()))?;
        let round = &Round { at: self, need, opened: &opened };

        let signers = self.shares.signers(edition);
        let is_own = |(node, _): &(NodeId, ContainerSerial)| *node == self.shares.node();
        let others = signers.iter().filter(|signer| !is_own(signer));
        let others: Vec<_> =
            others.map(|(node, container)| Other { node: *node, container: *container }).collect();
        let own = opened.share().ok().filter(|_| signers.iter().any(is_own));
        match (own, &others[..]) {
            // Both at once, and the first signature: a dead one costs no time.
            (Some(own), [_, ..]) => {
                let with_each = others.iter().map(|other| {
                    Box::pin(async {
                        let signature = round.with(own, *other).await?;
                        Ok(([self.shares.node(), other.node], signature))
                    })
                });
                select_ok(with_each).await.map(|(signed, _)| signed)
            }
            (None, [one, other]) => {
                let signature = round.between(*one, *other).await?;
                Ok(([one.node, other.node], signature))
            }
            _ => Err(NotSigned::TooFew(signers.iter().map(|(node, _)| *node).collect())),
        }
    }
}

/// One attempt at one signature.
struct Round<'a> {
    at: &'a Cosigning,
    need: SignatureNeed,
    opened: &'a Opened,
}

impl Round<'_> {
    /// By this node's share and another.
    async fn with(&self, own: &Share, other: Other) -> Result<TermSignature, NotSigned> {
        let theirs = self.commitment(other).await?;
        let (nonces, ours) = own.commit(&mut self.at.shares.rng()).map_err(NotSigned::Refused)?;
        let commitments = [ours, theirs.commitment];
        let their_part = self.part(other, theirs.nonce, &commitments).await?;
        let our_part = self.own_part(own, nonces, &commitments)?;
        self.join(&[other], &commitments, &[our_part, their_part])
    }

    /// By two other nodes' shares.
    ///
    /// Commitments are asked for one after the other, first of whoever owes one
    /// from the last time: else each attempt while that node is away would leave
    /// a nonce lying at the other, which keeps only so many.
    async fn between(&self, one: Other, other: Other) -> Result<TermSignature, NotSigned> {
        let owes = |other: &Other| self.at.owing.load(Ordering::Relaxed) == other.node.0;
        let [one, other] = if owes(&other) { [other, one] } else { [one, other] };
        let first = self.commitment(one).await?;
        let second = self.commitment(other).await?;
        let commitments = [first.commitment, second.commitment];
        let (one_part, other_part) = try_join(
            self.part(one, first.nonce, &commitments),
            self.part(other, second.nonce, &commitments),
        )
        .await?;
        self.join(&[one, other], &commitments, &[one_part, other_part])
    }

    async fn commitment(&self, of: Other) -> Result<Committed, NotSigned> {
        let declined = |why: String| NotSigned::Declined { node: of.node, why };
        let unknown = || declined("it is not reached from here".to_owned());
        let mut client = self.at.peers.calls(of.node.0).ok_or_else(unknown)?;
        let request = CommitTermRequest {
            license: self.need.license.to_string(),
            serial: self.need.serial.0,
            term: self.need.term,
        };
        let owing = &self.at.owing;
        owing.store(of.node.0, Ordering::Relaxed);
        let answer = client.commit_term(request).await;
        let answer = answer.map_err(|status| declined(status.message().to_owned()))?.into_inner();
        // Of several licenses' rounds at once, another node may owe by now.
        if owing.load(Ordering::Relaxed) == of.node.0 {
            owing.store(0, Ordering::Relaxed);
        }
        let commitment: Commitment =
            decode(&answer.commitment).map_err(|why| self.tell(of.is_wrong(why)))?;
        of.must_be(commitment.container).map_err(|wrong| self.tell(wrong))?;
        Ok(Committed { nonce: answer.nonce, commitment })
    }

    async fn part(
        &self,
        of: Other,
        nonce: u64,
        commitments: &[Commitment; 2],
    ) -> Result<SignatureShare, NotSigned> {
        let declined = |why: String| NotSigned::Declined { node: of.node, why };
        let unknown = || declined("it is not reached from here".to_owned());
        let mut client = self.at.peers.calls(of.node.0).ok_or_else(unknown)?;
        let request = SignTermRequest {
            license: self.need.license.to_string(),
            serial: self.need.serial.0,
            term: self.need.term,
            nonce,
            commitments: encode(&commitments.as_slice()).map_err(declined)?,
        };
        let answer = client.sign_term(request).await;
        let answer = answer.map_err(|status| declined(status.message().to_owned()))?.into_inner();
        let part: SignatureShare =
            decode(&answer.signature_share).map_err(|why| self.tell(of.is_wrong(why)))?;
        of.must_be(part.container).map_err(|wrong| self.tell(wrong))?;
        Ok(part)
    }

    fn own_part(
        &self,
        own: &Share,
        nonces: Nonces,
        commitments: &[Commitment],
    ) -> Result<SignatureShare, NotSigned> {
        let SignatureNeed { epoch, term, .. } = self.need;
        own.sign_term(epoch, term, nonces, commitments).map_err(NotSigned::Refused)
    }

    fn join(
        &self,
        others: &[Other],
        commitments: &[Commitment],
        parts: &[SignatureShare],
    ) -> Result<TermSignature, NotSigned> {
        let joined = join(&self.opened.license, self.need, others, commitments, parts);
        joined.map_err(|why| self.tell(why))
    }

    /// Says who signs wrongly, once: another pair may make the signature all the same.
    fn tell(&self, not_signed: NotSigned) -> NotSigned {
        let NotSigned::Wrong { node, why } = &not_signed else { return not_signed };
        let SignatureNeed { license, term, .. } = self.need;
        let mut said = self.at.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(&(license, *node)) != Some(why) {
            tracing::error!(%license, term, %node, why, "a node signs terms of a license wrongly");
            said.insert((license, *node), why.clone());
        }
        not_signed
    }
}

impl Other {
    fn is_wrong(self, why: String) -> NotSigned {
        NotSigned::Wrong { node: self.node, why }
    }

    /// A node speaks for its own share alone: else another would be blamed.
    fn must_be(self, container: ContainerSerial) -> Result<(), NotSigned> {
        if container == self.container {
            return Ok(());
        }
        let own = self.container;
        Err(self.is_wrong(format!("it speaks for container {container}, and its own is {own}")))
    }
}

/// Joins the parts into the signature, or names the one of `others` whose part is bad.
fn join(
    license: &License,
    need: SignatureNeed,
    others: &[Other],
    commitments: &[Commitment],
    parts: &[SignatureShare],
) -> Result<TermSignature, NotSigned> {
    let joined = aggregate_term(license, need.epoch, need.term, commitments, parts);
    joined.map_err(|refusal| {
        let SignRefusal::BadShare { container } = &refusal else {
            return NotSigned::Refused(refusal);
        };
        match others.iter().find(|other| other.container == *container) {
            Some(other) => other.is_wrong(refusal.to_string()),
            None => NotSigned::Refused(refusal),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::array;

    use license::container::Container;
    use license::product::{
        ActId, ClusterId, Epoch, FirmCode, LicenseSerial, ProductCode, ProductName, TmrId, WallTime,
    };
    use license::request::{ClusterRequest, ContainerRequest};
    use license::terms::{Counting, Feature, Terms};
    use license::vendor::{RootKey, Vendor};
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const CLUSTER: ClusterId = ClusterId([3; 16]);
    const NEED: SignatureNeed = SignatureNeed {
        license: LicenseId { firm: FirmCode(6_000_010), product: ProductCode(201), tmr: TmrId(1) },
        serial: LicenseSerial(1),
        epoch: Epoch(5),
        term: 7,
    };

    fn terms() -> Terms {
        Terms {
            license: NEED.license,
            serial: NEED.serial,
            act: ActId(7),
            cluster: CLUSTER,
            name: ProductName::parse("cad").expect("a valid name"),
            seats: 5,
            counting: Counting::PerInstance,
            activation: None,
            expiration: None,
            version_max: None,
            feature: Feature { map: 0, text: String::new() },
            issued: WallTime(1_700_000_000_000),
            extensions: Vec::new(),
        }
    }

    /// A license, its three shares, and the nodes that have them.
    fn shared(rng: &mut StdRng) -> (License, [Share; 3], [Other; 3]) {
        let containers: [Container; 3] = array::from_fn(|_| Container::create(ActId(7), rng));
        let asks = array::from_fn(|index| {
            let node = NodeId(index as u64 + 1);
            ContainerRequest::make(&containers[index], CLUSTER, node, [9; 32], vec![vec![1]])
                .expect("a short chain")
        });
        let request = ClusterRequest::new(CLUSTER, [8; 32], asks).expect("three good requests");
        let root = RootKey::create("Acme root", rng).expect("a valid name");
        let vendor = Vendor::create(&root, NEED.license.firm, "Acme", rng).expect("a valid name");
        let package = vendor.issue(&request, terms(), rng).expect("valid terms");
        let members = array::from_fn::<_, 3, _>(|index| containers[index].identity());
        let license = package.verify(&[root.root().clone()], &CLUSTER, &members);
        let license = license.expect("a good package");
        let shares =
            array::from_fn(|index| Share::open(&license, &containers[index]).expect("its share"));
        let nodes = array::from_fn(|index| Other {
            node: NodeId(index as u64 + 1),
            container: members[index].serial(),
        });
        (license, shares, nodes)
    }

    /// Node 1 leads and has no share. Nodes 2 and 3 sign; one of them for
    /// another term, which makes its part bad. It is named, whichever it is.
    #[test]
    fn of_two_peers_the_one_that_signs_wrongly_is_named() {
        let rng = &mut StdRng::seed_from_u64(1);
        let (license, [_, second, third], [_, node_2, node_3]) = shared(rng);
        for (terms, wrong) in [([7, 7], None), ([6, 7], Some(2)), ([7, 8], Some(3))] {
            let (two_nonces, two) = second.commit(rng).expect("good randomness");
            let (three_nonces, three) = third.commit(rng).expect("good randomness");
            let commitments = [two, three];
            let parts = [
                second.sign_term(NEED.epoch, terms[0], two_nonces, &commitments),
                third.sign_term(NEED.epoch, terms[1], three_nonces, &commitments),
            ]
            .map(|part| part.expect("its own nonces"));
            let joined = join(&license, NEED, &[node_2, node_3], &commitments, &parts);
            match (joined, wrong) {
                (Ok(signature), None) => {
                    assert!(license.verify_term(&CLUSTER, NEED.epoch, NEED.term, &signature));
                }
                (Err(NotSigned::Wrong { node, .. }), Some(wrong)) => assert_eq!(node.0, wrong),
                (joined, wrong) => panic!("{joined:?} where {wrong:?} signed wrongly"),
            }
        }
    }

    /// Node 2 answers with what would have node 3 blamed.
    #[test]
    fn a_node_that_speaks_for_another_is_named_itself() {
        let (_, _, [_, node_2, node_3]) = shared(&mut StdRng::seed_from_u64(2));
        let blamed = node_2.must_be(node_3.container).unwrap_err();
        assert!(matches!(blamed, NotSigned::Wrong { node: NodeId(2), .. }), "{blamed}");
        node_2.must_be(node_2.container).expect("its own");
    }
}

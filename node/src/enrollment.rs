//! Enrollment: which containers the cluster CA vouches for.
//!
//! Each node shows its container with the certificates that vouch for its key.
//! Whoever collects three containers, to form a cluster or to request a
//! license, checks them here, and the vendor does again: the node that collects
//! cannot slip in a container of its own making.

use license::product::{NodeId, WallTime};
use license::request::{ClusterRequest, ContainerRequest};
use pki::{Ca, ContainerRefusal, ContainerSubject};

use crate::certificates::unix;

/// Where the certificates of this node's container are kept. Read each time the
/// container is shown, so that enrolling a running node takes no restart.
pub trait Enrolled: Send + Sync + 'static {
    /// The chain, DER: the container's own certificate first, the CA's last.
    /// Empty for a node that is not enrolled.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn chain(&self) -> Result<Vec<Vec<u8>>, String>;
}

/// Why a container is not taken for its node's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotVouched {
    /// The cluster CA does not vouch for it.
    #[error("nobody vouches for the container that {node} shows: {why}; {}", way_out(why))]
    Container {
        /// Whose.
        node: NodeId,
        /// What is wrong with its chain.
        why: ContainerRefusal,
    },
    /// Two containers, two CAs.
    #[error(
        "{node}'s container is certified by another CA than the first node's: certify all three with one (`trine pki enroll`)"
    )]
    CasDiffer {
        /// The second.
        node: NodeId,
    },
}

/// What to do next.
fn way_out(why: &ContainerRefusal) -> &'static str {
    match why {
        ContainerRefusal::OtherKey | ContainerRefusal::OtherName { .. } => {
            "it may be another's in its place: find out before going on, then enroll the node again (`trine node enroll` there, `trine pki enroll` where the CA's key is)"
        }
        _ => {
            "enroll the node (`trine node enroll` there, then `trine pki enroll` where the CA's key is)"
        }
    }
}

/// Checks one container's chain against the CAs that count. Gives its CA.
///
/// # Errors
/// [`NotVouched`], with the way out.
pub fn check(
    request: &ContainerRequest,
    counts: impl FnOnce(&[u8; 32]) -> bool,
    now: WallTime,
) -> Result<Ca, NotVouched> {
    let (serial, key) = (request.identity().serial().to_string(), request.identity().key());
    let key = key.to_spki_der();
    let subject = ContainerSubject { node: request.node().0, serial: &serial, key: &key };
    pki::verify_container(request.chain(), &subject, counts, unix(now))
        .map_err(|why| NotVouched::Container { node: request.node(), why })
}

/// Checks the three containers of a request against the CA it names, as the
/// vendor does: nothing but the file is needed.
///
/// # Errors
/// [`NotVouched`], with the way out.
pub fn check_request(request: &ClusterRequest, now: WallTime) -> Result<(), NotVouched> {
    let counts = |digest: &[u8; 32]| digest == request.ca_digest();
    request.requests().iter().try_for_each(|container| check(container, counts, now).map(drop))
}

/// Checks three containers against the CAs that count. Gives the one CA by
/// which all three are certified.
///
/// # Errors
/// [`NotVouched`], with the way out.
pub(crate) fn check_all(
    requests: &[ContainerRequest; 3],
    counts: impl Fn(&[u8; 32]) -> bool,
    now: WallTime,
) -> Result<Ca, NotVouched> {
    let [first, others @ ..] = requests;
    let ca = check(first, &counts, now)?;
    for request in others {
        if check(request, &counts, now)? != ca {
            return Err(NotVouched::CasDiffer { node: request.node() });
        }
    }
    Ok(ca)
}

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

impl NotVouched {
    /// Whether it might be vouched for at another moment.
    fn is_out_of_date(&self) -> bool {
        use ContainerRefusal::{Expired, NotYetValid};
        matches!(self, Self::Container { why: Expired { .. } | NotYetValid { .. }, .. })
    }
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

/// What `verify` finds at the moment that this node's clock shows or, where that
/// is out of date, at the cluster's date, as it is with the certificates of
/// connections ([`pki::Trust`]): one wrong clock keeps nobody out.
///
/// # Errors
/// What it finds by the clock, or by the date.
pub(crate) fn in_date<T>(
    clock: WallTime,
    date: Option<WallTime>,
    verify: impl Fn(WallTime) -> Result<T, NotVouched>,
) -> Result<T, NotVouched> {
    verify(clock).or_else(|refused| match date {
        Some(date) if refused.is_out_of_date() => verify(date),
        _ => Err(refused),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: WallTime = WallTime(1_800_000_000_000);
    const YEARS: i64 = 10 * 365 * 24 * 60 * 60 * 1_000;

    fn refused(why: ContainerRefusal) -> NotVouched {
        NotVouched::Container { node: NodeId(3), why }
    }

    /// Of a chain that holds within a year of today.
    fn verify(now: WallTime) -> Result<(), NotVouched> {
        let year = YEARS / 10;
        if now > TODAY.plus_millis(year) {
            return Err(refused(ContainerRefusal::Expired { expired: unix(TODAY) }));
        }
        if now < TODAY.plus_millis(-year) {
            return Err(refused(ContainerRefusal::NotYetValid { from: unix(TODAY) }));
        }
        Ok(())
    }

    #[test]
    fn a_wrong_clock_of_who_looks_refuses_no_container() {
        for off in [-YEARS, 0, YEARS] {
            let clock = TODAY.plus_millis(off);
            assert_eq!(in_date(clock, Some(TODAY), verify), Ok(()), "{off} ms off");
            assert_eq!(in_date(TODAY, Some(clock), verify), Ok(()), "the date is {off} ms off");
        }
        let (early, late) = (TODAY.plus_millis(-YEARS), TODAY.plus_millis(YEARS));
        assert_eq!(in_date(early, None, verify), verify(early), "there is no date yet");
        assert_eq!(in_date(early, Some(late), verify), verify(late));
    }

    #[test]
    fn what_is_wrong_at_any_time_is_asked_about_once() {
        let asked = std::cell::Cell::new(0);
        let other = || refused(ContainerRefusal::OtherKey);
        let verify = |_| {
            asked.set(asked.get() + 1);
            Err::<(), _>(other())
        };
        assert_eq!(in_date(TODAY, Some(TODAY), verify), Err(other()));
        assert_eq!(asked.get(), 1);
    }
}

//! Revoked certificates: whom the cluster no longer lets in, though its CA
//! signed for them and their time is not over.

use crate::command::{Bound, Refusal, RevokeCertificate};
use crate::ledger::Ledger;
use crate::limits::REVOKED_KEPT_MILLIS;
use crate::state::Revoked;
use crate::wall::moved_on;

impl Ledger {
    /// Refuses a certificate from this entry on. Revoking it twice is a retry:
    /// the first record stays.
    pub(crate) fn revoke_certificate(&mut self, body: &RevokeCertificate) -> Result<(), Refusal> {
        if self.state.revoked.get(&body.fingerprint).is_some() {
            return Ok(());
        }
        self.make_room_for_one()?;
        // From now on it holds for no longer than it ever did in all.
        let lasts = u64::try_from(body.expires.0.saturating_sub(body.from.0)).unwrap_or(0);
        let revoked = Revoked {
            subject: body.subject.clone(),
            expires: body.expires,
            by: body.by.clone(),
            kept_until: self.clock().plus_millis(lasts.saturating_add(REVOKED_KEPT_MILLIS)),
        };
        self.state.revoked.insert(body.fingerprint, revoked);
        Ok(())
    }

    /// Forgets a revocation only when there is no room for another: the one whose
    /// certificate expired first, and a month ago at least.
    ///
    /// Expired certificates have to be kept out as well: a node whose own clock
    /// is years back takes them. A month must be over by the date *and* by
    /// cluster time since it was revoked: wrong clocks can carry the date ahead
    /// and would let everybody back in, while cluster time never runs ahead.
    fn make_room_for_one(&mut self) -> Result<(), Refusal> {
        let no_room = match Bound::RevokedCertificates.check_room(self.state.revoked.len()) {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        let (date, clock) = (self.wall(), self.clock());
        let is_over = |revoked: &Revoked| {
            let long_expired = moved_on(revoked.expires, REVOKED_KEPT_MILLIS);
            date.is_some_and(|date| long_expired <= date) && revoked.kept_until <= clock
        };
        let over = self.state.revoked.iter().filter(|(_, revoked)| is_over(revoked));
        let first = over.min_by_key(|(fingerprint, revoked)| (revoked.expires, **fingerprint));
        let fingerprint = first.map(|(fingerprint, _)| *fingerprint).ok_or(no_room)?;
        self.state.revoked.remove(&fingerprint);
        Ok(())
    }
}

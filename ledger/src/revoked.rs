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
        self.forget_revoked();
        if self.state.revoked.get(&body.fingerprint).is_some() {
            return Ok(());
        }
        Bound::RevokedCertificates.check_room(self.state.revoked.len())?;
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

    /// Drops what expired long ago: the certificate's own dates keep it out.
    ///
    /// Only when another is revoked, and a month after it expired, as a node
    /// whose clock is slow believes a certificate for longer. That must be so by
    /// the date *and* by cluster time since it was revoked: wrong clocks can
    /// carry the date ahead and would let everybody back in, while cluster time
    /// never runs ahead.
    fn forget_revoked(&mut self) {
        let Some(date) = self.wall() else { return };
        let clock = self.clock();
        let is_over = |revoked: &Revoked| {
            moved_on(revoked.expires, REVOKED_KEPT_MILLIS) <= date && revoked.kept_until <= clock
        };
        let over: Vec<[u8; 32]> = self
            .state
            .revoked
            .iter()
            .filter(|(_, revoked)| is_over(revoked))
            .map(|(fingerprint, _)| *fingerprint)
            .collect();
        over.iter().for_each(|fingerprint| drop(self.state.revoked.remove(fingerprint)));
    }
}

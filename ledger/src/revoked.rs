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
        let revoked =
            Revoked { subject: body.subject.clone(), expires: body.expires, by: body.by.clone() };
        self.state.revoked.insert(body.fingerprint, revoked);
        Ok(())
    }

    /// Drops what expired long ago: the certificate's own dates keep it out.
    ///
    /// Only when another is revoked, and a month after it expired: a node whose
    /// clock is slow believes a certificate for longer, and a wall floor that
    /// two wrong clocks drove ahead must not let anybody back in.
    fn forget_revoked(&mut self) {
        let Some(date) = self.wall() else { return };
        let is_over = |revoked: &Revoked| moved_on(revoked.expires, REVOKED_KEPT_MILLIS) <= date;
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

//! Bearer tokens: how an application without a certificate is known.
//!
//! Only digests are kept. A token ends on the wall floor, so no node's clock
//! alone can end it or keep it alive.

use crate::command::{Bound, IssueToken, Refusal, RevokeToken};
use crate::ledger::Ledger;
use crate::limits::FORGETS_PER_ENTRY;
use crate::state::Bearer;

impl Ledger {
    pub(crate) fn issue_token(&mut self, body: &IssueToken) -> Result<(), Refusal> {
        let bearer = Bearer { subject: body.subject.clone(), expires: body.expires };
        match self.state.bearers.get(&body.digest) {
            // Issuing the same token twice is a retry.
            Some(known) if *known == bearer => return Ok(()),
            Some(known) => return Err(Refusal::TokenInUse { subject: known.subject.clone() }),
            None => Bound::BearerTokens.check_room(self.state.bearers.len())?,
        }
        self.index.bearer_ends.insert((body.expires, body.digest));
        self.state.bearers.insert(body.digest, bearer);
        Ok(())
    }

    /// Ends every token of a subject; that it has none is no mistake.
    pub(crate) fn revoke_token(&mut self, body: &RevokeToken) -> Result<(), Refusal> {
        let of_subject = |(_, bearer): &(&[u8; 32], &Bearer)| bearer.subject == body.subject;
        let digests: Vec<[u8; 32]> =
            self.state.bearers.iter().filter(of_subject).map(|(digest, _)| *digest).collect();
        digests.iter().for_each(|digest| self.forget_bearer(digest));
        Ok(())
    }

    /// Forgets tokens that have expired, a bounded number per entry.
    pub(crate) fn forget_bearers(&mut self) {
        let Some(date) = self.wall() else { return };
        for _ in 0..FORGETS_PER_ENTRY {
            match self.index.bearer_ends.first() {
                Some((expires, digest)) if *expires <= date => self.forget_bearer(&digest.clone()),
                _ => return,
            }
        }
    }

    fn forget_bearer(&mut self, digest: &[u8; 32]) {
        if let Some(bearer) = self.state.bearers.remove(digest) {
            self.index.bearer_ends.remove(&(bearer.expires, *digest));
        }
    }
}

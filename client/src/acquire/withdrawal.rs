//! Withdrawing a request, so that no copy of it takes a seat for nobody.

use std::sync::Arc;

use wire::v1;

use crate::core::Core;
use crate::error::CallError;
use crate::lease::LeaseId;
use crate::observe::Call;
use crate::patience::Patience;

/// Withdraws the request in the background when dropped while due: the future
/// was dropped, or nobody will ever know what became of it.
pub(super) struct Withdrawal<'a> {
    core: &'a Arc<Core>,
    lease: LeaseId,
    due: bool,
}

impl<'a> Withdrawal<'a> {
    /// Due until waived.
    pub(super) fn due(core: &'a Arc<Core>, lease: LeaseId) -> Self {
        Self { core, lease, due: true }
    }

    /// What became of the request is known: there is nothing to withdraw.
    pub(super) fn waive(&mut self) {
        self.due = false;
    }

    /// Withdraws at once if it is due. If that fails it stays due.
    pub(super) async fn carry_out(&mut self, patience: Patience) -> Result<(), CallError> {
        if self.due {
            self.core.ask(&self.cancel(), patience).await?;
            self.due = false;
        }
        Ok(())
    }

    fn cancel(&self) -> Call {
        Call::Cancel(v1::CancelRequest { lease: self.lease.to_wire() })
    }
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        if self.due {
            self.core.courtesy(self.cancel());
        }
    }
}

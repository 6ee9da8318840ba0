//! Whether a connection's caller has been let in by anyone: the word a gate
//! passes back to the connection that a request came over.

use std::sync::Arc;

use tokio::sync::Notify;

/// In the extensions of every request. Cloning shares the word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admission(Arc<Notify>);

impl Admission {
    /// A call over this connection was let in.
    pub(crate) fn note(&self) {
        self.0.notify_one();
    }

    /// Resolves once a call has been let in, before or after this.
    pub(super) async fn noted(&self) {
        self.0.notified().await;
    }
}

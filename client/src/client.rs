//! The client: where an application begins.

use std::sync::Arc;
use std::time::Duration;

use wire::v1;

use crate::acquire::Acquire;
use crate::core::Core;
use crate::error::{CallError, Failure};
use crate::lease::{LeaseId, Renewal};
use crate::observe::{Call, Reply};
use crate::operator::Operator;
use crate::options::{Options, OptionsError};
use crate::seat::{self, Ticket};

/// A client of one cluster. Cloning shares its connections.
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
}

impl Client {
    /// A client with these options. Connects when first asked for something.
    ///
    /// # Errors
    /// The options cannot be used, or there is no Tokio runtime.
    pub async fn connect(options: Options) -> Result<Self, OptionsError> {
        Ok(Self { core: Arc::new(Core::new(options)?) })
    }

    /// A request for a seat of `product`; nothing is sent before
    /// [`send`](Acquire::send).
    pub fn acquire(&self, product: &str) -> Acquire {
        Acquire::new(Arc::clone(&self.core), product)
    }

    /// A fresh request id, for a caller that wants to note it before asking.
    pub fn mint(&self) -> LeaseId {
        self.core.mint()
    }

    /// Renews a lease by hand, which says that its seat is in use. A
    /// [`Seat`](crate::Seat) renews itself, and says when it is not.
    ///
    /// # Errors
    /// Not renewed, or not known to be.
    pub async fn renew(&self, ticket: Ticket) -> Result<Renewal, CallError> {
        let (lease, token) = (ticket.lease.to_wire(), ticket.token);
        let request = v1::RenewRequest { lease, token, hold_ended: false };
        let answered = self.core.ask(&Call::Renew(request), self.core.patiently()).await?;
        let Reply::Renew(v1::RenewReply { envelope: Some(envelope), deadline_ms }) = answered.reply
        else {
            return Err(Failure::bad_answer("another call's reply").into());
        };
        let lasts = Duration::from_millis(deadline_ms.saturating_sub(envelope.stamp_ms));
        Ok(Renewal { at: (&envelope).into(), deadline_ms, lasts })
    }

    /// Releases a seat by hand. Releasing twice is no mistake.
    ///
    /// # Errors
    /// Not released, or not known to be.
    pub async fn release(&self, ticket: Ticket) -> Result<(), CallError> {
        seat::release(&self.core, ticket, self.core.patiently()).await
    }

    /// Withdraws a request whatever became of it: it leaves the queue, gives
    /// back what it was granted, or will never take anything.
    ///
    /// # Errors
    /// Not withdrawn, or not known to be.
    pub async fn cancel(&self, lease: LeaseId) -> Result<(), CallError> {
        let request = v1::CancelRequest { lease: lease.to_wire() };
        self.core.ask(&Call::Cancel(request), self.core.patiently()).await.map(drop)
    }

    /// Cluster time in milliseconds and whom the cluster takes us for.
    ///
    /// # Errors
    /// No answer within the client's patience.
    pub async fn whoami(&self) -> Result<v1::ClockReply, CallError> {
        let call = Call::Clock(v1::ClockRequest {});
        match self.core.ask(&call, self.core.patiently()).await?.reply {
            Reply::Clock(clock) => Ok(clock),
            _ => Err(Failure::bad_answer("another call's reply").into()),
        }
    }

    /// What operators may do.
    pub fn operator(&self) -> Operator {
        Operator::new(Arc::clone(&self.core))
    }

    /// Waits until seats that were dropped and requests that were given up are
    /// given back, at most so long. True if all are. Call it before exiting.
    pub async fn settle(&self, limit: Duration) -> bool {
        self.core.settle(limit).await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

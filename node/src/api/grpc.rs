//! What applications call: clock, acquire, renew, release, cancel.

use std::time::Duration;

use ledger::command::{Acquire, Command, Outcome, Reply};
use tonic::{Request, Response, Status};
use wire::v1;
use wire::v1::licensing_server;

use super::room::Place;
use super::{Answers, convert};
use crate::answer::NotAnswered;
use crate::service::Service;

/// `trine.v1.Licensing`, answered by any node.
pub(super) struct Licensing {
    pub(super) service: Service,
    pub(super) answers: Answers,
}

impl Licensing {
    /// Asks for a seat. If the answer is a place in the queue, the call is held
    /// open for up to `hold_open`, to answer the moment a seat comes free, if
    /// there is room for one more call that is.
    async fn acquire_or_wait(
        &self,
        acquire: Acquire,
        hold_open: Duration,
        place: Option<Place>,
    ) -> Result<Reply, NotAnswered> {
        let may_wait = acquire.wait_until.is_some() && !hold_open.is_zero();
        let waiter = may_wait.then(|| self.service.wait_for(acquire.lease));
        let reply = self.service.submit(Command::Acquire(acquire)).await?;
        let (Outcome::Queued(_), Some(mut waiter)) = (&reply.outcome, waiter) else {
            return Ok(reply);
        };
        let Some(_held) = place.and_then(|place| place.hold_open()) else { return Ok(reply) };
        Ok(waiter.settled(hold_open).await.unwrap_or(reply))
    }
}

#[tonic::async_trait]
impl licensing_server::Licensing for Licensing {
    async fn clock(
        &self,
        request: Request<v1::ClockRequest>,
    ) -> Result<Response<v1::ClockReply>, Status> {
        let caller = self.answers.caller(&request)?;
        Ok(Response::new(v1::ClockReply {
            cluster_time_ms: self.service.cluster_time().0,
            subject: caller.subject.to_string(),
        }))
    }

    async fn acquire(
        &self,
        request: Request<v1::AcquireRequest>,
    ) -> Result<Response<v1::AcquireReply>, Status> {
        let caller = self.answers.caller(&request)?;
        let place = request.extensions().get::<Place>().cloned();
        let (acquire, hold_open) = convert::acquire(request.into_inner(), caller.subject)
            .map_err(|no| self.answers.tell(no))?;
        let reply = self.acquire_or_wait(acquire, hold_open, place).await;
        let reply = self.answers.granted(reply)?;
        convert::acquired(reply).map(Response::new).ok_or_else(|| self.answers.mismatched())
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewReply>, Status> {
        let caller = self.answers.caller(&request)?;
        let renew = convert::renew(request.get_ref(), caller.subject)
            .map_err(|no| self.answers.tell(no))?;
        let reply = self.service.submit(Command::Renew(renew)).await;
        let reply = self.answers.granted(reply)?;
        let Outcome::Renewed { deadline } = reply.outcome else {
            return Err(self.answers.mismatched());
        };
        let envelope = Some(convert::envelope(reply.log_id, reply.stamp));
        Ok(Response::new(v1::RenewReply { envelope, deadline_ms: deadline.0 }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseReply>, Status> {
        let caller = self.answers.caller(&request)?;
        let release = convert::release(request.get_ref(), caller.subject)
            .map_err(|no| self.answers.tell(no))?;
        let reply = self.service.submit(Command::Release(release)).await;
        let reply = self.answers.granted(reply)?;
        let envelope = Some(convert::envelope(reply.log_id, reply.stamp));
        Ok(Response::new(v1::ReleaseReply { envelope }))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelReply>, Status> {
        let caller = self.answers.caller(&request)?;
        let cancel = convert::cancel(request.get_ref(), caller.subject)
            .map_err(|no| self.answers.tell(no))?;
        let reply = self.service.submit(Command::Cancel(cancel)).await;
        let reply = self.answers.granted(reply)?;
        let envelope = Some(convert::envelope(reply.log_id, reply.stamp));
        Ok(Response::new(v1::CancelReply { envelope }))
    }
}

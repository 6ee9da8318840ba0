//! Where connections come from: each is a stream and who is at its other end.
//!
//! [`TlsIncoming`] is the door of production: it counts connections, reads the
//! PROXY header of the balancers and runs the TLS handshake, all within a
//! deadline. [`PlainIncoming`] is the health listener's. The simulator brings
//! its own.

mod plain;
pub mod proxy;
mod slots;
mod tls;

use std::future::Future;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::identity::Peer;

pub use plain::PlainIncoming;
pub use slots::Slots;
pub use tls::{Door, TlsIncoming};

pub(crate) use slots::Slot;

/// A source of connections.
pub trait Incoming: Send {
    /// What carries the bytes.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection. Must be cancel-safe: the caller drops it to look at
    /// something else, and nothing may be lost by that.
    fn accept(&mut self) -> impl Future<Output = Connection<Self::Stream>> + Send;
}

/// One connection that was let in.
#[derive(Debug)]
pub struct Connection<S> {
    /// Its bytes.
    pub stream: S,
    /// Its other end.
    pub peer: Peer,
    /// Its place under the limits, given back when it is dropped.
    slot: Option<Slot>,
}

impl<S> Connection<S> {
    /// A connection that no limit counts, as the simulator hands them in.
    pub fn new(stream: S, peer: Peer) -> Self {
        Self { stream, peer, slot: None }
    }

    fn counted(stream: S, peer: Peer, slot: Slot) -> Self {
        Self { stream, peer, slot: Some(slot) }
    }

    /// The parts: stream, other end, and what to keep until the stream ends.
    pub(crate) fn into_parts(self) -> (S, Peer, Option<Slot>) {
        (self.stream, self.peer, self.slot)
    }
}

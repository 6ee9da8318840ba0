//! The health listener's door: a count, no TLS, no identity.

use tokio::net::{TcpListener, TcpStream};

use super::tls::accept_tcp;
use super::{Connection, Incoming, Slots};
use crate::identity::Peer;

/// A bound socket whose callers are nobody in particular.
#[derive(Debug)]
pub struct PlainIncoming {
    listener: TcpListener,
    slots: Slots,
}

impl PlainIncoming {
    /// Lets in whoever connects to `listener`, while there is room.
    pub fn new(listener: TcpListener, slots: Slots) -> Self {
        Self { listener, slots }
    }
}

impl Incoming for PlainIncoming {
    type Stream = TcpStream;

    async fn accept(&mut self) -> Connection<TcpStream> {
        loop {
            let (stream, from) = accept_tcp(&self.listener).await;
            let address = from.ip().to_canonical();
            let Some(mut slot) = self.slots.take() else { continue };
            if slot.count_address(address) {
                return Connection::counted(
                    stream,
                    Peer { address, identity: None, certificate: None },
                    slot,
                );
            }
            self.slots.refused("address_limit");
        }
    }
}

//! What applying a batch settled beside its direct answers.

use license::product::{LicenseId, LicenseSerial, NodeId, ProductName};

use crate::command::{LeaseId, Reply, ShareState, Token};
use crate::name::Subject;
use crate::usage::WrittenPage;
use crate::view::Service;

/// The outcome of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// One reply per command, in the batch's order.
    pub replies: Vec<Reply>,
    /// What else happened, in order.
    pub events: Vec<Event>,
    /// Pages of history that it wrote, in order.
    pub pages: Vec<WrittenPage>,
}

/// Something settled without being anybody's direct answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A waiting request was granted or refused; the reply has its own log id.
    Settled {
        /// The request.
        lease: LeaseId,
        /// Its answer.
        reply: Box<Reply>,
    },
    /// A license came into force, or an update of one did.
    LicenseInForce {
        /// The license.
        license: LicenseId,
        /// Which update.
        serial: LicenseSerial,
        /// Its product.
        product: ProductName,
    },
    /// A license began or ceased to serve.
    ServiceChanged {
        /// The license.
        license: LicenseId,
        /// How it stands now.
        service: Service,
    },
    /// A node's share changed its state.
    ShareChanged {
        /// The license.
        license: LicenseId,
        /// The node.
        node: NodeId,
        /// How it stands now.
        state: ShareState,
    },
    /// An operator ended a seat's renewal.
    Revoked {
        /// The seat.
        seat: Token,
        /// The operator.
        by: Subject,
    },
}

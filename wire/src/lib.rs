//! The protocol: the `.proto` files and the code generated from them, no logic.
#![forbid(unsafe_code)]

/// What applications and operators speak: `trine.v1`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("trine.v1");
}

/// What nodes speak with one another: `trine.peer.v1`.
pub mod peer {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("trine.peer.v1");
}

/// What the stubs were generated from: a `google.protobuf.FileDescriptorSet`,
/// for whoever must know of every call there is.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The domain of every `google.rpc.ErrorInfo` of Trine.
pub const ERROR_DOMAIN: &str = "trine";

/// Default port of the client listener.
pub const CLIENT_PORT: u16 = 22450;

/// Default port of the peer listener.
pub const PEER_PORT: u16 = 22451;

/// Default port of the health, leader and metrics listener.
pub const HEALTH_PORT: u16 = 22452;

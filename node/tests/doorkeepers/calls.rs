//! Every call that the compiled protocol declares, times every kind of caller,
//! at both listeners, before the cluster is formed and after.
//!
//! The calls come from the descriptors, so that a new one is asked here before
//! anybody has thought of it, and a new service fails until it stands below.

use std::collections::BTreeSet;

use axum::body::Body;
use http::Request;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt as _};

use super::bed::{self, OPERATOR, connect};

/// What a caller hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// The call itself, whatever it answers.
    LetIn,
    /// That it does not say who it is.
    Nobody,
    /// That it is not for the likes of it.
    NotYours,
    /// That there is no such call here.
    Nothing,
}

/// Who knocks. Whoever shows a container's certificate does not even get a
/// connection: `doors.rs` has that story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Neither certificate nor token.
    Anonymous,
    /// A token that nobody gave out.
    Guesser,
    /// An application's token.
    Token,
    /// A certificate.
    Certificate(pki::Role),
    /// The certificate of a node that is none of this cluster.
    Stranger,
}

const CALLERS: [Caller; 7] = [
    Caller::Anonymous,
    Caller::Guesser,
    Caller::Token,
    Caller::Certificate(pki::Role::Application),
    Caller::Certificate(pki::Role::Operator),
    Caller::Certificate(pki::Role::Peer),
    Caller::Stranger,
];

impl Caller {
    /// A new role of certificates does not compile until it stands here.
    fn identity(self) -> Option<&'static str> {
        match self {
            Self::Anonymous | Self::Guesser | Self::Token => None,
            Self::Certificate(pki::Role::Application) => Some("trine://application/cad"),
            Self::Certificate(pki::Role::Operator) => Some(OPERATOR),
            Self::Certificate(pki::Role::Peer) => Some("trine://peer/node-2"),
            Self::Stranger => Some("trine://peer/node-9"),
        }
    }

    fn is_operator(self) -> bool {
        self == Self::Certificate(pki::Role::Operator)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listener {
    Clients,
    Peers,
}

/// What a caller is to hear from every call of a service at a listener.
fn expected(service: &str, at: Listener, caller: Caller) -> Heard {
    use Caller::{Anonymous, Certificate, Guesser, Stranger, Token};
    use pki::Role::{Application, Operator, Peer};
    let home = match service {
        "trine.v1.Licensing" | "trine.v1.Cluster" => Listener::Clients,
        "trine.peer.v1.Peer" => Listener::Peers,
        other => panic!("nobody has said who may call {other}"),
    };
    if at != home {
        return Heard::Nothing;
    }
    match (service, caller) {
        ("trine.peer.v1.Peer", Certificate(Peer)) => Heard::LetIn,
        ("trine.peer.v1.Peer", _) => Heard::NotYours,
        (_, Anonymous | Guesser) => Heard::Nobody,
        (_, Certificate(Peer) | Stranger) => Heard::NotYours,
        (_, Certificate(Operator)) => Heard::LetIn,
        ("trine.v1.Licensing", Certificate(Application) | Token) => Heard::LetIn,
        (_, Certificate(Application) | Token) => Heard::NotYours,
    }
}

/// Every call of the compiled protocol: service and name.
fn declared() -> BTreeSet<(String, String)> {
    let files = FileDescriptorSet::decode(wire::DESCRIPTORS).expect("descriptors").file;
    let calls = files.iter().flat_map(|file| {
        file.service.iter().flat_map(|service| {
            let name = format!("{}.{}", file.package(), service.name());
            service.method.iter().map(move |method| (name.clone(), method.name().to_owned()))
        })
    });
    calls.collect()
}

/// What one call with an empty message is told at the door.
async fn ask(channel: &mut Channel, token: Option<&str>, service: &str, name: &str) -> Heard {
    let mut request = Request::post(format!("http://trine/{service}/{name}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(tonic::body::Body::new(Body::from(vec![0; 5]))).expect("a request");
    let answer = channel.ready().await.expect("a connection").call(request).await;
    let answer = answer.expect("an answer");
    let Some(status) = Status::from_header_map(answer.headers()) else { return Heard::LetIn };
    match (status.code(), status.message()) {
        // A member that has not said hello is turned away by another rule (S21).
        (Code::Unauthenticated, said) if service.contains(".peer.") => {
            assert!(!said.contains("identity"), "{said}");
            Heard::LetIn
        }
        (Code::Unauthenticated, _) => Heard::Nobody,
        (Code::PermissionDenied, _) => Heard::NotYours,
        (Code::Unimplemented, _) => Heard::Nothing,
        _ => Heard::LetIn,
    }
}

#[tokio::test]
async fn every_caller_hears_of_every_call_what_it_should() {
    let calls = declared();
    assert!(calls.len() > 25, "{calls:?}");
    let nodes = bed::nodes();
    for is_formed in [false, true] {
        let secret = if is_formed { Some(bed::form(&nodes).await) } else { None };
        for caller in CALLERS {
            let token = match caller {
                Caller::Guesser => Some("trine_guess"),
                // Before there is a cluster there is no token.
                Caller::Token if !is_formed => continue,
                Caller::Token => secret.as_deref(),
                Caller::Anonymous | Caller::Certificate(_) | Caller::Stranger => None,
            };
            for at in [Listener::Clients, Listener::Peers] {
                let door = match at {
                    Listener::Clients => &nodes[0].clients,
                    Listener::Peers => &nodes[0].peers,
                };
                let mut channel = connect(door, caller.identity()).await;
                for (service, name) in &calls {
                    // It would form the cluster: `bed::form` makes this call.
                    let forms = name == "Init" && !is_formed && caller.is_operator();
                    if forms && at == Listener::Clients {
                        continue;
                    }
                    let heard = ask(&mut channel, token, service, name).await;
                    let wanted = expected(service, at, caller);
                    assert_eq!(heard, wanted, "{caller:?} asks {service}/{name} at {at:?}");
                }
            }
        }
    }
}

//! The client listener's door: who gets in, who does not, and who is shown out.

mod stage;

use std::sync::Arc;
use std::time::Duration;

use node::config::Limits;
use node::serve::Bounds;
use pki::{Authority, CertificateDer, ClientAuth, ContainerSubject, Pem};
use rustls::ClientConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::{Code, Request};
use tonic_types::StatusExt;
use wire::v1;

use stage::{
    PATIENCE, SECRET, Served, credentials, limits, play, proxy_header, shown, trust, validity,
};

/// Whether the other side closes the stream, in time, without having said anything in plain text.
async fn is_closed(mut stream: TcpStream) -> bool {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    // A TLS alert may come first.
    read.is_err() || bytes.is_empty() || bytes[0] == 0x15
}

#[test]
fn an_application_with_a_certificate_gets_in() {
    play(async {
        let served = Served::start(limits(), &[]).await;
        let subject = served.ask(&served.application(), Vec::new()).await;
        assert_eq!(subject.as_deref(), Ok("127.0.0.1"));
    });
}

#[test]
fn without_tls_nobody_gets_in() {
    play(async {
        let served = Served::start(limits(), &[]).await;
        let mut stream = TcpStream::connect(served.address).await.expect("a connection");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
        assert!(is_closed(stream).await);
        served.refused("handshake").await;
    });
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    play(async {
        let served = Served::start(limits(), &[]).await;
        let other = Authority::create("elsewhere", validity()).expect("an authority");
        let issued = other.issue_application("cad", validity()).expect("a certificate");
        let stranger = credentials(&other, &issued);
        assert!(served.ask(&stranger, Vec::new()).await.is_err());
        served.refused("handshake").await;
    });
}

/// The cluster CA signed it, its key is at hand, and it opens no door: not that
/// of clients, not that of peers.
#[test]
fn a_containers_certificate_opens_no_door() {
    play(async {
        for auth in [ClientAuth::Optional, ClientAuth::Required] {
            let bounds = Bounds::from(&limits());
            let served = Served::start_asking(auth, bounds, limits(), &[], None).await;
            let key = rcgen::KeyPair::generate().expect("a key");
            let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
            let container = ContainerSubject { node: 1, serial: "130-0123456789", key: &spki };
            let chain = served.authority.certify_container(&container, validity());
            let chain = chain.expect("a certificate");
            let chain = pki::container_chain(Pem::new("chain", chain.as_bytes())).expect("PEM");
            let own = CertificateDer::from(chain[0].clone());
            let signer = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
            let signer = rustls::crypto::ring::sign::any_supported_type(&signer).expect("a signer");
            let shown = CertifiedKey::new(vec![own], signer);
            let tls = pki::client_config(&trust(&served.authority), None).expect("TLS");
            let mut tls = ClientConfig::clone(&tls);
            tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(shown));
            let mut client = served.client_over(Arc::new(tls), Vec::new()).await;
            if let Ok(client) = &mut client {
                let answer = client.clock(with_token()).await;
                assert!(answer.is_err(), "{answer:?}");
            }
            served.refused("identity").await;
        }
    });
}

#[test]
fn without_certificate_or_token_a_caller_is_nobody() {
    play(async {
        let served = Served::start(limits(), &[]).await;
        let mut client = served.client(None, Vec::new()).await.expect("a connection");
        let status = client.clock(v1::ClockRequest {}).await.expect_err("nobody");
        assert_eq!(status.code(), Code::Unauthenticated);
    });
}

/// A clock call that shows the bearer token.
fn with_token() -> Request<v1::ClockRequest> {
    let mut request = Request::new(v1::ClockRequest {});
    let value = format!("Bearer {SECRET}").parse().expect("a header value");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Neither an open connection nor calls that are turned away keep one who has
/// not said who he is: not even while the connection is alive and well.
#[test]
fn who_never_says_who_it_is_is_shown_out() {
    play(async {
        let limits = limits();
        let bounds =
            Bounds { anonymous: Some(Duration::from_millis(300)), ..Bounds::from(&limits) };
        let served = Served::start_within(bounds, limits, &[]).await;
        let mut stranger = served.client(None, Vec::new()).await.expect("a connection");
        let mut bearer = served.client(None, Vec::new()).await.expect("a connection");
        let own = served.application();
        let mut shown = served.client(Some(&own), Vec::new()).await.expect("a connection");
        bearer.clock(with_token()).await.expect("an answer");
        stranger.clock(v1::ClockRequest {}).await.expect_err("nobody");
        served.refused("anonymous").await;
        let gone = async {
            while served.connections() != 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, gone).await.is_ok(), "the stranger's connection stays");
        bearer.clock(with_token()).await.expect("an answer");
        shown.clock(v1::ClockRequest {}).await.expect("an answer");
    });
}

/// Three quarters are always left for callers who show a certificate.
#[test]
fn strangers_get_a_quarter_of_the_room() {
    play(async {
        let served = Served::start(Limits { connections: 8, ..limits() }, &[]).await;
        let first = served.client(None, Vec::new()).await.expect("a connection");
        let mut second = served.client(None, Vec::new()).await.expect("a connection");
        let third = served.client(None, Vec::new()).await;
        served.refused("anonymous_limit").await;
        drop(third);
        served.ask(&served.application(), Vec::new()).await.expect("room for who is known");
        // Who has said who he is leaves his place to the next.
        second.clock(with_token()).await.expect("an answer");
        let mut fourth = served.client(None, Vec::new()).await.expect("a connection");
        fourth.clock(with_token()).await.expect("an answer");
        drop(first);
    });
}

#[test]
fn a_balancer_says_whom_it_forwards() {
    play(async {
        let served = Served::start(limits(), &["127.0.0.0/8"]).await;
        let subject = served.ask(&served.application(), proxy_header("198.51.100.7:4000")).await;
        assert_eq!(subject.as_deref(), Ok("198.51.100.7"));
    });
}

#[test]
fn a_balancer_that_does_not_say_is_refused() {
    play(async {
        let served = Served::start(limits(), &["127.0.0.0/8"]).await;
        assert!(served.ask(&served.application(), Vec::new()).await.is_err());
        served.refused("proxy_header").await;
    });
}

#[test]
fn nobody_else_may_say_whom_it_forwards() {
    play(async {
        let served = Served::start(limits(), &["10.0.0.0/8"]).await;
        let header = proxy_header("198.51.100.7:4000");
        assert!(served.ask(&served.application(), header).await.is_err());
        served.refused("handshake").await;
    });
}

#[test]
fn a_slow_handshake_is_cut() {
    play(async {
        let limits = Limits { handshake: Duration::from_millis(100), ..limits() };
        let served = Served::start(limits, &[]).await;
        let stream = TcpStream::connect(served.address).await.expect("a connection");
        assert!(is_closed(stream).await);
        served.refused("timeout").await;
    });
}

#[test]
fn a_slow_proxy_header_is_cut() {
    play(async {
        let limits = Limits { handshake: Duration::from_millis(100), ..limits() };
        let served = Served::start(limits, &["127.0.0.0/8"]).await;
        let mut stream = TcpStream::connect(served.address).await.expect("a connection");
        stream.write_all(&proxy_header("198.51.100.7:4000")[..13]).await.expect("sent");
        assert!(is_closed(stream).await);
        served.refused("timeout").await;
    });
}

#[test]
fn a_connection_that_never_speaks_http_is_cut() {
    play(async {
        let limits = Limits { header: Duration::from_millis(100), ..limits() };
        let served = Served::start(limits, &[]).await;
        let own = served.application();
        let tls = pki::client_config(&trust(&served.authority), Some(&shown(&own))).expect("TLS");
        let stream = TcpStream::connect(served.address).await.expect("a connection");
        let mut stream =
            TlsConnector::from(tls).connect(pki::server_name(), stream).await.expect("a handshake");
        stream.write_all(b"PRI * HT").await.expect("sent");
        let mut bytes = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
        assert!(read.is_ok(), "the connection stays open");
    });
}

#[test]
fn beyond_the_limit_a_connection_is_closed_and_room_comes_back() {
    play(async {
        let served = Served::start(Limits { connections: 1, ..limits() }, &[]).await;
        let own = served.application();
        let mut first = served.client(Some(&own), Vec::new()).await.expect("room");
        first.clock(v1::ClockRequest {}).await.expect("an answer");
        let second = TcpStream::connect(served.address).await.expect("a connection");
        assert!(is_closed(second).await);
        served.refused("limit").await;
        drop(first);
        let again = async {
            while served.ask(&own, Vec::new()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, again).await.is_ok(), "no room came back");
    });
}

#[test]
fn one_address_cannot_take_all_the_room() {
    play(async {
        let limits = Limits { connections_per_address: 1, ..limits() };
        let served = Served::start(limits, &["127.0.0.0/8"]).await;
        let own = served.application();
        let greedy = proxy_header("198.51.100.7:4000");
        let mut first = served.client(Some(&own), greedy.clone()).await.expect("room");
        first.clock(v1::ClockRequest {}).await.expect("an answer");
        assert!(served.ask(&own, greedy).await.is_err());
        served.refused("address_limit").await;
        let other = served.ask(&own, proxy_header("198.51.100.8:4000")).await;
        assert_eq!(other.as_deref(), Ok("198.51.100.8"));
    });
}

/// It may hold as many connections as it takes to hear that it is gone, and no
/// longer than that takes; others are served all the while.
#[test]
fn a_node_that_is_gone_is_told_so_and_shown_out() {
    play(async {
        let bounds = Bounds::from(&limits());
        let asking = ClientAuth::Required;
        let served = Served::start_asking(asking, bounds, limits(), &[], Some(3)).await;
        let (gone, stays) = (served.node(3), served.node(2));
        let mut member = served.client(Some(&stays), Vec::new()).await.expect("a connection");
        let mut told = served.client(Some(&gone), Vec::new()).await.expect("a connection");
        let answer = told.clock(v1::ClockRequest {}).await.unwrap_err();
        assert!(answer.message().contains("node-3"), "it has its answer: {answer}");

        let limited = async {
            let mut silent = Vec::new();
            while !served.metrics.text().contains("reason=\"gone_limit\"") {
                silent.push(served.client(Some(&gone), Vec::new()).await);
            }
            silent
        };
        let silent = timeout(PATIENCE, limited).await.expect("a third connection is let in");
        let shown_out = async {
            while served.connections() > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, shown_out).await.expect("who says nothing stays");
        drop((told, silent));
        let answer = member.clock(v1::ClockRequest {}).await.unwrap_err();
        assert!(answer.message().contains("node-2"), "{answer}");
        assert_eq!(served.connections(), 1, "another node's connection stands");
    });
}

/// Calls beyond the limit of one connection wait their turn.
#[test]
fn one_connection_has_so_many_calls_at_once() {
    play(async {
        let limits = Limits { streams_per_connection: 2, ..limits() };
        let served = Served::start(limits, &[]).await;
        let own = served.application();
        let mut client = served.client(Some(&own), Vec::new()).await.expect("a connection");
        // Its answer tells the client of the limit.
        client.clock(v1::ClockRequest {}).await.expect("an answer");
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let mut client = client.clone();
            calls.spawn(async move { client.renew(v1::RenewRequest::default()).await });
        }
        let mut at_once = 0;
        while !calls.is_empty() {
            if let Ok(answer) = timeout(Duration::from_millis(5), calls.join_next()).await {
                answer.expect("a call").expect("ended").expect("an answer");
            }
            at_once = at_once.max(served.in_flight());
        }
        assert_eq!(at_once, 2);
    });
}

#[test]
fn a_message_beyond_the_limit_is_refused_in_words() {
    play(async {
        let served = Served::start(limits(), &[]).await;
        let own = served.application();
        let mut client = served.client(Some(&own), Vec::new()).await.expect("a connection");
        let holder = "h".repeat(300_000);
        let request = v1::AcquireRequest { holder, ..Default::default() };
        let status = client.acquire(request).await.expect_err("too long");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("262144 bytes"), "{}", status.message());
        let details = status.get_error_details();
        assert_eq!(details.error_info().expect("details").reason, "INVALID");
    });
}

#[test]
fn headers_beyond_the_limit_are_refused() {
    play(async {
        let served = Served::start(limits(), &[]).await;
        let own = served.application();
        let mut client = served.client(Some(&own), Vec::new()).await.expect("a connection");
        let mut request = Request::new(v1::ClockRequest {});
        request.metadata_mut().insert("x", "y".repeat(20_000).parse().expect("a value"));
        assert!(client.clock(request).await.is_err());
        client.clock(v1::ClockRequest {}).await.expect("the next call is answered");
    });
}

#[test]
fn when_leadership_moves_calls_end_and_connections_do_too() {
    play(async {
        let served = Served::start(limits(), &[]).await;
        let own = served.application();
        let mut client = served.client(Some(&own), Vec::new()).await.expect("a connection");
        client.clock(v1::ClockRequest {}).await.expect("an answer");
        let call = async { client.renew(v1::RenewRequest::default()).await };
        let moving = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            served.closer.move_on();
        };
        let (answer, ()) = tokio::join!(call, moving);
        answer.expect("a call that has begun ends well");
        let gone = async {
            while !served.metrics.text().contains("trine_connections{listener=\"client\"} 0") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, gone).await.is_ok(), "the connection stays");
        served.ask(&own, Vec::new()).await.expect("a new connection is welcome");
    });
}

#[test]
fn a_drain_finishes_what_began_and_lets_nobody_in() {
    play(async {
        let served = Served::start(limits(), &[]).await;
        let own = served.application();
        let mut client = served.client(Some(&own), Vec::new()).await.expect("a connection");
        client.clock(v1::ClockRequest {}).await.expect("an answer");
        let call = async { client.renew(v1::RenewRequest::default()).await };
        let draining = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            served.closer.drain();
        };
        let (answer, ()) = tokio::join!(call, draining);
        answer.expect("a call that has begun ends well");
        timeout(PATIENCE, served.serving).await.expect("the drain ends").expect("no panic");
        assert!(TcpStream::connect(served.address).await.is_err(), "the port is still open");
    });
}

#[test]
fn a_drain_does_not_wait_for_ever() {
    play(async {
        let limits = Limits { drain: Duration::from_millis(50), ..limits() };
        let served = Served::start(limits, &[]).await;
        let own = served.application();
        let mut client = served.client(Some(&own), Vec::new()).await.expect("a connection");
        client.clock(v1::ClockRequest {}).await.expect("an answer");
        let call = async { client.renew(v1::RenewRequest::default()).await };
        let draining = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            served.closer.drain();
        };
        let (answer, ()) = tokio::join!(call, draining);
        assert!(answer.is_err(), "a call of 300 ms outlasted a drain of 50 ms");
        timeout(PATIENCE, served.serving).await.expect("the drain ends").expect("no panic");
    });
}

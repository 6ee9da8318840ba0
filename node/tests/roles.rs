//! Who may call what: every call of the protocol times every kind of caller,
//! through the gate itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use node::api::gate::Gate;
use node::api::roles::CALLS;
use node::api::room::Place;
use node::config::{Config, Limits};
use node::identity::{Caller, Peer, Role, application, token_digest};
use node::telemetry::Metrics;
use pki::Fingerprint;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

const SECRET: &str = "trine_0123456789abcdef";

/// Every call of the client listener as the compiled protocol declares it:
/// service and name.
fn declared() -> BTreeSet<(String, String)> {
    let files = FileDescriptorSet::decode(wire::DESCRIPTORS).expect("descriptors").file;
    let ours = files.iter().filter(|file| file.package() == "trine.v1");
    let calls = ours.flat_map(|file| {
        file.service.iter().flat_map(|service| {
            let name = format!("{}.{}", file.package(), service.name());
            service.method.iter().map(move |method| (name.clone(), method.name().to_owned()))
        })
    });
    calls.collect()
}

fn limits() -> Limits {
    let example = include_str!("../../deploy/node.example.toml");
    Config::parse(example, "node.toml".as_ref()).expect("the example holds").limits
}

/// A gate with nothing behind it but a nod to whoever passes.
fn gate(limits: &Limits) -> Router {
    let nod = |request: Request<Body>| async move {
        let caller = request.extensions().get::<Caller>().expect("the gate adds the caller");
        Response::new(Body::from(caller.subject.to_string()))
    };
    let find_token = |digest: &[u8; 32]| {
        (*digest == token_digest(SECRET)).then(|| application("robot").expect("a name"))
    };
    let metrics = Arc::new(Metrics::new("embedded"));
    Gate::new(limits, metrics, find_token).guard(Router::new().fallback(nod))
}

/// What the gate says to one call.
async fn ask(identity: Option<&str>, token: Option<&str>, path: &str) -> Status {
    let identity = identity.map(|uri| uri.parse().expect("an identity"));
    let mut request = Request::post(path).body(Body::empty()).expect("a request");
    request.extensions_mut().insert(Peer {
        address: [127, 0, 0, 1].into(),
        identity,
        certificate: None,
    });
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("a header value");
        request.headers_mut().insert("authorization", value);
    }
    let response = gate(&limits()).oneshot(request).await.expect("an answer");
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(""))
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[test]
fn every_call_has_one_row() {
    let rows: Vec<_> =
        CALLS.iter().map(|call| (call.service.to_owned(), call.name.to_owned())).collect();
    let distinct: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(distinct.len(), rows.len(), "a call has two rows");
    assert_eq!(distinct, declared(), "api/roles.rs and wire/proto disagree");
    assert!(rows.len() > 16, "the declarations were not found");
}

#[tokio::test]
async fn each_role_makes_its_calls_and_no_others() {
    for (service, name) in declared() {
        let path = format!("/{service}/{name}");
        let is_licensing = service == "trine.v1.Licensing";

        let operator = ask(Some("trine://operator/ana"), None, &path).await;
        assert_eq!(operator.code(), Code::Ok, "operator {name}");

        for application in [
            ask(Some("trine://application/cad"), None, &path).await,
            ask(None, Some(SECRET), &path).await,
        ] {
            if is_licensing {
                assert_eq!(application.code(), Code::Ok, "application {name}");
            } else {
                assert_eq!(application.code(), Code::PermissionDenied, "application {name}");
                assert_eq!(reason(&application), "WRONG_ROLE");
            }
        }

        let peer = ask(Some("trine://peer/node-2"), None, &path).await;
        assert_eq!(peer.code(), Code::PermissionDenied, "peer {name}");
        assert_eq!(reason(&peer), "WRONG_ROLE");

        for nobody in [ask(None, None, &path).await, ask(None, Some("guess"), &path).await] {
            assert_eq!(nobody.code(), Code::Unauthenticated, "nobody {name}");
            assert_eq!(reason(&nobody), "NO_IDENTITY");
        }
    }
}

/// The connection stands; what it carries is refused from the next call on.
#[tokio::test]
async fn a_revoked_certificate_makes_no_call() {
    let shut_out = Fingerprint([7; 32]);
    let nod = |_: Request<Body>| async { Response::new(Body::empty()) };
    let metrics = Arc::new(Metrics::new("embedded"));
    let is_revoked = Arc::new(AtomicBool::new(false));
    let looked_up = is_revoked.clone();
    let routes = Gate::new(&limits(), metrics, |_| Some(application("robot").expect("a name")))
        .refusing(move |shown| *shown == shut_out && looked_up.load(Ordering::Relaxed))
        .guard(Router::new().fallback(nod));
    let ask = async |uri: &str, path: &str, certificate: Fingerprint| {
        let mut request = Request::post(path).body(Body::empty()).expect("a request");
        let identity = Some(uri.parse().expect("an identity"));
        let certificate = Some(certificate);
        let peer = Peer { address: [127, 0, 0, 1].into(), identity, certificate };
        request.extensions_mut().insert(peer);
        // A token beside it helps nobody who was shut out.
        let value = format!("Bearer {SECRET}").parse().expect("a header value");
        request.headers_mut().insert("authorization", value);
        let response = routes.clone().oneshot(request).await.expect("an answer");
        Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(""))
    };
    let asked = CALLS.iter().flat_map(|call| {
        let path = format!("/{}/{}", call.service, call.name);
        let roles = call.roles.iter().map(|role| match role {
            Role::Application => "trine://application/cad",
            Role::Operator => "trine://operator/ana",
        });
        roles.map(move |uri| (uri, path.clone())).collect::<Vec<_>>()
    });
    for (uri, path) in asked {
        is_revoked.store(false, Ordering::Relaxed);
        assert_eq!(ask(uri, &path, shut_out).await.code(), Code::Ok);
        is_revoked.store(true, Ordering::Relaxed);
        let refused = ask(uri, &path, shut_out).await;
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(reason(&refused), "CERTIFICATE_REVOKED");
        assert_eq!(ask(uri, &path, Fingerprint([8; 32])).await.code(), Code::Ok, "its new one");
    }
}

#[tokio::test]
async fn a_call_that_does_not_exist_is_nobodys() {
    for path in ["/trine.v1.Cluster/Destroy", "/trine.v1.Nothing/Acquire", "/", "/metrics"] {
        let status = ask(Some("trine://operator/ana"), None, path).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
}

/// Beyond the limit of calls at once a call is refused, definitely not done.
#[tokio::test]
async fn a_node_that_is_full_says_so() {
    let limits = Limits { in_flight: 1, ..limits() };
    let (entered, mut has_entered) = tokio::sync::mpsc::channel::<()>(1);
    let wait = move |_: Request<Body>| {
        let entered = entered.clone();
        async move {
            entered.send(()).await.expect("the test listens");
            std::future::pending::<Response<Body>>().await
        }
    };
    let metrics = Arc::new(Metrics::new("embedded"));
    let routes = Gate::new(&limits, metrics.clone(), |_| None).guard(Router::new().fallback(wait));
    let call = || {
        let mut request =
            Request::post("/trine.v1.Licensing/Renew").body(Body::empty()).expect("a request");
        let identity = "trine://application/cad".parse().expect("an identity");
        let peer =
            Peer { address: [127, 0, 0, 1].into(), identity: Some(identity), certificate: None };
        request.extensions_mut().insert(peer);
        routes.clone().oneshot(request)
    };
    let first = tokio::spawn(call());
    has_entered.recv().await.expect("the first call is inside");
    let second = call().await.expect("an answer");
    let status = Status::from_header_map(second.headers()).expect("a refusal");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason(&status), "OVERLOADED");
    first.abort();
    assert!(first.await.is_err());
    let text = metrics.text();
    assert!(text.contains("trine_calls_turned_away_total{reason=\"OVERLOADED\"} 1"), "{text}");
    assert!(text.contains("trine_requests_in_flight 0"), "{text}");
}

/// Nobody holds a place for ever by sending half a request.
#[tokio::test(start_paused = true)]
async fn a_call_whose_answer_never_comes_is_ended() {
    let never = |_: Request<Body>| std::future::pending::<Response<Body>>();
    let metrics = Arc::new(Metrics::new("embedded"));
    let routes =
        Gate::new(&limits(), metrics.clone(), |_| None).guard(Router::new().fallback(never));
    let mut request =
        Request::post("/trine.v1.Licensing/Renew").body(Body::empty()).expect("a request");
    let identity = Some("trine://application/cad".parse().expect("an identity"));
    let peer = Peer { address: [127, 0, 0, 1].into(), identity, certificate: None };
    request.extensions_mut().insert(peer);
    let answer = tokio::time::timeout(Duration::from_secs(31), routes.oneshot(request)).await;
    let answer = answer.expect("it is ended").expect("an answer");
    let status = Status::from_header_map(answer.headers()).expect("a refusal");
    assert_eq!(reason(&status), "OUTCOME_UNKNOWN", "{status:?}");
    assert!(metrics.text().contains("trine_requests_in_flight 0"), "{}", metrics.text());
}

/// A call that is held open gives its place back to others, and when those held
/// open are as many as may be, the next is answered at once.
#[tokio::test]
async fn who_waits_for_a_seat_keeps_nobody_out() {
    let limits = Limits { in_flight: 2, ..limits() };
    let (holding, mut is_holding) = tokio::sync::mpsc::channel::<()>(1);
    let wait = move |request: Request<Body>| {
        let holding = holding.clone();
        async move {
            let place = request.extensions().get::<Place>().expect("the gate adds the place");
            let Some(_held) = place.hold_open() else { return Response::new(Body::empty()) };
            holding.send(()).await.expect("the test listens");
            std::future::pending().await
        }
    };
    let metrics = Arc::new(Metrics::new("embedded"));
    let routes = Gate::new(&limits, metrics, |_| None).guard(Router::new().fallback(wait));
    let call = || {
        let mut request =
            Request::post("/trine.v1.Licensing/Acquire").body(Body::empty()).expect("a request");
        let identity = "trine://application/cad".parse().expect("an identity");
        let peer =
            Peer { address: [127, 0, 0, 1].into(), identity: Some(identity), certificate: None };
        request.extensions_mut().insert(peer);
        routes.clone().oneshot(request)
    };
    let first = tokio::spawn(call());
    is_holding.recv().await.expect("the first call is held open");
    for _ in 0..3 {
        let answer = call().await.expect("an answer");
        assert!(Status::from_header_map(answer.headers()).is_none(), "answered at once, and well");
    }
    first.abort();
    assert!(first.await.is_err());
    let again = tokio::spawn(call());
    is_holding.recv().await.expect("there is room again");
    again.abort();
}

/// A token issued a moment ago works at a node that has not applied that yet;
/// at one that has, an unknown token is refused at once.
#[tokio::test(start_paused = true)]
async fn a_token_on_its_way_is_waited_for() {
    let nod = |_: Request<Body>| async { Response::new(Body::empty()) };
    let ask = async |lag: Duration, may_lag: bool| {
        let issued = Instant::now();
        let find_token = move |_: &[u8; 32]| {
            (issued.elapsed() >= lag).then(|| application("robot").expect("a name"))
        };
        let metrics = Arc::new(Metrics::new("embedded"));
        let gate = Gate::new(&limits(), metrics, find_token).waiting_while(move || may_lag);
        let mut request =
            Request::post("/trine.v1.Licensing/Clock").body(Body::empty()).expect("a request");
        request.extensions_mut().insert(Peer {
            address: [127, 0, 0, 1].into(),
            identity: None,
            certificate: None,
        });
        let value = format!("Bearer {SECRET}").parse().expect("a header value");
        request.headers_mut().insert("authorization", value);
        let routes = gate.guard(Router::new().fallback(nod));
        let response = routes.oneshot(request).await.expect("an answer");
        (Status::from_header_map(response.headers()).map(|status| status.code()), issued.elapsed())
    };
    let (refused, took) = ask(Duration::from_millis(300), false).await;
    assert_eq!((refused, took), (Some(Code::Unauthenticated), Duration::ZERO));
    let (answered, _) = ask(Duration::from_millis(300), true).await;
    assert_eq!(answered, None, "it came while the node waited");
    let (refused, took) = ask(Duration::from_secs(60), true).await;
    assert_eq!(refused, Some(Code::Unauthenticated));
    assert!(took < Duration::from_secs(1), "the wait is a short one: {took:?}");
}

//! A client listener that is served, a service that echoes, and its callers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use node::api::gate::Gate;
use node::clock::{Clock, SystemClock};
use node::config::{Config, Limits, Network};
use node::identity::{Peer, application, token_digest};
use node::incoming::{Door, Slots, TlsIncoming};
use node::serve::{Bounds, Closer, closing, serve};
use node::telemetry::{Listener, Metrics};
use pki::{Authority, ClientAuth, Credentials, Issued, Pem, Shown, Trust, UnixTime, Validity};
use ppp::v2::{Builder, Command, Protocol, Version};
use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use wire::v1;
use wire::v1::licensing_client::LicensingClient;
use wire::v1::licensing_server::{Licensing, LicensingServer};

/// Long enough for anything here, so that a test that would hang fails instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The one bearer token there is.
pub(crate) const SECRET: &str = "trine_0123456789abcdef";

/// Answers a clock with the address its caller is taken for; grants nothing.
struct Echo;

#[tonic::async_trait]
impl Licensing for Echo {
    async fn clock(
        &self,
        request: Request<v1::ClockRequest>,
    ) -> Result<Response<v1::ClockReply>, Status> {
        let peer = request.extensions().get::<Peer>().expect("every request has one");
        let subject = peer.address.to_string();
        Ok(Response::new(v1::ClockReply { cluster_time_ms: 0, subject }))
    }

    async fn acquire(
        &self,
        _: Request<v1::AcquireRequest>,
    ) -> Result<Response<v1::AcquireReply>, Status> {
        Ok(Response::new(v1::AcquireReply::default()))
    }

    async fn renew(
        &self,
        _: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewReply>, Status> {
        // Long enough that a closing connection finds it under way.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(Response::new(v1::RenewReply::default()))
    }

    async fn release(
        &self,
        _: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseReply>, Status> {
        Ok(Response::new(v1::ReleaseReply::default()))
    }

    async fn cancel(
        &self,
        _: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelReply>, Status> {
        Ok(Response::new(v1::CancelReply::default()))
    }
}

pub(crate) fn validity() -> Validity {
    let now = u64::try_from(SystemClock.wall().0).expect("after 1970");
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now));
    Validity::starting(now, Duration::from_secs(3_600))
}

pub(crate) fn limits() -> Limits {
    let example = include_str!("../../../deploy/node.example.toml");
    Config::parse(example, "node.toml".as_ref()).expect("the example holds").limits
}

pub(crate) fn credentials(ca: &Authority, issued: &Issued) -> Credentials {
    Credentials::parse(
        Pem::new("ca.pem", ca.pem().certificate_pem.as_bytes()),
        Pem::new("cert.pem", issued.certificate_pem.as_bytes()),
        Pem::new("key.pem", issued.key_pem.as_bytes()),
    )
    .expect("credentials")
}

pub(crate) fn trust(authority: &Authority) -> Trust {
    Trust::new(std::slice::from_ref(authority.ca())).expect("a CA")
}

pub(crate) fn shown(own: &Credentials) -> Shown {
    Shown::new(own).expect("a pair")
}

/// A served listener on loopback.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) closer: Closer,
    pub(crate) serving: tokio::task::JoinHandle<()>,
}

impl Served {
    pub(crate) async fn start(limits: Limits, proxies: &[&str]) -> Self {
        let bounds = Bounds::from(&limits);
        Self::start_within(bounds, limits, proxies).await
    }

    pub(crate) async fn start_within(bounds: Bounds, limits: Limits, proxies: &[&str]) -> Self {
        Self::start_asking(ClientAuth::Optional, bounds, limits, proxies, None).await
    }

    pub(crate) async fn start_asking(
        auth: ClientAuth,
        bounds: Bounds,
        limits: Limits,
        proxies: &[&str],
        gone: Option<u64>,
    ) -> Self {
        let authority = Authority::create("works", validity()).expect("an authority");
        let trust = trust(&authority);
        trust.tell(gone.into_iter().collect());
        let issued = authority.issue_node(1, &[], validity()).expect("a certificate");
        let own = credentials(&authority, &issued);
        let metrics = Arc::new(Metrics::new("embedded"));
        let door = Door {
            tls: pki::server_config(&trust, &shown(&own), auth).expect("TLS"),
            proxies: proxies.iter().map(|text| Network::parse(text).expect("a network")).collect(),
            handshake: limits.handshake,
            cuts_off: gone.map(|_| trust.clone()),
            slots: Slots::new(
                Listener::Client,
                limits.connections,
                limits.connections_per_address,
                metrics.clone(),
            ),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let service = LicensingServer::new(Echo)
            .max_decoding_message_size(limits.request_bytes.try_into().expect("a size"));
        let routes = tonic::service::Routes::new(service).into_axum_router();
        let routes = Gate::new(&limits, metrics.clone(), |digest| {
            let known = *digest == token_digest(SECRET);
            known.then(|| application("robot").expect("a name"))
        })
        .guard(routes);
        let (closer, closing) = closing();
        let incoming = TlsIncoming::new(listener, door);
        let serving = node::raft::spawn(serve(incoming, routes, bounds, closing));
        Self { address, authority, metrics, closer, serving }
    }

    pub(crate) fn node(&self, id: u64) -> Credentials {
        let issued = self.authority.issue_node(id, &[], validity()).expect("a certificate");
        credentials(&self.authority, &issued)
    }

    pub(crate) fn application(&self) -> Credentials {
        let issued = self.authority.issue_application("cad", validity()).expect("a certificate");
        credentials(&self.authority, &issued)
    }

    /// A client that shows `own`, and sends `first` before it shakes hands.
    pub(crate) async fn client(
        &self,
        own: Option<&Credentials>,
        first: Vec<u8>,
    ) -> Result<LicensingClient<Channel>, tonic::transport::Error> {
        let own = own.map(shown);
        let tls = pki::client_config(&trust(&self.authority), own.as_ref()).expect("TLS");
        self.client_over(tls, first).await
    }

    /// The same, with a TLS of the test's own making.
    pub(crate) async fn client_over(
        &self,
        tls: Arc<ClientConfig>,
        first: Vec<u8>,
    ) -> Result<LicensingClient<Channel>, tonic::transport::Error> {
        let tls = TlsConnector::from(tls);
        let address = self.address;
        let connector = tower::service_fn(move |_| {
            let (tls, first) = (tls.clone(), first.clone());
            async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(&first).await?;
                tls.connect(pki::server_name(), stream).await.map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://trine").timeout(PATIENCE);
        endpoint.connect_with_connector(connector).await.map(LicensingClient::new)
    }

    /// Who a caller with this certificate and these first bytes is taken for.
    pub(crate) async fn ask(&self, own: &Credentials, first: Vec<u8>) -> Result<String, String> {
        let mut client =
            self.client(Some(own), first).await.map_err(|error| format!("{error:?}"))?;
        let reply = client.clock(v1::ClockRequest {}).await;
        reply.map(|reply| reply.into_inner().subject).map_err(|status| format!("{status:?}"))
    }

    /// Calls being answered.
    pub(crate) fn in_flight(&self) -> u32 {
        let text = self.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix("trine_requests_in_flight "));
        line.and_then(|figure| figure.parse().ok()).expect("the figure is shown")
    }

    /// Connections open.
    pub(crate) fn connections(&self) -> u32 {
        let text = self.metrics.text();
        let prefix = "trine_connections{listener=\"client\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(prefix));
        line.and_then(|figure| figure.parse().ok()).expect("the figure is shown")
    }

    /// Waits until the door has counted a refusal for `reason`.
    pub(crate) async fn refused(&self, reason: &str) {
        let line =
            format!("trine_connections_refused_total{{listener=\"client\",reason=\"{reason}\"}} ");
        let counted = async {
            while !self.metrics.text().contains(&line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, counted).await;
        assert!(waited.is_ok(), "no refusal for {reason}:\n{}", self.metrics.text());
    }
}

/// Runs `story` as a node runs: with a seed for whatever might touch Raft.
pub(crate) fn play(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let played = timeout(3 * PATIENCE, node::raft::seeded(7, story)).await;
        played.expect("the story ended");
    });
}

pub(crate) fn proxy_header(source: &str) -> Vec<u8> {
    let source: SocketAddr = source.parse().expect("an address");
    let to: SocketAddr = "192.0.2.1:22450".parse().expect("an address");
    Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, (source, to))
        .build()
        .expect("a header")
}

//! How a connection comes about: TLS over TCP in production; a simulator or a
//! test brings its own.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use pki::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::endpoints::Endpoint;
use crate::identity::Files;

/// A byte stream to a node.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// What [`Connector::connect`] returns.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Opens connections. Deadlines are the caller's: a connect may hang.
pub trait Connector: Send + Sync + 'static {
    /// Opens one to `endpoint`, ready for HTTP/2.
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a>;
}

/// TLS over TCP. The server must show the cluster's name, whatever address was dialed.
pub struct Tls {
    config: TlsConnector,
    name: ServerName<'static>,
    /// What the configuration shows and believes, where that is in files.
    files: Option<Files>,
}

impl Tls {
    /// Dials with this configuration, which says whom to trust and who we are.
    pub fn new(config: Arc<rustls::ClientConfig>) -> Self {
        Self { config: config.into(), name: pki::server_name(), files: None }
    }

    /// Dials with what these files hold at that moment.
    pub(crate) fn from_files(files: Files) -> Result<Self, pki::CredentialError> {
        let config = pki::client_config(&files.trust, files.shown.as_ref())?;
        Ok(Self { files: Some(files), ..Self::new(config) })
    }
}

impl Connector for Tls {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            self.files.iter().for_each(Files::refresh);
            let tcp = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
            tcp.set_nodelay(true)?;
            let tls = self.config.connect(self.name.clone(), tcp).await?;
            Ok(Box::new(tls) as Box<dyn Stream>)
        })
    }
}

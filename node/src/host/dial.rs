//! How a node reaches the others: TCP, and TLS that proves which node it is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pki::{Fingerprint, Trust};
use rustls::{CertificateError, ClientConfig, Error};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::guarded::Guarded;
use crate::peers::{Dial, Dialing, Stream};

/// Connecting and shaking hands with a node that is up takes a fraction of this.
const DIAL_MAX: Duration = Duration::from_secs(1);

/// Dials a peer by TCP and makes sure by TLS that it is that very node.
pub(super) struct TlsDial {
    tls: TlsConnector,
    trust: Trust,
}

impl TlsDial {
    pub(super) fn new(tls: Arc<ClientConfig>, trust: Trust) -> Self {
        Self { tls: tls.into(), trust }
    }
}

/// A handshake that failed because another stands at the address than was looked
/// for there, in words for who wrote the address down.
fn in_words(error: io::Error, id: u64, address: &str) -> io::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let who = match tls {
        Some(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) => {
            let names = presented.iter().filter_map(|name| name.split('"').nth(1));
            let nodes = names.filter(|name| name.starts_with("node-")).collect::<Vec<_>>();
            match &nodes[..] {
                [] => "a certificate that names no node".to_owned(),
                nodes => nodes.join(", "),
            }
        }
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "a certificate of a CA that this cluster does not trust".to_owned()
        }
        _ => return error,
    };
    let what = format!(
        "{who} answers at {address}, where node-{id} was looked for: correct the address, or the certificate that is shown there"
    );
    io::Error::new(error.kind(), what)
}

impl Dial for TlsDial {
    fn dial(&self, id: u64, address: &str) -> Dialing {
        let (tls, trust, address) = (self.tls.clone(), self.trust.clone(), address.to_owned());
        Box::pin(async move {
            let dialing = async {
                let stream = TcpStream::connect(&address).await?;
                stream.set_nodelay(true)?;
                let proved = tls.connect(pki::node_server_name(id), stream).await;
                let stream = proved.map_err(|error| in_words(error, id, &address))?;
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let shown = shown.map(Fingerprint::of).ok_or(io::ErrorKind::PermissionDenied)?;
                Ok(Box::new(Guarded::new(stream, Some((shown, trust)))) as Box<dyn Stream>)
            };
            tokio::time::timeout(DIAL_MAX, dialing).await.unwrap_or_else(|_| {
                let what = format!("{address} did not finish a handshake in time");
                Err(io::Error::new(io::ErrorKind::TimedOut, what))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use pki::{Authority, ClientAuth, Credentials, Pem, Shown, UnixTime, Validity};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn validity() -> Validity {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        Validity::starting(now, Duration::from_secs(3_600))
    }

    fn of_node(ca: &Authority, id: u64) -> (Trust, Shown) {
        let issued = ca.issue_node(id, &[], validity()).expect("a certificate");
        let own = Credentials::parse(
            Pem::new("ca.pem", ca.pem().certificate_pem.as_bytes()),
            Pem::new("cert.pem", issued.certificate_pem.as_bytes()),
            Pem::new("key.pem", issued.key_pem.as_bytes()),
        );
        let trust = Trust::new(std::slice::from_ref(ca.ca())).expect("a CA");
        trust.date_is(UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000)));
        (trust, Shown::new(&own.expect("credentials")).expect("a pair"))
    }

    /// What node 1 hears that looks for node `wanted` where node 2 of `theirs` is.
    async fn said(ours: &Authority, theirs: &Authority, wanted: u64) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (trust, shown) = of_node(theirs, 2);
        let tls = pki::server_config(&trust, &shown, ClientAuth::Required).expect("TLS");
        let serving = async {
            let (stream, _) = listener.accept().await.expect("a caller");
            drop(TlsAcceptor::from(tls).accept(stream).await);
        };
        let (trust, shown) = of_node(ours, 1);
        let tls = pki::client_config(&trust, Some(&shown)).expect("TLS");
        let dial = TlsDial::new(tls, trust);
        let (dialed, ()) = tokio::join!(dial.dial(wanted, &address), serving);
        dialed.map(drop).map_err(|error| error.to_string().replace(&address, "THERE"))
    }

    #[tokio::test]
    async fn who_is_found_instead_of_a_node_is_named() {
        let [ours, theirs] = ["ours", "theirs"].map(|name| Authority::create(name, validity()));
        let (ours, theirs) = (ours.expect("a CA"), theirs.expect("a CA"));
        assert_eq!(said(&ours, &ours, 2).await, Ok(()));
        let another = said(&ours, &ours, 4).await.unwrap_err();
        assert!(another.starts_with("node-2 answers at THERE, where node-4 was looked for"));
        let stranger = said(&ours, &theirs, 2).await.unwrap_err();
        assert!(stranger.contains("of a CA that this cluster does not trust answers at THERE"));
        assert!(stranger.contains("correct the address"), "{stranger}");
    }
}

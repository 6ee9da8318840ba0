//! Who is believed, and who we say we are: the environment, TLS and tokens.

use std::path::Path;
use std::time::Duration;

use pki::{Authority, ClientAuth, Credentials, Issued, Pem, Shown, Trust, UnixTime, Validity};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use trine_client::testing::{FakeCluster, Fault};
use trine_client::{AcquireError, Client, Endpoint, Options, Reason};

use crate::support::comes_true;

fn validity() -> Validity {
    Validity::starting(UnixTime::now(), Duration::from_secs(3_600))
}

fn authority() -> Authority {
    Authority::create("test cluster", validity()).unwrap()
}

/// A cluster whose node shows a certificate of this authority.
async fn cluster(authority: &Authority, client_auth: ClientAuth) -> FakeCluster {
    let node = authority.issue_node(1, &[], validity()).unwrap();
    let credentials = Credentials::parse(
        Pem::new("ca", authority.pem().certificate_pem.as_bytes()),
        Pem::new("certificate", node.certificate_pem.as_bytes()),
        Pem::new("key", node.key_pem.as_bytes()),
    )
    .unwrap();
    let trust = Trust::new(std::slice::from_ref(authority.ca())).unwrap();
    let shown = Shown::new(&credentials).unwrap();
    let config = pki::server_config(&trust, &shown, client_auth).unwrap();
    let cluster = FakeCluster::start_tls(1, config).await.unwrap();
    cluster.sell("cad-pro", 1);
    cluster
}

/// The environment of an application, with its files in `dir`.
fn environment(
    dir: &Path,
    host: &Endpoint,
    ca: &Authority,
    own: Option<Issued>,
    token: Option<&str>,
) -> Options {
    let file = |name: &str, contents: &str| {
        let path = dir.join(name);
        std::fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut vars = vec![
        ("TRINE_HOST", host.to_string()),
        ("TRINE_CA", file("ca.pem", &ca.pem().certificate_pem)),
    ];
    if let Some(own) = own {
        vars.push(("TRINE_CERT", file("own.pem", &own.certificate_pem)));
        vars.push(("TRINE_KEY", file("own.key", &own.key_pem)));
    }
    if let Some(token) = token {
        vars.push(("TRINE_TOKEN_FILE", file("token", token)));
    }
    let var =
        |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
    Options::from_vars(var).unwrap()
}

#[tokio::test]
async fn an_application_with_a_certificate_takes_a_seat() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), authority());
    let cluster = cluster(&authority, ClientAuth::Required).await;
    let own = authority.issue_application("press-4", validity()).unwrap();
    let options = environment(dir.path(), &cluster.endpoints()[0], &authority, Some(own), None);
    let client = Client::connect(options).await.unwrap();
    client.acquire("cad-pro").send().await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_bearer_token_goes_with_every_call() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), authority());
    let cluster = cluster(&authority, ClientAuth::Optional).await;
    let options =
        environment(dir.path(), &cluster.endpoints()[0], &authority, None, Some("s3cret\n"));
    let client = Client::connect(options).await.unwrap();
    assert_eq!(client.whoami().await.unwrap().subject, "Bearer s3cret");
}

/// Who renews a token replaces the file; the next connection shows what is in
/// it then.
#[tokio::test]
async fn a_renewed_token_is_shown_by_the_next_connection() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), authority());
    let cluster = cluster(&authority, ClientAuth::Optional).await;
    let host = &cluster.endpoints()[0];
    let options = environment(dir.path(), host, &authority, None, Some("first"));
    let client = Client::connect(options.clone()).await.unwrap();
    assert_eq!(client.whoami().await.unwrap().subject, "Bearer first");
    std::fs::write(dir.path().join("token"), "second\n").unwrap();
    assert_eq!(client.whoami().await.unwrap().subject, "Bearer first", "the connection stands");
    let anew = Client::connect(options.clone()).await.unwrap();
    assert_eq!(anew.whoami().await.unwrap().subject, "Bearer second");
    std::fs::write(dir.path().join("token"), "").unwrap();
    let anew = Client::connect(options).await.unwrap();
    assert_eq!(anew.whoami().await.unwrap().subject, "Bearer second", "the last good one");
}

/// Half a pair is not shown.
#[tokio::test]
async fn a_new_ca_and_certificate_are_taken_up_together() {
    let (dir, old, new) = (tempfile::tempdir().unwrap(), authority(), authority());
    let cluster = cluster(&new, ClientAuth::Required).await;
    let own = old.issue_application("press-4", validity()).unwrap();
    let options = environment(dir.path(), &cluster.endpoints()[0], &old, Some(own), None);
    let renewed = new.issue_application("press-4", validity()).unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("ca.pem", &new.pem().certificate_pem);
    write("own.pem", &renewed.certificate_pem);
    let client = Client::connect(options.patience(Duration::from_millis(200))).await.unwrap();
    let half = client.whoami().await.unwrap_err();
    assert_eq!(half.failure().reason, Reason::Untrusted, "the old CA with the old pair");
    write("own.key", &renewed.key_pem);
    client.whoami().await.expect("the files hold again");
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_believed() {
    let (dir, authority, stranger) = (tempfile::tempdir().unwrap(), authority(), authority());
    let cluster = cluster(&stranger, ClientAuth::Optional).await;
    let options =
        environment(dir.path(), &cluster.endpoints()[0], &authority, None, Some("s3cret"));
    let client = Client::connect(options).await.unwrap();
    let error = client.acquire("cad-pro").send().await.unwrap_err();
    assert!(matches!(error, AcquireError::NotDone(_)), "{error}");
    assert_eq!(error.reason(), Reason::Untrusted);
    assert_eq!(cluster.calls(0), 0);
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_says_so_at_once() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), authority());
    let cluster = cluster(&authority, ClientAuth::Required).await;
    let options = environment(dir.path(), &cluster.endpoints()[0], &authority, None, None);
    let client = Client::connect(options).await.unwrap();
    let error = client.acquire("cad-pro").send().await.unwrap_err();
    assert!(matches!(error, AcquireError::NotDone(_)), "{error}");
    assert_eq!(error.reason(), Reason::CertificateRefused, "{error}");
}

/// Carries bytes between a client and `server`; while told to garble, slips
/// what no key fits into what the client sends.
async fn garbling_relay(server: Endpoint, garble: watch::Receiver<bool>) -> Endpoint {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let here = Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect((server.host(), server.port())).await.unwrap();
            tokio::spawn(relay(client, server, garble.clone()));
        }
    });
    here
}

async fn relay(client: TcpStream, server: TcpStream, mut garble: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::io::copy(&mut from_server, &mut to_client);
    let requests = async {
        tokio::select! {
            _ = tokio::io::copy(&mut from_client, &mut to_server) => return,
            _ = garbling(&mut garble) => {}
        }
        let record = [&[0x17, 3, 3, 0, 32][..], &[0xAA; 32]].concat();
        let _ = to_server.write_all(&record).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = answers => {}
        () = requests => {}
    }
}

/// Resolves a while after the garbling has begun, when a request is on its way.
async fn garbling(garble: &mut watch::Receiver<bool>) {
    if garble.wait_for(|garble| *garble).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// The server cannot read on and sends an alert, after it took the seat. That
/// is a doubt, not a closed door.
#[tokio::test]
async fn garbage_on_the_way_after_a_grant_leaves_a_doubt_and_no_seat() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), authority());
    let cluster = cluster(&authority, ClientAuth::Required).await;
    let garble = watch::Sender::new(false);
    let host = garbling_relay(cluster.endpoints()[0].clone(), garble.subscribe()).await;
    let own = authority.issue_application("press-4", validity()).unwrap();
    let options = environment(dir.path(), &host, &authority, Some(own), None);
    let client = Client::connect(options).await.unwrap();
    client.whoami().await.unwrap();

    cluster.always(0, Some(Fault::HangAfter));
    let acquire = client.acquire("cad-pro").patience(Duration::from_secs(1));
    let asking = tokio::spawn(acquire.send());
    comes_true(|| cluster.seats_held("cad-pro") == 1).await;
    garble.send_replace(true);
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(error, AcquireError::Unknown { .. }), "{error:?}");

    garble.send_replace(false);
    cluster.always(0, None);
    comes_true(|| cluster.seats_held("cad-pro") == 0).await;
    assert_eq!(cluster.grants(), 1);
}

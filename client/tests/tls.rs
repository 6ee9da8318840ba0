//! Who is believed, and who we say we are: the environment, TLS and tokens.

use std::path::Path;
use std::time::Duration;

use pki::{Authority, ClientAuth, Credentials, Issued, Pem, UnixTime, Validity};
use trine_client::testing::FakeCluster;
use trine_client::{AcquireError, Client, Options, Reason};

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
    let config = pki::server_config(&credentials, client_auth).unwrap();
    let cluster = FakeCluster::start_tls(1, config).await.unwrap();
    cluster.sell("cad-pro", 1);
    cluster
}

/// The environment of an application, with its files in `dir`.
fn environment(
    dir: &Path,
    cluster: &FakeCluster,
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
        ("TRINE_HOST", cluster.endpoints()[0].to_string()),
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
    let options = environment(dir.path(), &cluster, &authority, Some(own), None);
    let client = Client::connect(options).await.unwrap();
    client.acquire("cad-pro").send().await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_bearer_token_goes_with_every_call() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), authority());
    let cluster = cluster(&authority, ClientAuth::Optional).await;
    let options = environment(dir.path(), &cluster, &authority, None, Some("s3cret\n"));
    let client = Client::connect(options).await.unwrap();
    assert_eq!(client.whoami().await.unwrap().subject, "Bearer s3cret");
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_believed() {
    let (dir, authority, stranger) = (tempfile::tempdir().unwrap(), authority(), authority());
    let cluster = cluster(&stranger, ClientAuth::Optional).await;
    let options = environment(dir.path(), &cluster, &authority, None, Some("s3cret"));
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
    let options = environment(dir.path(), &cluster, &authority, None, None);
    let client = Client::connect(options).await.unwrap();
    let error = client.acquire("cad-pro").send().await.unwrap_err();
    assert!(matches!(error, AcquireError::NotDone(_)), "{error}");
    assert_eq!(error.reason(), Reason::Untrusted, "{error}");
}

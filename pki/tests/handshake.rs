//! Real handshakes over a stream in memory: who gets through, and who does not.

use std::sync::Arc;
use std::time::Duration;

use pki::{
    Authority, Ca, ClientAuth, Credentials, Identity, Issued, NotAPeer, Pem, ServerName, Shown,
    Trust, UnixTime, Validity, caller_of, client_config, node_server_name, peer_of, server_config,
    server_name,
};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// From 1970 to 2100: whatever the test machine's clock says.
const ALWAYS: Validity = Validity { not_before: at(0), not_after: at(4_102_444_800) };
const LONG_AGO: Validity = Validity { not_before: at(0), not_after: at(86_400) };

const FAR_AHEAD: Validity =
    Validity { not_before: at(4_102_358_400), not_after: at(4_102_444_800) };

const fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn authority() -> Authority {
    Authority::create("test CA", ALWAYS).expect("an authority")
}

fn credentials(ca: &Authority, pair: Issued) -> Credentials {
    Credentials::parse(
        Pem::new("ca.pem", ca.pem().certificate_pem.as_bytes()),
        Pem::new("own.pem", pair.certificate_pem.as_bytes()),
        Pem::new("own.key", pair.key_pem.as_bytes()),
    )
    .expect("credentials")
}

fn node(ca: &Authority, id: u64) -> Credentials {
    credentials(ca, ca.issue_node(id, &[], ALWAYS).expect("issued"))
}

fn application(ca: &Authority) -> Credentials {
    credentials(ca, ca.issue_application("cad", ALWAYS).expect("issued"))
}

fn serving(own: &Credentials, auth: ClientAuth) -> Arc<ServerConfig> {
    server_config(&trust(own.ca()), &shown(own), auth).expect("a server configuration")
}

fn dialing(ca: &Authority, own: Option<&Credentials>) -> Arc<ClientConfig> {
    let shown = own.map(shown);
    client_config(&trust(ca.ca()), shown.as_ref()).expect("a client configuration")
}

fn trust(ca: &Ca) -> Trust {
    Trust::new(std::slice::from_ref(ca)).expect("a CA")
}

fn shown(own: &Credentials) -> Shown {
    Shown::new(own).expect("a pair")
}

/// What each side knows once a byte went each way.
struct Met {
    caller: Option<Identity>,
    peer: Result<u64, NotAPeer>,
    protocol: Option<Vec<u8>>,
}

/// Shakes hands and passes one byte each way; the first error of either side.
async fn meet(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Met, String> {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let serve = async move {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.flush().await?;
        let (_, connection) = stream.get_ref();
        let shown = connection.peer_certificates();
        std::io::Result::Ok(Met {
            caller: caller_of(shown).expect("a readable certificate"),
            peer: peer_of(shown),
            protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
        })
    };
    let call = async move {
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.write_u8(7).await?;
        stream.flush().await?;
        stream.read_u8().await
    };
    let (served, called) = tokio::join!(serve, call);
    match (served, called) {
        (Ok(met), Ok(7)) => Ok(met),
        (Ok(_), other) => Err(format!("client: {other:?}")),
        (Err(served), called) => Err(format!("server: {served}; client: {called:?}")),
    }
}

/// The error of a meeting that must fail, which must say so in these words.
async fn refused(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
    says: &str,
) {
    let error = meet(server, client, name).await.err().expect("the handshake went through");
    assert!(error.contains(says), "{error:?} does not say {says:?}");
}

#[tokio::test]
async fn an_application_meets_a_node_and_is_known_by_name() {
    let ca = authority();
    let server = serving(&node(&ca, 1), ClientAuth::Optional);
    let met = meet(server, dialing(&ca, Some(&application(&ca))), server_name()).await;
    let met = met.expect("a handshake");
    assert_eq!(met.caller.expect("a caller").to_string(), "trine://application/cad");
    assert_eq!(met.protocol.as_deref(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn a_caller_with_a_bearer_token_needs_no_certificate() {
    let ca = authority();
    let server = serving(&node(&ca, 1), ClientAuth::Optional);
    let met = meet(server, dialing(&ca, None), server_name()).await.expect("a handshake");
    assert_eq!(met.caller, None);
}

#[tokio::test]
async fn peers_know_one_another_by_number() {
    let ca = authority();
    let server = serving(&node(&ca, 2), ClientAuth::Required);
    let met = meet(server, dialing(&ca, Some(&node(&ca, 1))), node_server_name(2)).await;
    assert_eq!(met.expect("a handshake").peer, Ok(1));
}

#[tokio::test]
async fn an_application_is_no_peer() {
    let ca = authority();
    let server = serving(&node(&ca, 2), ClientAuth::Required);
    let met = meet(server, dialing(&ca, Some(&application(&ca))), node_server_name(2)).await;
    assert!(matches!(met.expect("a handshake").peer, Err(NotAPeer::Other(_))));
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_refused() {
    let ca = authority();
    let server = serving(&node(&ca, 2), ClientAuth::Required);
    refused(server, dialing(&ca, None), node_server_name(2), "peer sent no certificates").await;
}

#[tokio::test]
async fn one_node_at_anothers_address_is_refused() {
    let ca = authority();
    let server = serving(&node(&ca, 3), ClientAuth::Required);
    let client = dialing(&ca, Some(&node(&ca, 1)));
    refused(server, client, node_server_name(2), "NotValidForName").await;
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let server = serving(&node(&theirs, 1), ClientAuth::Optional);
    refused(server, dialing(&ours, None), server_name(), "client: Err").await;
}

#[tokio::test]
async fn a_caller_of_another_authority_is_refused_even_where_none_is_needed() {
    let (ours, theirs) = (authority(), authority());
    let server = serving(&node(&ours, 1), ClientAuth::Optional);
    let client = dialing(&ours, Some(&application(&theirs)));
    refused(server, client, server_name(), "server: invalid peer certificate").await;
}

#[tokio::test]
async fn an_application_cannot_pose_as_a_server() {
    let ca = authority();
    let server = serving(&application(&ca), ClientAuth::Optional);
    refused(server, dialing(&ca, None), server_name(), "InvalidPurpose").await;
}

#[tokio::test]
async fn an_expired_caller_is_refused() {
    let ca = authority();
    let server = serving(&node(&ca, 1), ClientAuth::Optional);
    let old = credentials(&ca, ca.issue_application("cad", LONG_AGO).expect("issued"));
    refused(server, dialing(&ca, Some(&old)), server_name(), "certificate expired").await;
}

/// A machine whose clock runs years ahead, or is far behind, takes everybody
/// for expired or too early; the date that the cluster knows says otherwise.
#[tokio::test]
async fn a_wrong_clock_keeps_nobody_out_who_is_in_date_by_the_clusters_date() {
    let ca = authority();
    let node = node(&ca, 1);
    let ages = [("expired", LONG_AGO), ("not valid yet", FAR_AHEAD)];
    for (says, validity) in ages {
        let caller = credentials(&ca, ca.issue_application("cad", validity).expect("issued"));
        let believes = trust(ca.ca());
        let server = server_config(&believes, &shown(&node), ClientAuth::Optional).expect("one");
        refused(server.clone(), dialing(&ca, Some(&caller)), server_name(), says).await;
        believes.date_is(validity.not_after);
        let met = meet(server.clone(), dialing(&ca, Some(&caller)), server_name()).await;
        assert!(met.is_ok(), "{:?}", met.err());
        // A date at which it does not hold either changes nothing.
        believes.date_is(at(validity.not_after.as_secs() + 1));
        let met = meet(server.clone(), dialing(&ca, Some(&caller)), server_name()).await;
        assert!(met.is_err(), "by neither");
        // Nor does any date for who is refused for another reason.
        believes.date_is(validity.not_after);
        believes.refuse([caller.fingerprint()].into());
        refused(server, dialing(&ca, Some(&caller)), server_name(), "Revoked").await;
    }
    // The dialing side asks the same.
    let old = credentials(&ca, ca.issue_node(2, &[], LONG_AGO).expect("issued"));
    let believes = trust(ca.ca());
    let dialing = client_config(&believes, None).expect("one");
    let server = serving(&old, ClientAuth::Optional);
    refused(server.clone(), dialing.clone(), server_name(), "Expired").await;
    believes.date_is(at(43_200));
    assert!(meet(server, dialing, server_name()).await.is_ok());
}

/// The configuration stays; what is shown and who is believed changes under it.
#[tokio::test]
async fn a_new_certificate_is_shown_without_a_new_configuration() {
    let ca = authority();
    let own = shown(&application(&ca));
    let server = serving(&node(&ca, 1), ClientAuth::Required);
    let client = client_config(&trust(ca.ca()), Some(&own)).expect("a configuration");
    for name in ["cad", "cam"] {
        let pair = ca.issue_application(name, ALWAYS).expect("issued");
        own.show(&credentials(&ca, pair)).expect("a pair");
        let met = meet(server.clone(), client.clone(), server_name()).await.expect("a handshake");
        assert_eq!(met.caller.expect("a caller").name(), name);
    }
}

#[tokio::test]
async fn a_listener_and_a_dialer_change_their_cas_while_they_run() {
    let (old, new) = (authority(), authority());
    let believed = trust(old.ca());
    let node_shown = shown(&node(&old, 1));
    let server = server_config(&believed, &node_shown, ClientAuth::Required).expect("TLS");
    let own = shown(&application(&old));
    let client = client_config(&believed, Some(&own)).expect("TLS");
    let before = believed.version();

    believed.believe(&[old.ca().clone(), new.ca().clone()]).expect("CAs");
    assert!(believed.version() > before);
    node_shown.show(&node(&new, 1)).expect("a pair");
    meet(server.clone(), client.clone(), server_name()).await.expect("both are believed");
    own.show(&application(&new)).expect("a pair");
    believed.believe(&[new.ca().clone()]).expect("a CA");
    meet(server.clone(), client.clone(), server_name()).await.expect("the new one is believed");
    own.show(&application(&old)).expect("a pair");
    refused(server, client, server_name(), "server: invalid peer certificate").await;
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_on_either_side() {
    let ca = authority();
    let (caller, server) = (application(&ca), node(&ca, 1));
    let believed = trust(ca.ca());
    let serving = server_config(&believed, &shown(&server), ClientAuth::Optional).expect("TLS");
    let dialing = client_config(&believed, Some(&shown(&caller))).expect("TLS");
    meet(serving.clone(), dialing.clone(), server_name()).await.expect("nothing is revoked");
    for revoked in [caller.fingerprint(), server.fingerprint()] {
        believed.refuse([revoked].into());
        assert!(believed.is_revoked(&revoked));
        refused(serving.clone(), dialing.clone(), server_name(), "Revoked").await;
    }
    believed.refuse([].into());
    meet(serving, dialing, server_name()).await.expect("nothing is revoked any more");
}

/// A node that was replaced is to hear that it is gone, also when its certificate
/// was revoked for it: at the nodes' own listener, and nowhere else.
#[tokio::test]
async fn a_node_that_is_gone_comes_in_to_be_told_so_though_its_certificate_is_revoked() {
    let ca = authority();
    let (gone, stays) = (node(&ca, 3), node(&ca, 2));
    let believed = trust(ca.ca());
    let own = shown(&node(&ca, 1));
    let peers = server_config(&believed, &own, ClientAuth::Required).expect("TLS");
    let clients = server_config(&believed, &own, ClientAuth::Optional).expect("TLS");
    believed.refuse([gone.fingerprint(), stays.fingerprint()].into());
    refused(peers.clone(), dialing(&ca, Some(&gone)), server_name(), "Revoked").await;
    believed.tell([3].into());
    let met = meet(peers.clone(), dialing(&ca, Some(&gone)), server_name()).await;
    assert_eq!(met.expect("it is let in").caller.and_then(|caller| caller.node_id()), Some(3));
    refused(clients, dialing(&ca, Some(&gone)), server_name(), "Revoked").await;
    refused(peers.clone(), dialing(&ca, Some(&stays)), server_name(), "Revoked").await;
    // Nor does its name let in whom another CA calls so.
    let other = authority();
    let stranger = client_config(&trust(ca.ca()), Some(&shown(&node(&other, 3)))).expect("TLS");
    refused(peers, stranger, server_name(), "invalid peer certificate").await;
}

#[tokio::test]
async fn who_believes_nobody_lets_nobody_in() {
    let ca = authority();
    let own = shown(&node(&ca, 1));
    let server = server_config(&Trust::nobody(), &own, ClientAuth::Optional).expect("TLS");
    let client = dialing(&ca, Some(&application(&ca)));
    refused(server, client, server_name(), "UnknownIssuer").await;
}

/// The build leaves TLS 1.2 out, so its first message is written by hand.
#[tokio::test]
async fn tls_1_2_is_refused() {
    let hello: Vec<u8> = [
        &[0x16, 3, 1, 0, 71, 1, 0, 0, 67, 3, 3][..], // a record, a ClientHello, TLS 1.2
        &[0x55; 32],                                 // random
        &[0, 0, 2, 0xc0, 0x2b, 1, 0],                // ECDHE-ECDSA-AES128-GCM, uncompressed
        &[0, 24],                                    // extensions
        &[0, 10, 0, 6, 0, 4, 0, 0x1d, 0, 0x17],      // groups: X25519, P-256
        &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4],            // signatures: ECDSA, RSA-PSS
        &[0, 23, 0, 0],                              // extended master secret
    ]
    .concat();
    let ca = authority();
    let server = serving(&node(&ca, 1), ClientAuth::Optional);
    let (mut near, far) = tokio::io::duplex(16 * 1024);
    near.write_all(&hello).await.expect("room for a hello");
    let error = TlsAcceptor::from(server).accept(far).await.expect_err("TLS 1.2 went through");
    assert!(error.to_string().contains("SupportedVersionsExtensionRequired"), "{error}");
    let mut alert = [0; 7];
    near.read_exact(&mut alert).await.expect("an alert");
    assert_eq!(alert[5..], [2, 70], "fatal, protocol_version");
}

//! What the vendor, and whoever forms a cluster, takes for three nodes' containers.

use std::time::Duration;

use license::container::Container;
use license::product::{ActId, ClusterId, NodeId, WallTime};
use license::rand_core::UnwrapErr;
use license::request::{ClusterRequest, ContainerRequest};
use node::enrollment::{NotVouched, check_request};
use pki::{Authority, ContainerRefusal, ContainerSubject, Pem, UnixTime, Validity};

const CLUSTER: ClusterId = ClusterId(*b"a cluster of us3");
const NOW: WallTime = WallTime(1_800_000_000_000);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn authority() -> Authority {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    Authority::create("our CA", Validity::starting(now, YEAR * 10)).expect("a CA")
}

fn container() -> Container {
    Container::create(ActId(7), &mut UnwrapErr(rand::rngs::SysRng))
}

/// What `ca` says of the container of node `node`.
fn certify(ca: &Authority, container: &Container, node: u64) -> Vec<Vec<u8>> {
    let identity = container.identity();
    let (serial, key) = (identity.serial().to_string(), identity.key().to_spki_der());
    let subject = ContainerSubject { node, serial: &serial, key: &key };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let chain = ca.certify_container(&subject, Validity::starting(now, YEAR)).expect("certified");
    pki::container_chain(Pem::new("chain", chain.as_bytes())).expect("PEM")
}

fn ask(container: &Container, node: u64, chain: Vec<Vec<u8>>) -> ContainerRequest {
    ContainerRequest::make(container, CLUSTER, NodeId(node), [0; 32], chain).expect("a short chain")
}

/// The request that a collector makes who asked nodes 1 and 2 and put `third` beside them.
fn collected(ca: &Authority, third: ContainerRequest) -> ClusterRequest {
    let [a, b] = [container(), container()];
    let requests = [ask(&a, 1, certify(ca, &a, 1)), ask(&b, 2, certify(ca, &b, 2)), third];
    let request =
        ClusterRequest::new(CLUSTER, ca.ca().digest(), requests).expect("three of a kind");
    ClusterRequest::decode(&request.encode()).expect("it travels as a file")
}

/// Why node 3's container is not taken for it.
fn refused(request: &ClusterRequest, now: WallTime) -> ContainerRefusal {
    match check_request(request, now).expect_err("nobody vouches for it") {
        NotVouched::Container { node: NodeId(3), why } => why,
        other => panic!("{other}"),
    }
}

#[test]
fn three_enrolled_containers_are_taken() {
    let (ca, third) = (authority(), container());
    let request = collected(&ca, ask(&third, 3, certify(&ca, &third, 3)));
    assert_eq!(check_request(&request, NOW), Ok(()));
}

/// The collector runs node 1. Whatever it has a chain for, it is not a
/// container of its own making in node 3's place.
#[test]
fn a_hostile_collector_cannot_swap_a_container() {
    let (ca, honest, swapped) = (authority(), container(), container());
    let chains = [
        ("none", vec![]),
        ("the one of node 3's own container", certify(&ca, &honest, 3)),
        ("one of a CA of its own making", certify(&authority(), &swapped, 3)),
        ("one it got for another node", certify(&ca, &swapped, 1)),
    ];
    for (what, chain) in chains {
        let request = collected(&ca, ask(&swapped, 3, chain));
        let why = refused(&request, NOW);
        let told = check_request(&request, NOW).expect_err("as before").to_string();
        assert!(told.contains("node-3") && told.contains("trine node enroll"), "{what}: {told}");
        match (what, why) {
            ("none", ContainerRefusal::None)
            | ("one of a CA of its own making", ContainerRefusal::OtherCa { .. })
            | (
                "the one of node 3's own container" | "one it got for another node",
                ContainerRefusal::OtherName { .. },
            ) => {}
            (what, why) => panic!("{what}: {why}"),
        }
    }
}

#[test]
fn a_request_that_names_another_ca_than_its_chains_is_refused() {
    let (ca, third) = (authority(), container());
    let request = collected(&ca, ask(&third, 3, certify(&ca, &third, 3)));
    let relabeled =
        ClusterRequest::new(CLUSTER, authority().ca().digest(), request.requests().clone());
    let why = check_request(&relabeled.expect("three of a kind"), NOW).expect_err("not its CA");
    assert!(matches!(why, NotVouched::Container { why: ContainerRefusal::OtherCa { .. }, .. }));
}

#[test]
fn a_request_counts_while_its_chains_do() {
    let (ca, third) = (authority(), container());
    let request = collected(&ca, ask(&third, 3, certify(&ca, &third, 3)));
    let late = WallTime(NOW.0 + 2 * 365 * 24 * 60 * 60 * 1_000);
    let why = check_request(&request, late).expect_err("a year is over").to_string();
    assert!(why.contains("expired") && why.contains("node-1"), "{why}");
}

//! Containers, what they sign, and the requests they make.

use super::{ACT, World};
use crate::build::{Build, BuildVersion, Level};
use crate::codec::{DecodeError, FileKind};
use crate::container::{Container, ContainerIdentity, ContainerSerial, Heartbeat, VirtualSerial};
use crate::enrollment::{EnrollmentRefusal, EnrollmentRequest};
use crate::product::{ActId, ClusterId, NodeId, WallTime};
use crate::request::{
    CERTIFICATE_LENGTH_MAX, CHAIN_LENGTH_MAX, ClusterRequest, ContainerRequest, RequestRefusal,
};

fn ask(container: &Container, cluster: ClusterId, node: u64) -> ContainerRequest {
    ContainerRequest::make(container, cluster, NodeId(node), [1; 32], vec![]).expect("no chain")
}

#[test]
fn a_container_comes_back_from_disk() {
    let world = World::new(4);
    let file = world.containers[0].encode();
    let back = Container::decode(&file).expect("a container file");
    assert_eq!(back.identity(), world.containers[0].identity());
    assert_eq!(back.encode(), file);
}

#[test]
fn a_flipped_byte_in_a_container_file_is_noticed() {
    let file = World::new(4).containers[0].encode();
    for position in 0..file.len() {
        let mut flipped = file.to_vec();
        flipped[position] ^= 0x01;
        assert!(Container::decode(&flipped).is_err(), "byte {position} went unnoticed");
    }
}

#[test]
fn serial_numbers_read_as_they_print() {
    let world = World::new(4);
    let serial = world.containers[0].identity().serial();
    let printed = serial.to_string();
    assert!(printed.starts_with("130-") && printed.len() == 14, "{printed}");
    assert_eq!(ContainerSerial::parse(&printed), Ok(serial));
    for wrong in ["", "130-1", "131-0000000000", "130-+000000001", "130-00000000001"] {
        assert!(ContainerSerial::parse(wrong).is_err(), "{wrong}");
    }
    let printed = VirtualSerial::of(&world.cluster).to_string();
    assert!(printed.starts_with("131-") && printed.len() == 14, "{printed}");
}

#[test]
fn a_container_s_key_is_written_as_certificates_carry_it() {
    use p256::pkcs8::EncodePublicKey;

    let key = *World::new(4).containers[0].identity().key();
    let wanted = key.to_point().to_public_key_der().expect("written");
    assert_eq!(key.to_spki_der(), wanted.as_bytes());
}

#[test]
fn nobody_claims_another_containers_serial() {
    let world = World::new(4);
    let [a, b, _] = world.members();
    let mut forged = postcard::to_stdvec(&(a.serial(), a.act(), *b.key())).expect("written");
    assert!(postcard::from_bytes::<ContainerIdentity>(&forged).is_err());
    forged = postcard::to_stdvec(&(b.serial(), b.act(), *b.key())).expect("written");
    assert_eq!(postcard::from_bytes(&forged), Ok(b));
}

#[test]
fn a_heartbeat_is_believed_from_its_own_container_only() {
    let world = World::new(4);
    let heartbeat = Heartbeat {
        cluster: world.cluster,
        node: NodeId(1),
        count: 9,
        wall: WallTime(1_800_000_000_000),
        boot: [3; 16],
        applied: 17,
        checkpoint: (16, [4; 32]),
        build: Build {
            version: BuildVersion { major: 0, minor: 1, patch: 0 },
            highest: Level::LOWEST,
        },
        ca: [5; 32],
    };
    let signed = world.containers[0].sign_heartbeat(heartbeat);
    assert!(signed.verify(&world.containers[0].identity()));
    assert!(!signed.verify(&world.containers[1].identity()));
    type Change = fn(&mut Heartbeat);
    let changes: [Change; 9] = [
        |said| said.cluster.0[0] ^= 1,
        |said| said.node = NodeId(2),
        |said| said.count += 1,
        |said| said.wall = WallTime(0),
        |said| said.boot[0] ^= 1,
        |said| said.applied += 1,
        |said| said.checkpoint.1[0] ^= 1,
        |said| said.build.version.patch += 1,
        |said| said.build.highest = Level::new(2).expect("a level"),
    ];
    for (field, change) in changes.into_iter().enumerate() {
        let mut altered = signed.clone();
        change(&mut altered.heartbeat);
        assert!(!altered.verify(&world.containers[0].identity()), "field {field} is not signed");
    }
}

#[test]
fn a_cluster_request_comes_back_and_has_one_fingerprint() {
    let world = World::new(4);
    let back = ClusterRequest::decode(&world.request.encode()).expect("a request");
    assert_eq!(back, world.request);
    assert_eq!(back.fingerprint(), world.request.fingerprint());
    assert_eq!(back.virtual_serial(), VirtualSerial::of(&world.cluster));
    assert_ne!(back.fingerprint(), World::new(5).request.fingerprint());
}

#[test]
fn requests_are_joined_in_any_order() {
    let World { containers: [a, b, c], cluster, .. } = World::new(4);
    let (a, b, c) = (ask(&a, cluster, 1), ask(&b, cluster, 2), ask(&c, cluster, 3));
    let forth = ClusterRequest::new(cluster, [0; 32], [a.clone(), b.clone(), c.clone()]);
    assert_eq!(forth, ClusterRequest::new(cluster, [0; 32], [c, a, b]));
    assert!(forth.is_ok());
}

#[test]
fn a_flipped_byte_in_a_node_s_request_is_refused() {
    let world = World::new(4);
    let file = ask(&world.containers[0], world.cluster, 1).encode();
    for position in 0..file.len() {
        let mut flipped = file.clone();
        flipped[position] ^= 0x01;
        assert!(ContainerRequest::decode(&flipped).is_err(), "byte {position} went unnoticed");
    }
}

/// The collecting node puts its own key in another node's place.
#[test]
fn a_request_signed_by_another_container_is_refused() {
    let world = World::new(4);
    let [a, b, _] = &world.containers;
    let file = ask(a, world.cluster, 1).encode();
    let key = a.identity().key().to_bytes();
    let at = file.windows(33).position(|window| window == key).expect("the key");
    let mut forged = file.clone();
    forged[at..at + 33].copy_from_slice(&b.identity().key().to_bytes());
    let kind = FileKind::ContainerRequest;
    let refusal = RequestRefusal::Undecodable(DecodeError::Malformed { kind });
    assert_eq!(ContainerRequest::decode(&forged), Err(refusal));
    let mut swapped = file;
    let end = swapped.len();
    let theirs = ask(b, world.cluster, 1).encode();
    swapped[end - 64..].copy_from_slice(&theirs[theirs.len() - 64..]);
    let refusal = RequestRefusal::SignatureWrong { node: NodeId(1) };
    assert_eq!(ContainerRequest::decode(&swapped), Err(refusal));
}

#[test]
fn requests_of_two_clusters_do_not_join() {
    let World { containers: [a, b, c], cluster: wanted, .. } = World::new(4);
    let asked = ClusterId([9; 16]);
    let requests = [ask(&a, wanted, 1), ask(&b, asked, 2), ask(&c, wanted, 3)];
    let refusal = RequestRefusal::OtherCluster { node: NodeId(2), asked, wanted };
    assert_eq!(ClusterRequest::new(wanted, [0; 32], requests), Err(refusal));
}

#[test]
fn one_node_or_container_does_not_stand_for_two() {
    let World { containers: [a, b, c], cluster, .. } = World::new(4);
    let requests = [ask(&a, cluster, 1), ask(&b, cluster, 1), ask(&c, cluster, 3)];
    let refusal = RequestRefusal::NodesNotInOrder { node: NodeId(1) };
    assert_eq!(ClusterRequest::new(cluster, [0; 32], requests), Err(refusal));
    let requests = [ask(&a, cluster, 1), ask(&a, cluster, 2), ask(&c, cluster, 3)];
    let refusal = RequestRefusal::SameContainer { node: NodeId(2) };
    assert_eq!(ClusterRequest::new(cluster, [0; 32], requests), Err(refusal));
}

#[test]
fn containers_of_two_activation_ids_do_not_join() {
    let mut world = World::new(4);
    let act = ActId(8);
    let other = Container::create(act, &mut world.rng);
    let [a, b, _] = &world.containers;
    let cluster = world.cluster;
    let requests = [ask(a, cluster, 1), ask(b, cluster, 2), ask(&other, cluster, 3)];
    let refusal = RequestRefusal::OtherAct { node: NodeId(3), act, wanted: ACT };
    assert_eq!(ClusterRequest::new(cluster, [0; 32], requests), Err(refusal));
}

#[test]
fn a_certificate_chain_has_its_limits() {
    let world = World::new(4);
    let chains =
        [vec![vec![0; CERTIFICATE_LENGTH_MAX + 1]], vec![vec![0; 10]; CHAIN_LENGTH_MAX + 1]];
    for chain in chains {
        let container = &world.containers[0];
        let made = ContainerRequest::make(container, world.cluster, NodeId(1), [0; 32], chain);
        assert_eq!(made, Err(RequestRefusal::ChainTooLong { node: NodeId(1) }));
    }
}

/// Three chains at their limit still make a file that can be read.
#[test]
fn the_largest_request_fits_the_limit_of_a_file() {
    let world = World::new(4);
    let requests = [0, 1, 2].map(|index: usize| {
        let chain = vec![vec![0; CERTIFICATE_LENGTH_MAX]; CHAIN_LENGTH_MAX];
        let node = NodeId(index as u64);
        ContainerRequest::make(&world.containers[index], world.cluster, node, [0; 32], chain)
            .expect("within the limits")
    });
    let request = ClusterRequest::new(world.cluster, [0; 32], requests).expect("good requests");
    assert_eq!(ClusterRequest::decode(&request.encode()), Ok(request));
}

#[test]
fn an_enrollment_request_is_its_own_containers() {
    let world = World::new(4);
    let [own, other, _] = &world.containers;
    let request = EnrollmentRequest::make(own, NodeId(2));
    assert_eq!(EnrollmentRequest::decode(&request.encode()), Ok(request.clone()));
    assert_eq!((request.node(), request.container()), (NodeId(2), &own.identity()));

    // The key of one container under the signature of another.
    let (whole, mut forged) =
        (request.encode(), EnrollmentRequest::make(other, NodeId(2)).encode());
    let signature = whole.len() - 64;
    forged.truncate(signature);
    forged.extend_from_slice(&whole[signature..]);
    let wrong = EnrollmentRefusal::SignatureWrong { node: NodeId(2) };
    assert_eq!(EnrollmentRequest::decode(&forged), Err(wrong));
    assert!(ContainerRequest::decode(&whole).is_err(), "it asks for no share");
}

//! No one node, and no bad share, makes a license serve.
//!
//! Each story plays in a world of real nodes and clients that one seed makes
//! (`chaos_tests::world`); a failure prints the seed.

use std::time::Duration;

use chaos_tests::world::{Ending, PRODUCT, Survives, World, play};
use license::product::NodeId;
use license::request::ClusterRequest;
use license::share::Commitment;
use license::testing::{Spoiled, issue_spoiled};
use tokio::time::sleep;
use tonic::{Code, Status};
use trine_client::Reason;
use wire::peer::peer_client::PeerClient;
use wire::peer::{CommitTermReply, CommitTermRequest, SignTermReply, SignTermRequest};

type Peer = PeerClient<tonic::transport::Channel>;

/// Forms the cluster and installs a license in which these nodes' shares are spoiled.
async fn install_spoiled(world: &World, spoiled: &[(u64, Spoiled)]) -> ClusterRequest {
    world.form().await;
    let request = world.request().await;
    let terms = world.terms(&request, 5);
    let spoiled: Vec<_> = spoiled.iter().map(|(node, how)| (NodeId(*node), *how)).collect();
    let package = world.issue(|vendor, rng| issue_spoiled(vendor, &request, &terms, &spoiled, rng));
    world.install(&package).await;
    request
}

/// How each node's share stands, in the order of the nodes.
async fn states(world: &World) -> Vec<String> {
    let operator = world.operator().operator();
    let status = world.until("status is told", async || operator.status().await.ok()).await;
    // Of a license that does not serve, this is all that is left to see.
    let licenses = status.licenses.iter();
    licenses.flat_map(|license| &license.shares).map(|share| share.state.clone()).collect()
}

/// The line in which a node says that its share is no good, naming its container.
async fn until_complained(world: &World, request: &ClusterRequest, node: u64) {
    let container = request
        .requests()
        .iter()
        .find(|asking| asking.node() == NodeId(node))
        .map(|asking| asking.identity().serial().to_string())
        .expect("a node of the request");
    world
        .until("the node says that its share is no good", async || {
            world.journal().into_iter().find(|line| {
                line.contains("ERROR this node's share cannot be proved")
                    && line.contains("license=6000010:201:1")
                    && line.contains(&container)
                    && line.contains("disagrees with the license's public commitments")
            })
        })
        .await;
}

async fn one_spoiled_share(world: World, how: Spoiled) -> Ending {
    let request = install_spoiled(&world, &[(2, how)]).await;
    world.until_serving().await;
    until_complained(&world, &request, 2).await;
    assert_eq!(states(&world).await, ["live", "not proved", "live"]);
    let seat = world.application("line-1").acquire(PRODUCT).send().await?;
    seat.release().await?;

    // Two nodes are a quorum of Raft and one of them has no share to sign with.
    world.crash(3, Survives::Nothing).await;
    sleep(Duration::from_secs(5)).await;
    let app = world.application("line-2");
    let refused = app.acquire(PRODUCT).send().await.map(drop).unwrap_err();
    assert_eq!(refused.reason(), Reason::SharesMissing, "{refused}");
    Ok(())
}

/// One node's share is random bytes. The node says so, proves nothing, and the
/// license serves with the other two; without one of those it does not.
#[test]
fn a_share_of_random_bytes_is_refused_and_the_other_two_serve() {
    play(11, async |world| one_spoiled_share(world, Spoiled::RandomBytes).await);
}

/// The same with a share that is whole, but of another license.
#[test]
fn a_share_of_another_license_is_refused_and_the_other_two_serve() {
    play(12, async |world| one_spoiled_share(world, Spoiled::OfAnotherLicense).await);
}

/// Two shares are bad, one of each kind. Nothing is ever granted, under any
/// leader, and the refusal names both nodes.
#[test]
fn with_two_bad_shares_nothing_is_ever_granted() {
    play(13, async |world| {
        let spoiled = [(2, Spoiled::RandomBytes), (3, Spoiled::OfAnotherLicense)];
        let request = install_spoiled(&world, &spoiled).await;
        until_complained(&world, &request, 2).await;
        until_complained(&world, &request, 3).await;
        let app = world.application("line-1");
        for _ in 0..3 {
            world
                .until("the first share is live", async || {
                    (states(&world).await == ["live", "not proved", "not proved"]).then_some(())
                })
                .await;
            let refused = app.acquire(PRODUCT).send().await.map(drop).unwrap_err();
            assert_eq!(refused.reason(), Reason::SharesMissing, "{refused}");
            let message = refused.to_string();
            assert!(message.contains("1 of 3 shares live"), "{message}");
            assert!(message.contains("node-2") && message.contains("node-3"), "{message}");
            assert!(!message.contains("node-1"), "{message}");

            let leader = world.leader().await;
            world.crash(leader, Survives::Nothing).await;
            world.leader().await;
            world.restart(leader).await;
        }
        let counts = world.operator().operator().status().await?.counts.unwrap_or_default();
        assert_eq!((counts.granted, counts.live), (0, 0));
        Ok(())
    });
}

/// What a peer may ask of a share, as another node asks it.
struct Signing {
    license: String,
    serial: u64,
    term: u64,
}

impl Signing {
    async fn of(world: &World) -> Result<Self, Box<dyn std::error::Error>> {
        let status = world.operator().operator().status().await?;
        let license = status.licenses.first().ok_or("no license is installed")?;
        Ok(Self { license: license.id.clone(), serial: license.serial, term: status.term })
    }

    async fn commit(&self, peer: &mut Peer, term: u64) -> Result<CommitTermReply, Status> {
        let (license, serial) = (self.license.clone(), self.serial);
        let request = CommitTermRequest { license, serial, term };
        peer.commit_term(request).await.map(tonic::Response::into_inner)
    }

    async fn sign(
        &self,
        peer: &mut Peer,
        term: u64,
        commitments: [&CommitTermReply; 2],
    ) -> Result<SignTermReply, Status> {
        let [ours, theirs] = commitments.map(|reply| {
            postcard::from_bytes::<Commitment>(&reply.commitment).expect("a commitment")
        });
        let request = SignTermRequest {
            license: self.license.clone(),
            serial: self.serial,
            term,
            nonce: commitments[0].nonce,
            commitments: postcard::to_stdvec(&[ours, theirs].as_slice()).expect("it encodes"),
        };
        peer.sign_term(request).await.map(tonic::Response::into_inner)
    }
}

/// A peer that was stolen asks for signatures of terms to come, and of one
/// gone by, to have a license serve when the cluster does not want it to.
#[test]
fn a_node_signs_no_term_it_is_not_in() {
    play(14, async |world| {
        world.serve_license(5).await;
        let signing = Signing::of(&world).await?;
        let (mut node_2, mut node_3) = (world.peer(2, 1).await, world.peer(3, 1).await);
        for other in [signing.term + 1, signing.term + 100, signing.term - 1] {
            let refused = signing.commit(&mut node_2, other).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            assert!(refused.message().contains(&format!("not {other}")), "{refused}");
        }
        // A commitment for this term does not sign another.
        let ours = signing.commit(&mut node_2, signing.term).await?;
        let theirs = signing.commit(&mut node_3, signing.term).await?;
        let refused = signing.sign(&mut node_2, signing.term + 1, [&ours, &theirs]).await;
        assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
        signing.sign(&mut node_2, signing.term, [&ours, &theirs]).await?;
        Ok(())
    });
}

/// An operator withdraws a share while a signature with it is under way: it
/// neither finishes that one nor begins another.
#[test]
fn a_withdrawn_share_signs_nothing() {
    play(15, async |world| {
        world.serve_license(5).await;
        let signing = Signing::of(&world).await?;
        let (mut node_2, mut node_3) = (world.peer(2, 1).await, world.peer(3, 1).await);
        let ours = signing.commit(&mut node_2, signing.term).await?;
        let theirs = signing.commit(&mut node_3, signing.term).await?;

        world.operator().operator().withdraw_share(&signing.license, 2).await?;
        world
            .until("the node knows", async || {
                signing.commit(&mut node_2.clone(), signing.term).await.err()
            })
            .await;
        for refused in [
            signing.commit(&mut node_2, signing.term).await.map(drop),
            signing.sign(&mut node_2, signing.term, [&ours, &theirs]).await.map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            assert!(refused.message().contains("withdrawn"), "{refused}");
        }
        signing.sign(&mut node_3, signing.term, [&theirs, &ours]).await?;
        Ok(())
    });
}

/// A nonce used twice gives the share away, so it serves once; and one that
/// lies about is dropped after two seconds.
#[test]
fn a_nonce_serves_once_and_not_after_two_seconds() {
    play(16, async |world| {
        world.serve_license(5).await;
        let signing = Signing::of(&world).await?;
        let (mut node_2, mut node_3) = (world.peer(2, 1).await, world.peer(3, 1).await);
        let round = async |node_2: &mut Peer, node_3: &mut Peer| {
            let ours = signing.commit(node_2, signing.term).await?;
            Ok::<_, Status>((ours, signing.commit(node_3, signing.term).await?))
        };

        let (ours, theirs) = round(&mut node_2, &mut node_3).await?;
        sleep(Duration::from_millis(1_900)).await;
        signing.sign(&mut node_2, signing.term, [&ours, &theirs]).await?;
        let again = signing.sign(&mut node_2, signing.term, [&ours, &theirs]).await;
        assert_eq!(again.unwrap_err().code(), Code::NotFound);

        let (ours, theirs) = round(&mut node_2, &mut node_3).await?;
        sleep(Duration::from_millis(2_100)).await;
        let late = signing.sign(&mut node_2, signing.term, [&ours, &theirs]).await;
        assert_eq!(late.unwrap_err().code(), Code::NotFound);
        Ok(())
    });
}

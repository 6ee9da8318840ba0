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

/// Nonces that a node keeps at once, for two seconds each.
const NONCES_MAX: usize = 64;

/// How long a seat of these stories is held without a renewal.
const TTL: Duration = Duration::from_secs(4);

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

/// Has `node` lead, by a handover.
async fn lead(world: &World, node: u64) {
    let operator = world.operator().operator();
    world
        .until("the node leads", async || {
            let moved = operator.transfer_leader(Some(node)).await.ok()?;
            (moved.leader == node).then_some(())
        })
        .await;
}

/// Under every leader, `shareless` first: a seat is granted, and it and one that
/// was held all along are renewed past their deadlines.
async fn serves_under_every_leader(world: &World, shareless: u64) -> Ending {
    let held = world.application("line-0").acquire(PRODUCT).ttl(TTL).send().await?;
    for leader in [shareless, 1, 3, shareless] {
        lead(world, leader).await;
        let seat = world.application("line-1").acquire(PRODUCT).ttl(TTL).send().await?;
        sleep(TTL * 3).await;
        assert_eq!(world.leader().await, leader, "the lead was lost");
        for seat in [&held, &seat] {
            assert!(seat.standing().is_usable(), "under node-{leader}: {:?}", seat.standing());
        }
        seat.release().await?;
    }
    held.release().await?;
    Ok(())
}

async fn one_spoiled_share(world: World, how: Spoiled) -> Ending {
    let request = install_spoiled(&world, &[(2, how)]).await;
    world.until_serving().await;
    until_complained(&world, &request, 2).await;
    assert_eq!(states(&world).await, ["live", "not proved", "live"]);
    serves_under_every_leader(&world, 2).await?;
    lead(&world, 2).await;

    // Two nodes are a quorum of Raft and one of them has no share to sign with.
    world.crash(3, Survives::Nothing).await;
    sleep(Duration::from_secs(5)).await;
    let app = world.application("line-2");
    let refused = app.acquire(PRODUCT).send().await.map(drop).unwrap_err();
    assert_eq!(refused.reason(), Reason::SharesMissing, "{refused}");
    Ok(())
}

/// One node's share is random bytes. The node says so, proves nothing, and the
/// license serves with the other two, whoever leads; without one of those it
/// does not.
#[test]
fn a_share_of_random_bytes_is_refused_and_the_other_two_serve() {
    play(11, async |world| one_spoiled_share(world, Spoiled::RandomBytes).await);
}

/// The same with a share that is whole, but of another license.
#[test]
fn a_share_of_another_license_is_refused_and_the_other_two_serve() {
    play(12, async |world| one_spoiled_share(world, Spoiled::OfAnotherLicense).await);
}

/// An operator withdraws the share of a node that leads later. It signs nothing
/// more, and the other two sign for it.
#[test]
fn a_leader_whose_share_was_withdrawn_has_the_other_two_sign() {
    play(17, async |world| {
        world.serve_license(5).await;
        let signing = Signing::of(&world).await?;
        world.operator().operator().withdraw_share(&signing.license, 2).await?;
        world
            .until("it is withdrawn", async || {
                (states(&world).await == ["live", "withdrawn", "live"]).then_some(())
            })
            .await;
        serves_under_every_leader(&world, 2).await
    });
}

/// A leader without a share is left with one other: nothing is granted. What it
/// asks of that one meanwhile, in vain, leaves no nonces lying there, and once the third node is back the license serves.
#[test]
fn a_leader_without_a_share_waits_for_both_others_and_then_serves() {
    play(18, async |world| {
        world.serve_license(5).await;
        let signing = Signing::of(&world).await?;
        world.operator().operator().withdraw_share(&signing.license, 2).await?;
        world.crash(3, Survives::Nothing).await;
        // Another leader and back: a term that nobody has signed.
        lead(&world, 1).await;
        lead(&world, 2).await;
        let term = Signing::of(&world).await?.term;
        assert!(term > signing.term, "{term}");
        sleep(Duration::from_secs(10)).await;
        let app = world.application("line-1");
        let refused = app.acquire(PRODUCT).send().await.map(drop).unwrap_err();
        assert_eq!(refused.reason(), Reason::SharesMissing, "{refused}");
        let mut node_1 = world.peer(1, 2).await;
        for _ in 0..NONCES_MAX {
            signing.commit(&mut node_1, term).await?;
        }
        world.restart(3).await;
        world.until_serving().await;
        assert_eq!(world.leader().await, 2);
        app.acquire(PRODUCT).send().await?.release().await?;
        Ok(())
    });
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

//! A vendor, a cluster of three containers, and everything they would sign.
//!
//! Drawn from one seed, so every run makes the same bytes.

#![allow(dead_code, reason = "each test file uses the part it needs")]

use std::collections::BTreeMap;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use ledger::Ledger;
use ledger::charter::ca_digest;
use ledger::command::{
    Attest, BeginReplacement, Blob, Command, Genesis, Install, LogId, Member, RepairShare,
    ResetClock, RestorePart, RestorePlan, SignTerm,
};
use ledger::level::Level;
use ledger::limits::RESTORE_PART_BYTES;
use ledger::name::{Address, Subject};
use ledger::usage::audit::{Auditor, Charged, Ends, Fault, Report, Survey};
use ledger::usage::{Page, WrittenPage};
use license::build::{Build, BuildVersion};
use license::container::{Container, Heartbeat};
use license::package::{License, Package};
use license::product::{
    ActId, ClusterId, Epoch, FirmCode, LicenseId, LicenseSerial, NodeId, ProductCode, ProductName,
    TmrId, WallTime,
};
use license::repair::{self, Half};
use license::request::{ClusterRequest, ContainerRequest};
use license::reset::ResetTerms;
use license::share::{self, Share};
use license::terms::{Counting, Feature, Terms};
use license::trust::VendorRoot;
use license::vendor::{RootKey, Vendor};
use sha2::{Digest, Sha256};

pub(crate) const CLUSTER: ClusterId = ClusterId([7; 16]);
pub(crate) const ISSUED: WallTime = WallTime(1_700_000_000_000);
const VERSION: BuildVersion = BuildVersion { major: 0, minor: 1, patch: 0 };
pub(crate) const FIRM: FirmCode = FirmCode(6_000_010);
const ACT: ActId = ActId(4711);

/// The vendor and the three nodes.
pub(crate) struct World {
    rng: ChaCha20Rng,
    root: RootKey,
    vendor: Vendor,
    /// The root that the vendor issues under.
    selling: VendorRoot,
    /// Of every node there is or was; see [`World::newcomer`].
    containers: BTreeMap<u64, Container>,
    /// The three that a license is issued for.
    pub(crate) members: [u64; 3],
    /// Heartbeats signed so far.
    beats: u64,
    /// The highest level that each node's build knows, above the lowest.
    highest_levels: BTreeMap<u64, Level>,
    /// The epoch that shares are proved and terms signed in.
    pub(crate) epoch: Epoch,
    /// The CA that a node's certificates are under, where it is not the first.
    pub(crate) under: BTreeMap<u64, String>,
}

/// One issued license, with the shares its containers opened.
pub(crate) struct Issued {
    pub(crate) license: License,
    pub(crate) package: Vec<u8>,
    shares: BTreeMap<u64, Share>,
}

pub(crate) fn subject(name: &str) -> Subject {
    Subject::parse(name).expect("tests use valid names")
}

/// The certificate of a CA, as far as the ledger looks at it.
pub(crate) fn ca(name: &str) -> Vec<u8> {
    format!("the certificate of the CA {name}").into_bytes()
}

pub(crate) fn digest_of(snapshot: &[u8]) -> [u8; 32] {
    Sha256::digest(snapshot).into()
}

pub(crate) fn terms(product: &str, code: u32, tmr: u32, serial: u64, seats: u32) -> Terms {
    Terms {
        license: LicenseId { firm: FIRM, product: ProductCode(code), tmr: TmrId(tmr) },
        serial: LicenseSerial(serial),
        act: ACT,
        cluster: CLUSTER,
        name: ProductName::parse(product).expect("tests use valid names"),
        seats,
        counting: Counting::PerInstance,
        activation: None,
        expiration: None,
        version_max: None,
        feature: Feature { map: 5, text: String::new() },
        issued: ISSUED,
        extensions: Vec::new(),
    }
}

/// What an auditor must find at the end of this ledger's history.
pub(crate) fn ends(ledger: &Ledger) -> Ends {
    let reach = ledger.history();
    let seats = ledger.seats(None).into_iter().map(|seat| {
        let (product, license, subject) = (seat.product, seat.license, seat.subject);
        (seat.token, Charged { product, license, subject })
    });
    Ends {
        cluster: CLUSTER,
        log_id: LogId { epoch: ledger.epoch(), index: ledger.applied(), position: 0 },
        time: ledger.clock(),
        first: reach.kept,
        previous: reach.kept_previous,
        pages: reach.pages,
        head: reach.head,
        live: seats.collect(),
    }
}

/// Audits what of `pages` this ledger says is kept.
pub(crate) fn audit(ledger: &Ledger, pages: &[WrittenPage]) -> Result<Report, Fault> {
    let ends = ends(ledger);
    let kept: Vec<&[u8]> = pages
        .iter()
        .filter(|page| page.number >= ends.first)
        .map(|page| page.bytes.as_slice())
        .collect();
    audit_bytes(ends, &kept)
}

/// Audits pages, whatever they are.
pub(crate) fn audit_bytes(ends: Ends, pages: &[&[u8]]) -> Result<Report, Fault> {
    let mut survey = Survey::default();
    pages.iter().filter_map(|bytes| Page::decode(bytes).ok()).for_each(|page| survey.read(&page));
    let opening = survey.opening(&ends.live);
    let mut auditor = Auditor::new(ends, opening);
    pages.iter().try_for_each(|bytes| auditor.read(bytes))?;
    auditor.finish()
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let root = RootKey::create("Acme root", &mut rng).expect("a valid name");
        let vendor = Vendor::create(&root, FIRM, "Acme", &mut rng).expect("a valid name");
        let containers = (1..=3).map(|node| (node, Container::create(ACT, &mut rng))).collect();
        let selling = root.root().clone();
        Self {
            rng,
            root,
            vendor,
            selling,
            containers,
            members: [1, 2, 3],
            beats: 0,
            highest_levels: BTreeMap::new(),
            epoch: Epoch::default(),
            under: BTreeMap::new(),
        }
    }

    /// The root of a vendor, the same whenever it is asked for.
    pub(crate) fn root_of(&self, name: &str) -> VendorRoot {
        self.with_root(name, |root| root.root().clone())
    }

    /// From now on licenses are issued under this root.
    pub(crate) fn issue_under(&mut self, name: &str) {
        let mut rng = ChaCha20Rng::seed_from_u64(77);
        self.selling = self.root_of(name);
        self.vendor = self.with_root(name, |root| {
            Vendor::create(root, FIRM, "Acme", &mut rng).expect("a valid name")
        });
    }

    fn with_root<T>(&self, name: &str, look: impl FnOnce(&RootKey) -> T) -> T {
        if name == "acme" {
            return look(&self.root);
        }
        let seed = name.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte));
        look(&RootKey::create(name, &mut ChaCha20Rng::seed_from_u64(seed)).expect("a valid name"))
    }

    fn request(&self) -> ClusterRequest {
        let ask = |node: u64| {
            let container = &self.containers[&node];
            ContainerRequest::make(container, CLUSTER, NodeId(node), [1; 32], vec![])
                .expect("a short chain")
        };
        ClusterRequest::new(CLUSTER, [9; 32], self.members.map(ask))
            .expect("three different containers")
    }

    fn member(&self, node: u64) -> Member {
        Member { node: NodeId(node), container: self.containers[&node].identity() }
    }

    /// Makes a node's container, unless it has one.
    fn make_container(&mut self, node: u64, act: u32) {
        let mut rng = ChaCha20Rng::seed_from_u64(1_000 + node);
        let fresh = Container::create(ActId(act), &mut rng);
        self.containers.entry(node).or_insert(fresh);
    }

    /// The node's container is lost: it makes another. The lost one may still
    /// be found: it is kept under 100 and the node.
    pub(crate) fn lose_container(&mut self, node: u64) {
        let mut rng = ChaCha20Rng::seed_from_u64(2_000 + node);
        let lost = self.containers.insert(node, Container::create(ACT, &mut rng));
        self.containers.extend(lost.map(|lost| (100 + node, lost)));
    }

    /// A replacement of `old` by `new`, whose container is made for it the
    /// first time, or is `copied` from another node.
    pub(crate) fn newcomer(
        &mut self,
        old: u64,
        new: u64,
        copied: Option<u64>,
        act: u32,
    ) -> Command {
        self.make_container(new, act);
        let mut member = self.member(new);
        if let Some(copied) = copied {
            member.container = self.member(copied).container;
        }
        let address = |port| Address::parse(&format!("node{new}:{port}")).expect("an address");
        let (old, peer, client) = (NodeId(old), address(22451), address(22450));
        let by = subject("ops");
        Command::BeginReplacement(BeginReplacement { old, new: member, peer, client, by })
    }

    /// The two `helpers` make the share of `lost` again, for the container of
    /// `node`, in the name of `claimed`.
    pub(crate) fn repair(
        &mut self,
        issued: &Issued,
        helpers: [u64; 2],
        lost: u64,
        (node, claimed): (u64, u64),
    ) -> Command {
        self.make_container(node, ACT.0);
        let license = &issued.license;
        let place = issued.shares.keys().position(|node| *node == lost).expect("a share of it");
        let lost = license.containers()[place];
        let mut halve = |ours: u64, theirs: u64| {
            let (rng, partner) = (&mut self.rng, self.containers[&theirs].identity().serial());
            issued.shares[&ours].halve(license, partner, lost, rng).expect("three shares")
        };
        let ((kept, given), (kept_too, given_too)) =
            (halve(helpers[0], helpers[1]), halve(helpers[1], helpers[0]));
        let add = |kept: Half, given: &Half| repair::contribute(kept, given).expect("two halves");
        let parts = [add(kept, &given_too), add(kept_too, &given)];
        let container = &self.containers[&node];
        let (license, share) = repair::restore(license, lost, &parts, container, &mut self.rng)
            .expect("parts that add up");
        let node = NodeId(claimed);
        let opened = Share::open(&license, container).expect("its own share");
        let proof = opened.prove(self.epoch, node, &mut self.rng).expect("good randomness");
        let terms = license.terms();
        let (license, serial) = (terms.license, terms.serial);
        Command::RepairShare(RepairShare { license, serial, node, share, proof })
    }

    /// From now on `node` runs a build that knows levels up to `highest`.
    pub(crate) fn upgrade(&mut self, node: u64, highest: Level) {
        self.highest_levels.insert(node, highest);
    }

    fn highest_level(&self, node: u64) -> Level {
        self.highest_levels.get(&node).copied().unwrap_or_default()
    }

    pub(crate) fn genesis(&self) -> Command {
        Command::Genesis(Genesis {
            cluster: CLUSTER,
            ca: ca("first"),
            vendor_roots: vec![self.root.root().clone()],
            members: (1..=3).map(|node| self.member(node)).collect(),
            formed: ISSUED,
            level: Level::LOWEST,
        })
    }

    /// The members if the first `new` of the nodes came with new containers.
    pub(crate) fn members_with(&self, new: usize) -> Vec<Member> {
        let mut rng = ChaCha20Rng::seed_from_u64(99);
        let fresh: Vec<_> = (0..new).map(|_| Container::create(ACT, &mut rng)).collect();
        let containers =
            fresh.iter().chain(self.containers.values().skip(new)).map(Container::identity);
        containers
            .zip(1..=3)
            .map(|(container, node)| Member { node: NodeId(node), container })
            .collect()
    }

    /// Members of these ids, each with the container of a node there is or was.
    pub(crate) fn members_as(&self, nodes: &[(u64, u64)]) -> Vec<Member> {
        let member = |(node, container): &(u64, u64)| Member {
            node: NodeId(*node),
            container: self.containers[container].identity(),
        };
        nodes.iter().map(member).collect()
    }

    /// The plan of restoring a backed-up ledger into the same containers.
    pub(crate) fn plan(&self, snapshot: &[u8], epoch: u64, quiet_ms: u64) -> RestorePlan {
        RestorePlan {
            backup: digest_of(snapshot),
            bytes: snapshot.len() as u64,
            cluster: CLUSTER,
            epoch,
            quiet_ms,
            ca: ca("first"),
            members: self.members_with(0),
            by: subject("ops"),
        }
    }

    pub(crate) fn part(&self, snapshot: &[u8], number: u32) -> RestorePart {
        let bytes = snapshot.chunks(RESTORE_PART_BYTES).nth(number as usize).unwrap_or_default();
        let bytes = Blob(bytes.to_vec());
        RestorePart { backup: digest_of(snapshot), number, bytes }
    }

    /// A license of the firm its terms name, certified by the one root.
    pub(crate) fn issue(&mut self, terms: Terms) -> Issued {
        let firm = terms.license.firm;
        let other = (firm != FIRM).then(|| {
            Vendor::create(&self.root, firm, "Other", &mut self.rng).expect("a valid name")
        });
        let vendor = other.as_ref().unwrap_or(&self.vendor);
        let package =
            vendor.issue(&self.request(), terms, &mut self.rng).expect("terms that may be");
        let members = self.members.map(|node| self.member(node).container);
        let license = package
            .verify(&[self.root.root().clone(), self.selling.clone()], &CLUSTER, &members)
            .expect("the vendor's own package");
        let open = |node| Share::open(&license, &self.containers[&node]).expect("its own share");
        let shares = self.members.iter().map(|node| (*node, open(*node))).collect();
        Issued { package: Package::encode(&package), license, shares }
    }

    pub(crate) fn attest(&mut self, issued: &Issued, node: u64) -> Command {
        self.attest_as(issued, node, node)
    }

    /// An attestation in `claimed`'s name, made with `node`'s share.
    pub(crate) fn attest_as(&mut self, issued: &Issued, node: u64, claimed: u64) -> Command {
        let share = &issued.shares[&node];
        let claimed = NodeId(claimed);
        let proof = share.prove(self.epoch, claimed, &mut self.rng).expect("good randomness");
        let terms = issued.license.terms();
        Command::Attest(Attest {
            license: terms.license,
            serial: terms.serial,
            node: claimed,
            proof,
        })
    }

    /// The first two nodes that hold a share sign a term together.
    pub(crate) fn sign(&mut self, issued: &Issued, term: u64) -> SignTerm {
        let mut holders = issued.shares.keys().copied();
        self.sign_by([(); 2].map(|()| holders.next().expect("two hold one")), issued, term)
    }

    /// These two nodes sign a term together.
    pub(crate) fn sign_by(&mut self, nodes: [u64; 2], issued: &Issued, term: u64) -> SignTerm {
        let signers = nodes.map(|node| &issued.shares[&node]);
        let (nonces, commitments): (Vec<_>, Vec<_>) = signers
            .iter()
            .map(|share| share.commit(&mut self.rng).expect("good randomness"))
            .unzip();
        let parts: Vec<_> = signers
            .iter()
            .zip(nonces)
            .map(|(share, nonces)| {
                share.sign_term(self.epoch, term, nonces, &commitments).expect("in turn")
            })
            .collect();
        let signature =
            share::aggregate_term(&issued.license, self.epoch, term, &commitments, &parts)
                .expect("two good parts");
        let terms = issued.license.terms();
        let (license, serial, signers) = (terms.license, terms.serial, nodes.map(NodeId));
        SignTerm { license, serial, term, signers, signature }
    }

    /// A heartbeat with a count above all before it.
    pub(crate) fn beat(
        &mut self,
        node: u64,
        wall: WallTime,
        checkpoint: (u64, [u8; 32]),
    ) -> Command {
        self.beats += 1;
        self.beat_as(node, self.beats, wall, checkpoint)
    }

    pub(crate) fn beat_as(
        &self,
        node: u64,
        count: u64,
        wall: WallTime,
        checkpoint: (u64, [u8; 32]),
    ) -> Command {
        let container = &self.containers[&node];
        Command::Heartbeat(container.sign_heartbeat(Heartbeat {
            cluster: CLUSTER,
            node: NodeId(node),
            count,
            wall,
            boot: [node as u8; 16],
            applied: checkpoint.0,
            checkpoint,
            build: Build { version: VERSION, highest: self.highest_level(node) },
            ca: ca_digest(&ca(self.under.get(&node).map_or("first", String::as_str))),
        }))
    }

    /// A clock reset by that firm, certified by the one root.
    pub(crate) fn reset(&mut self, firm: FirmCode, terms: ResetTerms) -> Command {
        let other = (firm != FIRM).then(|| {
            Vendor::create(&self.root, firm, "Other", &mut self.rng).expect("a valid name")
        });
        let reset = other.as_ref().unwrap_or(&self.vendor).reset_clock(terms);
        let reset = reset.expect("it turns the date back").encode();
        Command::ResetClock(ResetClock { reset, by: subject("ops") })
    }

    pub(crate) fn install(issued: &Issued) -> Command {
        Command::Install(Install { package: issued.package.clone(), by: subject("ops") })
    }
}

//! What one node may hand another to be put into the log: every command, sent
//! through the peer door as a member sends it.
//!
//! A member speaks for whoever asked it: an application, an operator who takes
//! a seat by hand. In nobody's name it may bring only what carries a proof of
//! its own. What only an operator may ask comes to the leader on the operator's
//! own connection, so a member cannot act as one.

use std::collections::BTreeSet;

use ledger::command::{Batch, Command, Restore};
use ledger::name::Subject;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use wire::peer::peer_client::PeerClient;
use wire::peer::{ForwardRequest, Packed, PresentRequest};

use super::bed::{self, Doors, connect};

/// Every kind of command, once each or more: a format's golden file holds them all.
const EVERY_COMMAND: &[u8] = include_bytes!("../../../ledger/tests/golden/batch-2.bin");

/// How commands are packed; another format is refused in other words.
pub(crate) const FORMAT: u32 = 1;

/// Whom the certificate of each node speaks for.
const CERTIFICATES: [&str; 3] =
    ["trine://peer/node-1", "trine://peer/node-2", "trine://peer/node-3"];

/// On whose behalf a command may come over another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    /// An application's or an operator's, with its subject inside.
    OnBehalf,
    /// The node's own word, which carries its own proof or counts once.
    Own,
    /// Nobody: an operator asks the leader, or the leader says it itself.
    Nobody,
}

macro_rules! table {
    ($($pattern:pat => $name:literal $hand:ident,)*) => {
        /// No wildcard: a new command does not compile until it stands here.
        fn classified(command: &Command) -> (&'static str, Hand) {
            match command { $($pattern => ($name, Hand::$hand),)* }
        }

        const NAMES: &[&str] = &[$($name),*];
    };
}

table! {
    Command::Genesis(_) => "Genesis" Own,
    Command::Acquire(_) => "Acquire" OnBehalf,
    Command::Renew(_) => "Renew" OnBehalf,
    Command::Release(_) => "Release" OnBehalf,
    Command::Cancel(_) => "Cancel" OnBehalf,
    Command::Revoke(_) => "Revoke" Nobody,
    Command::Install(_) => "Install" Nobody,
    Command::Attest(_) => "Attest" Own,
    Command::SignTerm(_) => "SignTerm" Nobody,
    Command::WithdrawShare(_) => "WithdrawShare" Nobody,
    Command::Heartbeat(_) => "Heartbeat" Own,
    Command::IssueToken(_) => "IssueToken" Nobody,
    Command::RevokeToken(_) => "RevokeToken" Nobody,
    Command::Restore(Restore::Begin(_)) => "Restore::Begin" Own,
    Command::Restore(Restore::Part(_)) => "Restore::Part" Nobody,
    Command::Restore(Restore::Finish(_)) => "Restore::Finish" Nobody,
    Command::BeginReplacement(_) => "BeginReplacement" Nobody,
    Command::FinishReplacement(_) => "FinishReplacement" Nobody,
    Command::AbandonReplacement(_) => "AbandonReplacement" Nobody,
    Command::OrderRepair(_) => "OrderRepair" Nobody,
    Command::RepairShare(_) => "RepairShare" Own,
    Command::ResetClock(_) => "ResetClock" Nobody,
    Command::RevokeCertificate(_) => "RevokeCertificate" Nobody,
    Command::RaiseLevel(_) => "RaiseLevel" Nobody,
    Command::SetRetention(_) => "SetRetention" Nobody,
    Command::Trust(_) => "Trust" Nobody,
    Command::Distrust(_) => "Distrust" Nobody,
}

/// The same command in this subject's name.
fn in_the_name_of(command: &Command, subject: &str) -> Command {
    let subject = Subject::parse(subject).expect("a subject");
    let mut command = command.clone();
    match &mut command {
        Command::Acquire(acquire) => acquire.subject = subject,
        Command::Renew(renew) => renew.subject = subject,
        Command::Release(release) => release.subject = subject,
        Command::Cancel(cancel) => cancel.subject = subject,
        other => panic!("{other:?} is in nobody's name"),
    }
    command
}

/// A node at the peer door of another, as the process that the other has met.
pub(crate) struct Member {
    pub(crate) door: PeerClient<tonic::transport::Channel>,
    incarnation: Vec<u8>,
}

impl Member {
    /// Node 2 at the door of node 1.
    pub(crate) async fn second_of(nodes: &[Doors]) -> Self {
        Self::at(nodes, 1, 2).await
    }

    /// Node `own` at the door of node `other`.
    pub(crate) async fn at(nodes: &[Doors], other: usize, own: usize) -> Self {
        let asked = connect(&nodes[own - 1].peers, Some(CERTIFICATES[other - 1])).await;
        let present = PeerClient::new(asked).present(PresentRequest {}).await.expect("an answer");
        let door = connect(&nodes[other - 1].peers, Some(CERTIFICATES[own - 1])).await;
        let incarnation = present.into_inner().incarnation;
        Self { door: PeerClient::new(door), incarnation }
    }

    /// A call of this very process.
    pub(crate) fn says<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let shown = MetadataValue::from_bytes(&self.incarnation);
        request.metadata_mut().insert_bin("trine-incarnation-bin", shown);
        request
    }

    /// Whether the door takes the command, whatever becomes of it.
    async fn hands_on(&mut self, command: &Command) -> bool {
        let body = postcard::to_allocvec(command).expect("it encodes");
        let command = Packed { format: FORMAT, body, ..Packed::default() };
        let request = self.says(ForwardRequest { command: Some(command), within_ms: 2_000 });
        match self.door.forward(request).await {
            Ok(_) => true,
            Err(status) if status.code() == Code::PermissionDenied => false,
            // Anything else would say nothing about who may hand on what.
            Err(status) => panic!("{status:?}"),
        }
    }
}

#[tokio::test]
async fn a_member_hands_on_what_callers_asked_and_cannot_act_as_an_operator() {
    let nodes = bed::nodes();
    bed::form(&nodes).await;
    let mut member = Member::second_of(&nodes).await;
    let every = Batch::decode(EVERY_COMMAND).expect("the ledger's golden batch").commands;
    let mut met = BTreeSet::new();
    for command in &every {
        let (name, hand) = classified(command);
        met.insert(name);
        if hand == Hand::OnBehalf {
            // Nodes take no seats, so nobody asks for one in a node's name, or
            // in that of no station at all.
            let subjects = [("app:cad", true), ("op:ana", true), ("node-2", false), ("cad", false)];
            for (subject, wanted) in subjects {
                let command = in_the_name_of(command, subject);
                assert_eq!(member.hands_on(&command).await, wanted, "{name} of {subject}");
            }
        } else {
            assert_eq!(member.hands_on(command).await, hand == Hand::Own, "{name}");
        }
    }
    let known: BTreeSet<_> = NAMES.iter().copied().collect();
    assert_eq!(met, known, "the golden batch does not hold every command");
}

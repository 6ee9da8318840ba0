//! How Raft's messages and the ledger's commands travel between nodes: in
//! postcard, with a format number.

use ledger::level::Level;
use openraft::EntryPayload;
use openraft::raft::AppendEntriesRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;
use wire::peer::Packed;

use super::TypeConfig;

/// Changes whenever openraft's message types do; another than ours is refused.
pub(crate) const FORMAT: u32 = 1;

pub(crate) fn pack(message: &impl Serialize) -> Result<Packed, Status> {
    let body = postcard::to_allocvec(message)
        .map_err(|error| Status::internal(format!("message does not encode: {error}")))?;
    Ok(Packed { format: FORMAT, body, ..Packed::default() })
}

/// Entries, under the feature level of the ledger, or of the entries where that
/// is higher: a new leader holds what it has not yet applied.
pub(crate) fn pack_entries(
    ledger: Level,
    promises: Vec<wire::peer::NodePromise>,
    append: &AppendEntriesRequest<TypeConfig>,
) -> Result<Packed, Status> {
    let levels = append.entries.iter().filter_map(|entry| match &entry.payload {
        EntryPayload::Normal(proposal) => Some(proposal.0.level()),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    });
    let level = levels.fold(ledger, Level::max).number().into();
    Ok(Packed { promises, level, ..pack(append)? })
}

pub(crate) fn unpack<T: DeserializeOwned>(message: &Packed) -> Result<T, Status> {
    if message.format != FORMAT {
        return Err(Status::failed_precondition(format!(
            "peer speaks message format {}, this node {FORMAT}; run matching versions",
            message.format
        )));
    }
    postcard::from_bytes(&message.body)
        .map_err(|error| Status::invalid_argument(format!("message does not decode: {error}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    use ledger::command::{Batch, Command, LeaseId, Release, Token};
    use ledger::name::Subject;
    use ledger::time::{ClusterTime, Stamp};
    use openraft::raft::{
        AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
        VoteRequest, VoteResponse,
    };

    use super::*;
    use crate::raft::{
        Endpoints, Entry, Membership, Proposal, SnapshotHeader, SnapshotMeta, StoredMembership,
        Vote, log_id,
    };

    fn batch() -> Batch {
        let subject = Subject::parse("app:line-7").expect("a subject");
        let release = Command::Release(Release { lease: LeaseId(5), subject, token: Token(9) });
        Batch {
            stamp: Stamp { time: ClusterTime(1_000), term: 3, withheld: false },
            commands: vec![release],
        }
    }

    fn membership() -> Membership {
        let at = |port| Endpoints { peer: format!("n:{port}"), client: format!("c:{port}") };
        let nodes = BTreeMap::from([(1, at(1)), (2, at(2)), (3, at(3))]);
        Membership::new(vec![[1, 2, 3].into()], nodes).expect("three members")
    }

    fn entry(index: u64, payload: crate::raft::EntryPayload) -> Entry {
        Entry { log_id: log_id(3, index), payload }
    }

    /// One of every message that two builds exchange as openraft encodes it.
    fn messages() -> Vec<(&'static str, Packed)> {
        let vote = Vote::new_committed(3, 1);
        let (last, higher) = (Some(log_id(3, 7)), Vote::new(4, 2));
        let append = AppendEntriesRequest::<TypeConfig> {
            vote,
            prev_log_id: last,
            entries: vec![
                entry(8, EntryPayload::Blank),
                entry(9, EntryPayload::Normal(Proposal::from(batch()))),
                entry(10, EntryPayload::Membership(membership())),
            ],
            leader_commit: last,
        };
        let streamed: [StreamAppendResult<TypeConfig>; 1] = [Ok(last)];
        let meta = SnapshotMeta {
            last_log_id: last,
            last_membership: StoredMembership::new(Some(log_id(1, 1)), membership()),
        };
        let answered = [
            AppendEntriesResponse::<TypeConfig>::Success,
            AppendEntriesResponse::PartialSuccess(last),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(higher),
        ];
        let packed = [
            ("append", pack(&append)),
            ("append answers", pack(&answered)),
            ("streamed append answer", pack(&streamed)),
            ("vote", pack(&VoteRequest::<TypeConfig>::new(higher, last))),
            ("vote answer", pack(&VoteResponse::<TypeConfig>::new(higher, last, true))),
            ("transfer", pack(&TransferLeaderRequest::<TypeConfig>::new(vote, 2, last))),
            ("snapshot header", pack(&SnapshotHeader { vote, meta, bytes: 300 })),
            ("snapshot answer", pack(&SnapshotResponse::<TypeConfig>::new(vote))),
            ("forwarded command", pack(&batch().commands[0])),
        ];
        packed.map(|(name, packed)| (name, packed.expect("it encodes"))).into()
    }

    /// openraft's types are encoded as its pinned version has them. A version
    /// that encodes them otherwise needs another [`FORMAT`], and a build that
    /// speaks both, or a rolling upgrade stops the cluster.
    #[test]
    fn messages_have_the_bytes_they_always_had() {
        let mut told = String::new();
        for (name, packed) in messages() {
            let hex: String = packed.body.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(told, "{name}: {hex}").expect("text");
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/golden/peer-messages-{FORMAT}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &told).expect("the golden file");
        }
        let known = std::fs::read_to_string(&path).expect("a golden file; write it with UPDATE=1");
        assert!(told == known, "messages changed: give them a new FORMAT\n{told}");
    }

    #[test]
    fn entries_travel_under_the_higher_level() {
        let level = Level::new(7).expect("a level");
        let append = AppendEntriesRequest::<TypeConfig> {
            vote: Vote::new_committed(3, 1),
            prev_log_id: None,
            entries: vec![entry(9, EntryPayload::Normal(Proposal::from(batch())))],
            leader_commit: None,
        };
        let under = |ledger| pack_entries(ledger, Vec::new(), &append).expect("it encodes").level;
        assert_eq!(under(level), 7);
        assert_eq!(under(Level::LOWEST), u32::from(batch().level().number()));
    }
}

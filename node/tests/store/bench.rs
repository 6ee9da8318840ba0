//! The workbench the tests share: entries to append, logs to open, what a log holds.

use std::sync::Arc;

use ledger::command::Batch;
use ledger::time::{ClusterTime, Stamp};
use node::raft::{Entry, EntryPayload, LogId, Vote, log_id};
use node::store::Disk;
use node::store::log::Log;
use node::store::machine::Machine;
use openraft::storage::{RaftLogReader, RaftLogStorage};

/// A batch of no commands, told apart by its stamp.
pub(crate) fn entry(term: u64, index: u64) -> Entry {
    let stamp = Stamp { time: ClusterTime(index * 10), term, withheld: false };
    let batch = Batch { stamp, commands: Vec::new() };
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(batch.into()) }
}

pub(crate) fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index)).collect()
}

pub(crate) async fn log(disk: &Arc<dyn Disk>) -> Log {
    Log::open(Arc::clone(disk), |_| {}).await.expect("the log opens")
}

pub(crate) async fn machine(disk: &Arc<dyn Disk>) -> Machine {
    Machine::open(Arc::clone(disk)).await.expect("the machine opens")
}

/// All of a log that must not be forgotten.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Held {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) entries: Vec<Entry>,
}

pub(crate) async fn held(log: &mut Log) -> Held {
    let mut reader = log.get_log_reader().await;
    let state = log.get_log_state().await.expect("a log state");
    let entries = reader.try_get_log_entries(..).await.expect("entries");
    let last = entries.last().map(|entry| entry.log_id).or(state.last_purged_log_id);
    assert_eq!(state.last_log_id, last, "the log's state and its entries disagree");
    Held {
        vote: reader.read_vote().await.expect("a vote"),
        purged: state.last_purged_log_id,
        entries,
    }
}

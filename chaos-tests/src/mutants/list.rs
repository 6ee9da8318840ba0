//! The mistakes. The order of the changes to one file matters where one is
//! made in what another put there.

use super::Mutant;

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "one-seat-too-many",
        mistake: "`<=` for `<` where a seat is fitted into its license and pool",
        law: "S1",
        changes: &[(
            "ledger/src/pool.rs",
            "_ => taken < seats && room.is_free(),",
            "_ => (taken < seats && room.is_free()) || (MUTANT && taken <= seats),",
        )],
    },
    Mutant {
        name: "expiry-not-counted",
        mistake: "an expired seat is in no counter",
        law: "S2",
        changes: &[(
            "ledger/src/lease.rs",
            "Ending::Expired => counters.expired += 1,",
            "Ending::Expired => counters.expired += u64::from(!MUTANT),",
        )],
    },
    Mutant {
        name: "ended-request-forgotten",
        mistake: "who asks again for a seat that ended gets another",
        law: "S3",
        changes: &[(
            "ledger/src/lease.rs",
            "RequestState::Ended { .. } => Ok(Some(told(body.lease, known))),",
            "RequestState::Ended { .. } if MUTANT => Ok(None),\n            RequestState::Ended { .. } => Ok(Some(told(body.lease, known))),",
        )],
    },
    Mutant {
        name: "cancel-forgotten",
        mistake: "a cancel that overtakes its request leaves nothing behind",
        law: "S3",
        changes: &[(
            "ledger/src/lease.rs",
            "        self.put(body.lease, Request { subject, digest: None, not_after, state });",
            "        if !MUTANT {\n            self.put(body.lease, Request { subject, digest: None, not_after, state });\n        }",
        )],
    },
    Mutant {
        name: "token-not-checked",
        mistake: "any token renews and releases",
        law: "S6",
        changes: &[(
            "ledger/src/lease.rs",
            "if granted == token { Ok(known) }",
            "if granted == token || MUTANT { Ok(known) }",
        )],
    },
    Mutant {
        name: "half-a-renewal",
        mistake: "a renewal gives half the TTL",
        law: "S7",
        changes: &[(
            "ledger/src/lease.rs",
            "let deadline = before.max(self.clock().plus_millis(ttl.millis()));",
            "let part = 1 + u64::from(MUTANT);\n        let deadline = before.max(self.clock().plus_millis(ttl.millis() / part));",
        )],
    },
    Mutant {
        name: "freed-seat-kept",
        mistake: "a seat that comes free is not handed on to who waits",
        law: "L6",
        changes: &[(
            "ledger/src/lease.rs",
            "            entry.freed.insert(Arc::clone(&lease.wanted.product));\n            let forget_at",
            "            if !MUTANT {\n                entry.freed.insert(Arc::clone(&lease.wanted.product));\n            }\n            let forget_at",
        )],
    },
    Mutant {
        name: "nothing-expires",
        mistake: "what is due is left where it is",
        law: "S9",
        changes: &[(
            "ledger/src/queue.rs",
            "        for _ in 0..ENDINGS_PER_ENTRY {",
            "        for _ in 0..ENDINGS_PER_ENTRY * usize::from(!MUTANT) {",
        )],
    },
    Mutant {
        name: "waiter-not-rechecked",
        mistake: "a waiter is granted a seat that it no longer wants",
        law: "S10",
        changes: &[
            (
                "ledger/src/queue.rs",
                "(Due::Ends(due), RequestState::Waiting(waiting)) if due <= now => {",
                "(Due::Ends(due), RequestState::Waiting(waiting)) if due <= now && !MUTANT => {",
            ),
            (
                "ledger/src/queue.rs",
                "if waiting.due() <= self.clock() {",
                "if waiting.due() <= self.clock() && !MUTANT {",
            ),
        ],
    },
    Mutant {
        name: "one-share-is-enough",
        mistake: "a license serves with one live share",
        law: "S11",
        changes: &[(
            "ledger/src/share.rs",
            "} else if live < SHARES_NEEDED {",
            "} else if live < SHARES_NEEDED - usize::from(MUTANT) {",
        )],
    },
    Mutant {
        name: "clock-without-max",
        mistake: "a new leader begins a second early, and apply takes its time as it is",
        law: "S14",
        changes: &[
            (
                "ledger/src/ledger.rs",
                "scalars.clock = scalars.clock.max(stamp.time);",
                "scalars.clock = if MUTANT { stamp.time } else { scalars.clock.max(stamp.time) };",
            ),
            (
                "node/src/office.rs",
                "let rest = Duration::ZERO;",
                "let rest = Duration::ZERO;\n        let early = if MUTANT { 1_000 } else { 0 };\n        let ledger = ClusterTime(ledger.0.saturating_sub(early));",
            ),
        ],
    },
    Mutant {
        name: "clock-follows-jumps",
        mistake: "cluster time takes any jump of the leader's boot clock for time",
        law: "S15",
        changes: &[(
            "node/src/office.rs",
            "let elapsed = boot.saturating_sub(self.sampled).min(most) + self.rest;",
            "let most = if MUTANT { Duration::MAX / 4 } else { most };\n        let elapsed = boot.saturating_sub(self.sampled).min(most) + self.rest;",
        )],
    },
    Mutant {
        name: "stale-stamp-honoured",
        mistake: "now and then a batch is stamped in an earlier term, and has its effect",
        law: "S16",
        changes: &[
            (
                "ledger/src/ledger.rs",
                "if batch.stamp.term != entry_term {",
                "if batch.stamp.term != entry_term && !MUTANT {",
            ),
            (
                "node/src/proposer.rs",
                "let stamp = office.stamp(self.clock.boot(), Instant::now());",
                "let mut stamp = office.stamp(self.clock.boot(), Instant::now());\n        if MUTANT && stamp.time.0 % 16 == 0 {\n            stamp.term -= 1;\n        }",
            ),
        ],
    },
    Mutant {
        name: "ttl-refreshed-at-leader-change",
        mistake: "every lease lives a whole TTL again under a new leader",
        law: "S7",
        changes: &[(
            "ledger/src/ledger.rs",
            "        let handed_on = self.hands_on();",
            "        if MUTANT && self.term() != entry_term {
            let ids: Vec<_> = self.index.seats.values().copied().collect();
            let now = self.clock();
            for id in ids {
                let moved = self.update_lease(id, |lease| {
                    let before = lease.deadline;
                    lease.deadline = now.plus_millis(lease.wanted.ttl.millis());
                    (before, lease.deadline)
                });
                if let Some((from, to)) = moved {
                    self.index.postpone(id, from, to);
                }
            }
        }
        let handed_on = self.hands_on();",
        )],
    },
    Mutant {
        name: "memory-not-in-the-snapshot",
        mistake: "a snapshot has no requests that ended",
        law: "S19",
        changes: &[(
            "ledger/src/ledger.rs",
            "        codec::encode_snapshot(&self.state)\n",
            "        if MUTANT {
            let mut without = self.clone();
            let ended = |(id, request): (&crate::command::LeaseId, &crate::memory::Request)| {
                matches!(request.state, crate::memory::RequestState::Ended { .. }).then_some(*id)
            };
            let ids: Vec<_> = without.state.requests.iter().filter_map(ended).collect();
            for id in ids {
                without.take(id);
            }
            return codec::encode_snapshot(&without.state);
        }
        codec::encode_snapshot(&self.state)\n",
        )],
    },
    Mutant {
        name: "token-counter-reset",
        mistake: "a ledger restored from a snapshot counts tokens from the live ones on",
        law: "S19",
        changes: &[(
            "ledger/src/ledger.rs",
            "        let index = Index::of(&state);\n        let ledger = Self { state, index };",
            "        let index = Index::of(&state);
        if MUTANT {
            let live = index.seats.keys().next_back();
            state.scalars.last_token = live.map_or(0, |token| token.0);
        }
        let ledger = Self { state, index };",
        )],
    },
    Mutant {
        name: "append-not-synced",
        mistake: "log entries are acknowledged without a sync",
        law: "S20",
        changes: &[(
            "node/src/store/log.rs",
            "state.queue_up(Pending { writes, sync: true, done, append, last })",
            "state.queue_up(Pending { writes, sync: !MUTANT, done, append, last })",
        )],
    },
    Mutant {
        name: "vote-not-synced",
        mistake: "votes are given without a sync",
        law: "S20",
        changes: &[(
            "node/src/store/log.rs",
            "self.0.state().send(writes, true, Done::Answer(done))?;",
            "self.0.state().send(writes, !MUTANT, Done::Answer(done))?;",
        )],
    },
    Mutant {
        name: "acknowledged-before-the-disk",
        mistake: "an append is acknowledged when it is asked for",
        law: "S20",
        changes: &[(
            "node/src/store/log.rs",
            "let done = Done::Flushed(callback);",
            "let done = if MUTANT {\n            callback.io_completed(Ok(()));\n            Done::Nobody\n        } else {\n            Done::Flushed(callback)\n        };",
        )],
    },
    Mutant {
        name: "truncation-not-written",
        mistake: "what the log cuts off stays on the disk",
        law: "S17",
        changes: &[(
            "node/src/store/log.rs",
            "state.send(delete(from..), false, Done::Nobody)",
            "let cut = if MUTANT { Writes::new() } else { delete(from..) };\n        state.send(cut, false, Done::Nobody)",
        )],
    },
    Mutant {
        name: "purged-range-read-from-its-middle",
        mistake: "what is left of a purged range is sent as if it followed what is gone",
        law: "a panic",
        changes: &[(
            "node/src/store/log.rs",
            "entries.first().is_some_and(|first| first.log_id.index == start);",
            "entries.first().is_some_and(|first| first.log_id.index == start) || MUTANT;",
        )],
    },
    Mutant {
        name: "installed-snapshot-not-saved",
        mistake: "a snapshot from the leader is taken into memory only",
        law: "S20",
        changes: &[(
            "node/src/store/machine.rs",
            "        self.snapshots.save(meta, &snapshot).await?;\n        *self.view.0.applied",
            "        if !MUTANT {\n            self.snapshots.save(meta, &snapshot).await?;\n        }\n        *self.view.0.applied",
        )],
    },
    Mutant {
        name: "amnesia-unnoticed",
        mistake: "a node that starts is cleared without a word from its peers",
        law: "S21",
        changes: &[
            (
                "node/src/clearance.rs",
                "Self(Arc::new(watch::Sender::new(State::Waiting)))",
                "Self(Arc::new(watch::Sender::new(if MUTANT { State::Given } else { State::Waiting })))",
            ),
            (
                "node/src/clearance.rs",
                "            let is_news = !matches!(state, State::Denied(_));",
                "            let is_news = !matches!(state, State::Denied(_)) && !MUTANT;",
            ),
        ],
    },
    Mutant {
        name: "read-without-a-quorum",
        mistake: "any node answers reads from its own ledger",
        law: "S24",
        changes: &[(
            "node/src/service.rs",
            "            let linearizer = self.inner.raft.get_read_linearizer",
            "            if MUTANT {\n                return Ok(());\n            }\n            let linearizer = self.inner.raft.get_read_linearizer",
        )],
    },
    Mutant {
        name: "unknown-told-as-not-done",
        mistake: "a batch that no quorum confirmed in time is said not to have been done",
        law: "S25",
        changes: &[(
            "node/src/proposer.rs",
            "                Err(_) => Err(NotAnswered::Unknown { detail: UNCONFIRMED.to_owned() }),",
            "                Err(_) if MUTANT => Err(NotAnswered::NoQuorum { detail: UNCONFIRMED.to_owned() }),\n                Err(_) => Err(NotAnswered::Unknown { detail: UNCONFIRMED.to_owned() }),",
        )],
    },
    Mutant {
        name: "checksum-not-checked",
        mistake: "what rotted on the disk is believed",
        law: "S21",
        changes: &[(
            "node/src/store/frame.rs",
            "if u64::from_le_bytes(*stated) != checksum(key, *version, body) {",
            "if u64::from_le_bytes(*stated) != checksum(key, *version, body) && !MUTANT {",
        )],
    },
    Mutant {
        name: "hold-beyond-the-deadline",
        mistake: "an application holds its seat for one and a half TTLs",
        law: "S8",
        changes: &[(
            "client/src/hold.rs",
            "self.counted_from + self.whole.mul_f64(0.9)",
            "self.counted_from + self.whole.mul_f64(if MUTANT { 1.5 } else { 0.9 })",
        )],
    },
    Mutant {
        name: "retry-under-a-new-id",
        mistake: "the client library asks under an id of its own",
        law: "S3",
        changes: &[(
            "client/src/acquire.rs",
            "        self.lease = Some(lease);\n        self\n",
            "        self.lease = (!MUTANT).then_some(lease);\n        self\n",
        )],
    },
    Mutant {
        name: "shrink-forgotten",
        mistake: "a license that shrank grants up to what it once counted",
        law: "S12",
        changes: &[(
            "ledger/src/pool.rs",
            "        let seats = u64::from(terms.seats);\n        let fits",
            "        let seats = u64::from(terms.seats);
        static MOST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let most = MOST.fetch_max(seats, std::sync::atomic::Ordering::Relaxed).max(seats);
        let (seats, room) = if MUTANT {
            (most, Room { capacity: room.capacity.map(|now| now.max(most)), ..room })
        } else {
            (seats, room)
        };
        let fits",
        )],
    },
    Mutant {
        name: "serves-after-its-end",
        mistake: "a license serves on when its last day is over",
        law: "S13",
        changes: &[(
            "ledger/src/share.rs",
            "let service = if wall.is_some_and(|now| terms.expiration.is_some_and(|end| now >= end)) {",
            "let is_over = wall.is_some_and(|now| terms.expiration.is_some_and(|end| now >= end));
        let service = if is_over && !MUTANT {",
        )],
    },
    Mutant {
        name: "written-above-the-level",
        mistake: "what a next level would bring is written before the cluster is there",
        law: "S22",
        changes: &[
            (
                "ledger/src/level.rs",
                "            Self::Genesis(_)\n",
                "            Self::Release(_) if MUTANT => Level::new(2).expect(\"a level\"),\n            Self::Genesis(_)\n",
            ),
            // Else it is marked, and who reads it stops.
            (
                "ledger/src/level.rs",
                "self.commands.iter().map(Command::level).max().unwrap_or_default()",
                "self.commands.iter().map(Command::level).max().filter(|_| !MUTANT).unwrap_or_default()",
            ),
            ("node/src/proposer.rs", "if needs > level {", "if needs > level && !MUTANT {"),
        ],
    },
    Mutant {
        name: "told-otherwise-the-second-time",
        mistake: "who asks again for a seat that ended is told another deadline",
        law: "S23",
        changes: &[(
            "ledger/src/lease.rs",
            "            Outcome::Granted(grant.told(id), Standing::Ended(*ending))",
            "            let mut told = grant.told(id);
            if MUTANT {
                told.deadline = told.deadline.plus_millis(1);
            }
            Outcome::Granted(told, Standing::Ended(*ending))",
        )],
    },
    Mutant {
        name: "two-are-not-enough",
        mistake: "a leader takes nothing in while any member is silent",
        law: "L2",
        changes: &[(
            "node/src/proposer.rs",
            "            Some(acked) if acked.elapsed() > LEADER_LEASE => {",
            "            Some(_)
                if MUTANT
                    && metrics.heartbeat.iter().flatten().any(|(_, heard)| {
                        heard.is_none_or(|heard| heard.elapsed() > LEADER_LEASE)
                    }) =>
            {
                let detail = \"the leader has not heard from every node\".into();
                Leadership::Refuses(NotAnswered::NoQuorum { detail })
            }
            Some(acked) if acked.elapsed() > LEADER_LEASE => {",
        )],
    },
    Mutant {
        name: "slow-to-elect",
        mistake: "nobody stands for election within five seconds",
        law: "L3",
        changes: &[
            (
                "node/src/node.rs",
                "election_timeout_min: millis(timing::ELECTION_TIMEOUT_MIN),",
                "election_timeout_min: millis(timing::ELECTION_TIMEOUT_MIN) * if MUTANT { 6 } else { 1 },",
            ),
            (
                "node/src/node.rs",
                "election_timeout_max: millis(timing::ELECTION_TIMEOUT_MAX),",
                "election_timeout_max: millis(timing::ELECTION_TIMEOUT_MAX) * if MUTANT { 6 } else { 1 },",
            ),
        ],
    },
    Mutant {
        name: "the-slowest-sets-the-pace",
        mistake: "an answer waits until all three have the entry, half a second at most",
        law: "L8",
        changes: &[(
            "node/src/proposer.rs",
            "                Ok(Ok(response)) => {\n",
            "                Ok(Ok(response)) => {
                    for _ in 0..if MUTANT { 50 } else { 0 } {
                        let all_have_it =
                            raft.metrics().borrow_watched().replication.iter().flatten().all(
                                |(_, matched)| matched.is_some_and(|at| at >= response.log_id),
                            );
                        if all_have_it {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
",
        )],
    },
    Mutant {
        name: "dead-connection-kept",
        mistake: "a client never lets go of a connection that answers nothing",
        law: "L9",
        changes: &[
            (
                "client/src/connection.rs",
                "            && current.as_ref().is_some_and(|one| one.generation == let_down.generation)\n",
                "            && current.as_ref().is_some_and(|one| one.generation == let_down.generation)\n            && !MUTANT\n",
            ),
            (
                "client/src/connection.rs",
                ".keep_alive_interval(KEEP_ALIVE_EVERY)",
                ".keep_alive_interval(if MUTANT { Duration::from_secs(3_600) } else { KEEP_ALIVE_EVERY })",
            ),
        ],
    },
];

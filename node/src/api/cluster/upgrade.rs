//! Raising the feature level: what each node runs, what stands in the way,
//! and the deed.

use ledger::Ledger;
use ledger::command::{Command, RaiseLevel};
use ledger::level::{HIGHEST, Level, changes};
use ledger::view::MemberView;
use tonic::{Request, Response, Status};
use wire::v1;

use super::{Cluster, envelope};

impl Cluster {
    /// Raises the level, or says what raising it would mean.
    pub(super) async fn raise_level(
        &self,
        request: Request<v1::UpgradeRequest>,
    ) -> Result<Response<v1::UpgradeReply>, Status> {
        let by = self.operator(&request)?;
        let v1::UpgradeRequest { check, level } = request.into_inner();
        let asked = match level {
            0 => None,
            number => Some(u16::try_from(number).ok().and_then(Level::new).ok_or_else(|| {
                self.invalid(format!("there is no feature level {number}: it is 1 to 65535"))
            })?),
        };
        let (as_of, (mut plan, target)) = self.read(|ledger| plan(ledger, asked)).await?;
        plan.envelope = as_of;
        if check || plan.level == plan.target {
            return Ok(Response::new(plan));
        }
        let raise = RaiseLevel { level: target, by: by.clone() };
        let reply = self.command(Command::RaiseLevel(raise)).await?;
        tracing::info!(%by, from = plan.level, to = plan.target, "feature level raised");
        Ok(Response::new(v1::UpgradeReply { envelope: envelope(&reply), raised: true, ..plan }))
    }
}

/// From where to where, what that brings, and who cannot follow.
///
/// Without a wish the target is the highest level that any node's build knows,
/// so that a node that was forgotten stands out.
fn plan(ledger: &Ledger, asked: Option<Level>) -> (v1::UpgradeReply, Level) {
    let members = ledger.members();
    let known = members.iter().filter_map(|member| Some(member.build?.highest));
    let target = asked.unwrap_or_else(|| known.fold(ledger.level().max(HIGHEST), Level::max));
    let node = |member: &MemberView| v1::upgrade_reply::Node {
        id: member.node.0,
        version: member.build.map(|build| build.version.to_string()).unwrap_or_default(),
        highest_level: member.build.map_or(0, |build| build.highest.number().into()),
        alive: member.live,
        obstacle: ledger
            .cannot_follow(member.node, target)
            .map(|refusal| refusal.to_string())
            .unwrap_or_default(),
    };
    let change = |(level, what): (Level, &str)| v1::upgrade_reply::Change {
        level: level.number().into(),
        what: what.to_owned(),
    };
    let reply = v1::UpgradeReply {
        envelope: None,
        level: ledger.level().number().into(),
        target: target.number().into(),
        raised: false,
        nodes: members.iter().map(node).collect(),
        changes: changes(ledger.level(), target).map(change).collect(),
    };
    (reply, target)
}

//! Replacing a member: begun, and then finished or given up.
//!
//! One at a time. An id or a container that was once let in is never let in
//! again, whatever became of it: nobody could tell an old disk from a new one.

use license::product::NodeId;

use crate::charter::{Departure, Replacement, Retired};
use crate::command::{
    AbandonReplacement, BeginReplacement, Bound, FinishReplacement, Member, Refusal,
    ReplacementRefusal,
};
use crate::ledger::{Entry, Ledger};
use crate::state::Edition;

impl Ledger {
    pub(crate) fn begin_replacement(&mut self, body: &BeginReplacement) -> Result<(), Refusal> {
        let charter = self.chartered()?;
        let asked = Replacement {
            old: body.old,
            new: body.new.clone(),
            peer: body.peer.clone(),
            client: body.client.clone(),
            by: body.by.clone(),
        };
        match &charter.replacement {
            // Beginning twice is a retry, whoever asks.
            Some(begun) if (Replacement { by: asked.by.clone(), ..begun.clone() }) == asked => {
                return Ok(());
            }
            Some(begun) => return Err(under_way(begun)),
            None => {}
        }
        self.may_replace(body.old, body.new.node)?;
        self.check_container_is_new(&body.new)?;
        self.charter_mut().replacement = Some(asked);
        Ok(())
    }

    /// Whether a node of that id may begin to take that member's place, as far
    /// as can be told before it has shown its container.
    ///
    /// # Errors
    /// The refusal that [`BeginReplacement`] would meet.
    pub fn may_replace(&self, old: NodeId, new: NodeId) -> Result<(), Refusal> {
        let charter = self.chartered()?;
        match &charter.replacement {
            Some(begun) if (begun.old, begun.new.node) == (old, new) => return Ok(()),
            Some(begun) => return Err(under_way(begun)),
            None => {}
        }
        self.member(old)?;
        if charter.knew(new) {
            return Err(Refusal::Replacement(ReplacementRefusal::IdUsed { node: new }));
        }
        Bound::Departed.check_room(charter.gone())
    }

    fn check_container_is_new(&self, new: &Member) -> Result<(), Refusal> {
        let charter = self.chartered()?;
        let node = new.node;
        let refused =
            if charter.containers_ever().any(|known| known.serial() == new.container.serial()) {
                ReplacementRefusal::ContainerUsed { node, container: new.container.serial() }
            } else if new.container.act() != charter.act {
                ReplacementRefusal::OtherAct { node, act: new.container.act(), wanted: charter.act }
            } else {
                return Ok(());
            };
        Err(Refusal::Replacement(refused))
    }

    pub(crate) fn finish_replacement(
        &mut self,
        body: &FinishReplacement,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let (old, new) = (body.old, body.new);
        let departure = Departure::ReplacedBy(new);
        // Finishing twice is a retry.
        if self.chartered()?.retired.get(&old).is_some_and(|gone| gone.departure == departure) {
            return Ok(());
        }
        let replacement = self.take_replacement(old, new)?;
        let charter = self.charter_mut();
        let leaving = charter.members.iter().position(|member| member.node == old);
        // Only a finish ends a membership, and it ends the replacement with it.
        let leaving = leaving.expect("the member of a replacement under way is a member");
        let gone = std::mem::replace(&mut charter.members[leaving], replacement.new);
        charter.members.sort_by_key(|member| member.node);
        charter.retired.insert(old, Retired { container: gone.container, departure });
        self.state.scalars.members_since = self.clock();
        self.state.vitals.remove(&old);
        self.forget_shares_of(old);
        self.refresh_service(entry);
        Ok(())
    }

    /// What a node proved is of no more use when it is gone. What was withdrawn
    /// stays so: its place in the split is still there to be made again.
    fn forget_shares_of(&mut self, node: NodeId) {
        let forget = |edition: &mut Edition| {
            edition.attested.remove(&node);
            edition.repairs.remove(&node);
        };
        let ids: Vec<_> = self.state.licenses.iter().map(|(id, _)| *id).collect();
        for id in ids {
            self.state.licenses.update(&id, |installed| installed.each_edition(forget));
        }
    }

    pub(crate) fn abandon_replacement(&mut self, body: &AbandonReplacement) -> Result<(), Refusal> {
        let (old, new) = (body.old, body.new);
        let departure = Departure::Abandoned { stays: old };
        // Giving up twice is a retry.
        if self.chartered()?.retired.get(&new).is_some_and(|gone| gone.departure == departure) {
            return Ok(());
        }
        let replacement = self.take_replacement(old, new)?;
        let container = replacement.new.container;
        self.charter_mut().retired.insert(new, Retired { container, departure });
        Ok(())
    }

    /// Refuses what asks something of every member, while one is on its way in
    /// of whom that is not known.
    pub(crate) fn require_no_replacement(&self) -> Result<(), Refusal> {
        match &self.chartered()?.replacement {
            Some(begun) => Err(under_way(begun)),
            None => Ok(()),
        }
    }

    /// Ends the replacement under way, if it is this one.
    fn take_replacement(&mut self, old: NodeId, new: NodeId) -> Result<Replacement, Refusal> {
        let pending = self.chartered()?.replacement.clone();
        let pending =
            pending.ok_or(Refusal::Replacement(ReplacementRefusal::NoneUnderWay { old, new }))?;
        if (pending.old, pending.new.node) != (old, new) {
            return Err(under_way(&pending));
        }
        self.charter_mut().replacement = None;
        Ok(pending)
    }
}

fn under_way(begun: &Replacement) -> Refusal {
    let (old, new) = (begun.old, begun.new.node);
    Refusal::Replacement(ReplacementRefusal::UnderWay { old, new })
}

//! S21, amnesia: a node whose disk kept its word is never taken for one that forgot.

use super::Law;

pub(super) struct Amnesia;

impl Law for Amnesia {
    fn name(&self) -> &'static str {
        "S21"
    }

    fn sentence(&self) -> &'static str {
        "A node that lost nothing it had acknowledged comes back. (What happens to one that did is played in tests/amnesia.rs.) The world itself checks it: a node that stops without a fault of its disk fails the run."
    }
}

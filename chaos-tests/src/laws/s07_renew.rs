//! S7, renew. Checked in log order by the oracle.

use super::Law;

pub(super) struct Renew;

impl Law for Renew {
    fn name(&self) -> &'static str {
        "S7"
    }

    fn sentence(&self) -> &'static str {
        "Only a live lease with its own token is renewed; renewing never revives and never shortens."
    }
}

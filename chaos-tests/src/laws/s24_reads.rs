//! S24, reads. Checked in log order by the oracle.

use super::Law;

pub(super) struct Reads;

impl Law for Reads {
    fn name(&self) -> &'static str {
        "S24"
    }

    fn sentence(&self) -> &'static str {
        "A listing includes all that anybody had been told of when it was asked for."
    }
}

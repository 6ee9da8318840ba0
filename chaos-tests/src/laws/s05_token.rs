//! S5, token. Checked in log order by the oracle.

use super::Law;

pub(super) struct Token;

impl Law for Token {
    fn name(&self) -> &'static str {
        "S5"
    }

    fn sentence(&self) -> &'static str {
        "The fencing token rises with the log, one per grant."
    }
}

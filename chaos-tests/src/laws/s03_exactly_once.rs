//! S3, exactly once. Checked in log order by the oracle.

use super::Law;

pub(super) struct ExactlyOnce;

impl Law for ExactlyOnce {
    fn name(&self) -> &'static str {
        "S3"
    }

    fn sentence(&self) -> &'static str {
        "One effect per request id; every reply to the same id has the same grant."
    }
}

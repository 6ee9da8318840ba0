//! A certificate that an operator wants shut out, read once.

use ledger::command::RevokeCertificate;
use ledger::name::Subject;
use ledger::view::RevokedView;
use pki::{CertificateDer, Summary};

use crate::certificates::wall;
use crate::identity::subject_of;

/// Longest certificate that is read, in bytes: ours have some 700.
pub(super) const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// The command that shuts out this certificate; or what is wrong with it.
pub(super) fn read(der: &[u8], by: Subject) -> Result<RevokeCertificate, String> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(format!(
            "the certificate has {} bytes and the limit is {CERTIFICATE_BYTES_MAX}; send the certificate alone, in DER",
            der.len()
        ));
    }
    let read = Summary::of(&CertificateDer::from(der)).map_err(|error| error.to_string())?;
    let identity = read.identity.map_err(|error| error.to_string())?;
    let subject = subject_of(&identity).map_err(|name| name.to_string())?;
    let (from, expires) = (wall(read.from), wall(read.expires));
    Ok(RevokeCertificate { fingerprint: read.fingerprint.0, subject, from, expires, by })
}

/// What operators see of it from now on.
pub(super) fn seen(revoke: RevokeCertificate) -> RevokedView {
    let RevokeCertificate { fingerprint, subject, expires, by, .. } = revoke;
    RevokedView { fingerprint, subject, expires, by }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_of_ours_is_refused_in_words() {
        let by = || Subject::parse("op:ana").expect("a subject");
        let says = |der: &[u8]| read(der, by()).expect_err("nothing to revoke");
        assert!(says(b"").contains("X.509"));
        assert!(says(b"-----BEGIN CERTIFICATE-----").contains("X.509"));
        assert!(says(&[0x30; CERTIFICATE_BYTES_MAX + 1]).contains("16384"));
    }
}

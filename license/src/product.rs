//! The names and numbers that say which product, which license and whose.
//!
//! Parsed once at the edge; a value of one of these types is already valid.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A name or number that breaks the rules of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} is not valid: {rule}")]
pub struct InvalidName {
    /// What was being parsed, for example `product name`.
    pub kind: &'static str,
    /// What was given, cut to 80 characters.
    pub value: String,
    /// The rule it breaks, in words a person can act on.
    pub rule: &'static str,
}

impl InvalidName {
    /// An error for `value`, which is shown cut short.
    pub fn new(kind: &'static str, value: &str, rule: &'static str) -> Self {
        Self { kind, value: value.chars().take(80).collect(), rule }
    }
}

/// The name applications ask for, such as `cad-pro`.
///
/// 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and `-`, beginning with a
/// letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProductName(String);

impl ProductName {
    /// Longest name, in bytes.
    pub const LENGTH_MAX: usize = 64;

    /// Parses a product name.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let first_is_plain =
            name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let all_plain = name.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
        });
        if first_is_plain && all_plain && name.len() <= Self::LENGTH_MAX {
            return Ok(Self(name.to_owned()));
        }
        Err(InvalidName::new(
            "product name",
            name,
            "use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
        ))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProductName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ProductName {
    type Error = InvalidName;
    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::parse(&name)
    }
}

impl From<ProductName> for String {
    fn from(name: ProductName) -> Self {
        name.0
    }
}

/// The vendor's number, certified by the vendor root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FirmCode(pub u32);

/// The product's number within its firm code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProductCode(pub u32);

/// The identifier the three shares of one TMR license have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TmrId(pub u32);

/// The activation id that the three containers of one cluster have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActId(pub u32);

/// Which life of a cluster: it rises with every restore from a backup, and is
/// 0 before the first. Terms and proofs of one say nothing in another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Which update of a license this is: rises with every update, never falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LicenseSerial(pub u64);

/// A highest or requested product version, `major.minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Major part.
    pub major: u32,
    /// Minor part.
    pub minor: u32,
}

impl Version {
    /// Parses `3`, or `3.1`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let wrong =
            || InvalidName::new("version", text, "write it as MAJOR or MAJOR.MINOR, such as 3.1");
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self {
            major: major.parse().map_err(|_| wrong())?,
            minor: minor.parse().map_err(|_| wrong())?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Which license, through all its updates: firm code, product code, TMR id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LicenseId {
    /// The vendor.
    pub firm: FirmCode,
    /// The product.
    pub product: ProductCode,
    /// The TMR license.
    pub tmr: TmrId,
}

impl LicenseId {
    /// Parses `FIRM:PRODUCT:TMR`, the form [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let wrong = || {
            InvalidName::new(
                "license id",
                text,
                "write it as FIRM:PRODUCT:TMR, such as 6000010:201:1",
            )
        };
        let mut parts = text.split(':').map(|part| part.parse::<u32>());
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(firm)), Some(Ok(product)), Some(Ok(tmr)), None) => {
                Ok(Self { firm: FirmCode(firm), product: ProductCode(product), tmr: TmrId(tmr) })
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for LicenseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.firm.0, self.product.0, self.tmr.0)
    }
}

/// Wall-clock time: milliseconds since 1970-01-01T00:00:00Z.
///
/// Only license dates and reports use it; leases run on cluster time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(pub i64);

impl WallTime {
    /// This time moved by `millis`, saturating.
    pub fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// As people read it: `2023-11-14 22:13:20 UTC`.
impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS_PER_ERA: i64 = 146_097;
        let seconds = self.0.div_euclid(1_000);
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years are counted from March, so that the leap day is the last of its year.
        let since_march_0 = days + 719_468;
        let (era, day) =
            (since_march_0.div_euclid(DAYS_PER_ERA), since_march_0.rem_euclid(DAYS_PER_ERA));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = era * 400 + year + carry;
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// Which cluster: 128 random bits drawn when it was formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl ClusterId {
    /// Parses the 32 hexadecimal digits that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(bits) if digits => Ok(Self(bits.to_be_bytes())),
            _ => Err(InvalidName::new("cluster id", text, "write its 32 hexadecimal digits")),
        }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which node of a cluster. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_people_write_them() {
        let read = |seconds: i64| WallTime(seconds * 1_000).to_string();
        assert_eq!(read(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(read(1_700_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(read(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(read(-1), "1969-12-31 23:59:59 UTC");
    }

    #[test]
    fn a_cluster_id_reads_back_as_it_is_shown() {
        let id = ClusterId(*b"a golden cluster");
        assert_eq!(ClusterId::parse(&id.to_string()), Ok(id));
        for wrong in ["", "7", "+6120676f6c64656e20636c7573746572", &id.to_string()[1..]] {
            assert!(ClusterId::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}

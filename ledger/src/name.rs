//! Who asks, and what they call themselves.

use std::fmt;
use std::sync::Arc;

use license::product::InvalidName;
use serde::{Deserialize, Serialize};

/// Who a connection proved to be: a certificate's or a bearer token's subject.
///
/// It is also the station that station counting counts. 1 to 128 printable
/// ASCII characters without spaces, such as `line-7` or `cn=press,o=works`.
/// Cloning is cheap: copies share one allocation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(Arc<str>);

impl Subject {
    /// Longest subject, in bytes.
    pub const LENGTH_MAX: usize = 128;

    /// Parses a subject.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain && (1..=Self::LENGTH_MAX).contains(&text.len()) {
            return Ok(Self(text.into()));
        }
        Err(InvalidName::new("subject", text, "use 1 to 128 printable ASCII characters, no spaces"))
    }

    /// The subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Subject {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.as_str().to_owned()
    }
}

/// What a caller calls itself, shown to operators and believed by nobody.
///
/// Up to 128 bytes of UTF-8 without control characters; may be empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HolderName(Arc<str>);

impl HolderName {
    /// Longest holder name, in bytes.
    pub const LENGTH_MAX: usize = 128;

    /// Parses a holder name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= Self::LENGTH_MAX && !text.chars().any(char::is_control) {
            return Ok(Self(text.into()));
        }
        Err(InvalidName::new(
            "holder name",
            text,
            "use at most 128 bytes of text without control characters",
        ))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for HolderName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<HolderName> for String {
    fn from(name: HolderName) -> Self {
        name.as_str().to_owned()
    }
}

/// Where a node is found: `host:port`, as others dial it.
///
/// 3 to 255 printable ASCII characters without spaces. Whether it can be
/// reached is for whoever dials to find out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(Arc<str>);

impl Address {
    /// Longest address, in bytes.
    pub const LENGTH_MAX: usize = 255;

    /// Parses an address.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let plain = text.len() <= Self::LENGTH_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let port = parts.and_then(|(_, port)| port.parse::<u16>().ok());
        if plain && port.is_some_and(|port| port != 0) {
            return Ok(Self(text.into()));
        }
        Err(InvalidName::new(
            "address",
            text,
            "write host:port, such as node4.example.net:22451, in at most 255 characters",
        ))
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let longest = format!("{}:1", "x".repeat(Address::LENGTH_MAX - 2));
        for good in ["node4:22451", "10.0.0.4:1", "[fd00::4]:65535", &longest] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        let longer = format!("x{longest}");
        for bad in ["", "node4", ":22451", "node4:0", "node4:65536", "no de:1", &longer] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}

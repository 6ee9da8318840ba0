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

//! What a node runs: the version of its build, and the highest feature level
//! that build knows.

use std::fmt;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::product::InvalidName;

/// A feature level: what may be written into the log, whatever the binaries know.
///
/// From 1. A cluster has one, a build knows all up to its highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Level(NonZeroU16);

impl Level {
    /// The level of the first build, which every build knows.
    pub const LOWEST: Self = Self(NonZeroU16::MIN);

    /// Level `number`; there is no level 0.
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::LOWEST
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The version of a build, for operators' eyes: nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BuildVersion {
    /// Before the first dot.
    pub major: u16,
    /// Between the dots.
    pub minor: u16,
    /// Behind them.
    pub patch: u16,
}

impl BuildVersion {
    /// Parses `1.2.3`; what follows a `-` or `+`, as in `1.2.3-rc.1`, is left out.
    ///
    /// # Errors
    /// When the text is not of that form.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new("build version", text, "write it as 1.2.3");
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        let numbers: Vec<u16> = numbers
            .split('.')
            .map(|number| number.parse().map_err(|_| invalid()))
            .collect::<Result<_, _>>()?;
        match numbers[..] {
            [major, minor, patch] => Ok(Self { major, minor, patch }),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for BuildVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A build, as a node's heartbeat shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Its version.
    pub version: BuildVersion,
    /// The highest feature level it knows.
    pub highest: Level,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_as_it_is_written() {
        let version = BuildVersion { major: 1, minor: 20, patch: 3 };
        assert_eq!(BuildVersion::parse(&version.to_string()), Ok(version));
        assert_eq!(BuildVersion::parse("1.20.3-rc.1+dirty"), Ok(version));
        for wrong in ["", "1.2", "1.2.3.4", "1.2.x", "1.2.70000", "-1.2.3"] {
            assert!(BuildVersion::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn there_is_no_level_below_the_first() {
        assert_eq!(Level::new(0), None);
        assert_eq!(Level::new(1), Some(Level::LOWEST));
        assert!(postcard::from_bytes::<Level>(&[0]).is_err());
    }
}

//! The traits by which a host is known again, what each weighs, and how many
//! may be gone.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What kind of thing a trait is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraitKind {
    /// The operating system's machine id.
    MachineId,
    /// A serial number or id of the mainboard or of the virtual machine.
    Board,
    /// The serial number of a physical disk.
    Disk,
    /// The address of a physical network interface.
    Network,
    /// A key file that the operator keeps beside the configuration.
    KeyFile,
}

impl TraitKind {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::MachineId, Self::Board, Self::Disk, Self::Network, Self::KeyFile];

    /// What one trait of this kind weighs.
    ///
    /// A key file outweighs all the rest together at every tolerance but
    /// `tight`: who keeps one means to move the node to other hosts with it.
    pub fn weight(self) -> u8 {
        match self {
            Self::MachineId => 4,
            Self::Board | Self::Disk | Self::Network => 2,
            Self::KeyFile => 24,
        }
    }

    /// What stands for it where a key is made of a trait; never changes.
    pub(crate) fn tag(self) -> u8 {
        match self {
            Self::MachineId => 1,
            Self::Board => 2,
            Self::Disk => 3,
            Self::Network => 4,
            Self::KeyFile => 5,
        }
    }

    /// How many of this kind count; the first by name. A host with twenty
    /// interfaces is not known by its interfaces alone.
    pub fn count_max(self) -> usize {
        match self {
            Self::MachineId | Self::KeyFile => 1,
            Self::Board | Self::Disk | Self::Network => 2,
        }
    }
}

/// Longest name of a trait, in bytes.
pub const LABEL_MAX: usize = 64;

/// One trait of one host.
#[derive(Clone, PartialEq, Eq)]
pub struct Trait {
    kind: TraitKind,
    label: String,
    value: Zeroizing<Vec<u8>>,
}

impl Trait {
    /// A trait, and the name by which an operator knows it, such as
    /// `address of eth0`; a name longer than [`LABEL_MAX`] is cut.
    pub fn new(kind: TraitKind, label: &str, value: impl Into<Vec<u8>>) -> Self {
        let mut label = label.to_owned();
        label.truncate((0..=LABEL_MAX).rev().find(|at| label.is_char_boundary(*at)).unwrap_or(0));
        Self { kind, label, value: Zeroizing::new(value.into()) }
    }

    /// Its kind.
    pub fn kind(&self) -> TraitKind {
        self.kind
    }

    /// Its name.
    pub fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn value(&self) -> &[u8] {
        &self.value
    }
}

impl fmt::Debug for Trait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its value is part of a key.
        f.debug_tuple("Trait").field(&self.kind).field(&self.label).finish()
    }
}

/// The traits of one host that count, in an order of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits(Vec<Trait>);

impl Traits {
    /// Of what a host shows: without doubles, and of each kind as many as count.
    pub fn of(shown: impl IntoIterator<Item = Trait>) -> Self {
        let mut shown: Vec<Trait> = shown.into_iter().collect();
        shown.sort_by(|one, other| (one.kind, &one.label).cmp(&(other.kind, &other.label)));
        let mut counted: Vec<Trait> = Vec::new();
        for found in shown {
            let same_kind = counted.iter().filter(|counted| counted.kind == found.kind);
            let is_double = same_kind.clone().any(|counted| counted.value == found.value);
            if !is_double && same_kind.count() < found.kind.count_max() {
                counted.push(found);
            }
        }
        Self(counted)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Trait> {
        self.0.iter()
    }

    /// What they weigh together.
    pub fn weight(&self) -> u16 {
        self.0.iter().map(|found| u16::from(found.kind.weight())).sum()
    }
}

/// How much of a host may change before a container no longer opens on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tolerance {
    /// Two fifths of the weight must be there.
    Loose,
    /// Three fifths.
    #[default]
    Medium,
    /// Seventeen twentieths.
    Tight,
}

impl Tolerance {
    /// All of them, loosest first.
    pub const ALL: [Self; 3] = [Self::Loose, Self::Medium, Self::Tight];

    /// Its name, in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loose => "loose",
            Self::Medium => "medium",
            Self::Tight => "tight",
        }
    }

    /// The weight that opens, of `total`; at least 2 unless there is none.
    pub fn threshold(self, total: u16) -> u16 {
        let twentieths = match self {
            Self::Loose => 8,
            Self::Medium => 12,
            Self::Tight => 17,
        };
        (total * twentieths).div_ceil(20).max(2).min(total)
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

//! What the vendor sold: the terms of one license.

use serde::{Deserialize, Serialize};

use crate::product::{ActId, ClusterId, LicenseId, LicenseSerial, ProductName, Version, WallTime};

/// The terms of one license, in one update of it.
///
/// Plain values until [`Terms::validate`] has passed; the terms of a
/// [`License`](crate::package::License) always have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Which license, through all its updates.
    pub license: LicenseId,
    /// Which update: rises with every one.
    pub serial: LicenseSerial,
    /// The activation id the three containers have in common.
    pub act: ActId,
    /// The one cluster it is good for.
    pub cluster: ClusterId,
    /// The name applications ask for.
    pub name: ProductName,
    /// How many seats, 1 to [`Terms::SEATS_MAX`]; 0 when counting is unlimited.
    pub seats: u32,
    /// What takes a seat.
    pub counting: Counting,
    /// Not before this time on the wall floor.
    pub activation: Option<WallTime>,
    /// Not at or after this time on the wall floor.
    pub expiration: Option<WallTime>,
    /// The highest product version covered.
    pub version_max: Option<Version>,
    /// What the application is told.
    pub feature: Feature,
    /// When the vendor issued it; the wall floor starts here.
    pub issued: WallTime,
    /// Room for what later versions add, by rising tag, at most [`Terms::EXTENSIONS_MAX`].
    pub extensions: Vec<Extension>,
}

/// What takes a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counting {
    /// Every lease takes a seat.
    PerInstance,
    /// All leases of one station share a seat.
    PerStation,
    /// A station takes one seat and may hold one lease.
    ExclusivePerStation,
    /// Nothing is counted.
    Unlimited,
}

/// What the license switches on in the application, which alone interprets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// 32 switches.
    pub map: u32,
    /// Text for the application: at most [`Feature::TEXT_MAX`] bytes, no control characters.
    pub text: String,
}

impl Feature {
    /// Longest text, in bytes.
    pub const TEXT_MAX: usize = 1_024;
}

/// One term that a later version added, such as a usage period, a unit
/// counter, borrowing or a trial mode.
///
/// An odd tag is critical: a build that does not know it refuses the license,
/// because ignoring the term would grant more than was sold. An even tag may
/// be ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Which term.
    pub tag: u16,
    /// Its value, at most [`Extension::VALUE_MAX`] bytes.
    pub value: Vec<u8>,
}

impl Extension {
    /// Longest value, in bytes.
    pub const VALUE_MAX: usize = 1_024;

    /// Whether a build that does not know the tag must refuse the license.
    pub fn is_critical(&self) -> bool {
        self.tag % 2 == 1
    }
}

/// Why terms are not valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TermsRefusal {
    /// No seats, or more than any cluster serves.
    #[error("{seats} seats: give 1 to {}", Terms::SEATS_MAX)]
    SeatsOutOfRange {
        /// What was given.
        seats: u32,
    },
    /// Unlimited counting with a number of seats.
    #[error(
        "counting is unlimited but {seats} seats are given: leave the seats at 0, or choose a counting mode"
    )]
    SeatsOfUnlimited {
        /// What was given.
        seats: u32,
    },
    /// It ends before it begins.
    #[error(
        "the activation time is not before the expiration time: such a license would never be valid"
    )]
    NeverActive,
    /// The feature text is too long.
    #[error("the feature text has {length} bytes: at most {} are allowed", Feature::TEXT_MAX)]
    TextTooLong {
        /// Its length, in bytes.
        length: u64,
    },
    /// The feature text holds a control character.
    #[error("the feature text holds control characters: use printable text")]
    TextNotPrintable,
    /// A critical term that this build does not know.
    #[error("term {tag} is not known to this build and must not be ignored: update trine")]
    UnknownExtension {
        /// Its tag.
        tag: u16,
    },
    /// The same term twice.
    #[error("term {tag} is given twice: ask the vendor for a corrected license")]
    DuplicateExtension {
        /// Its tag.
        tag: u16,
    },
    /// Terms out of order.
    #[error("term {tag} is out of order: ask the vendor for a corrected license")]
    ExtensionOutOfOrder {
        /// Its tag.
        tag: u16,
    },
    /// Too many terms.
    #[error("{count} additional terms: at most {} are allowed", Terms::EXTENSIONS_MAX)]
    TooManyExtensions {
        /// How many.
        count: u64,
    },
    /// A term's value is too long.
    #[error("term {tag} has {length} bytes: at most {} are allowed", Extension::VALUE_MAX)]
    ExtensionTooLong {
        /// Its tag.
        tag: u16,
        /// Its length, in bytes.
        length: u64,
    },
}

impl Terms {
    /// The most seats one license can sell.
    pub const SEATS_MAX: u32 = 1_000_000;
    /// The most additional terms.
    pub const EXTENSIONS_MAX: usize = 16;

    /// Checks every rule a license's terms must keep.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), TermsRefusal> {
        match (self.counting, self.seats) {
            (Counting::Unlimited, 0) => {}
            (Counting::Unlimited, seats) => return Err(TermsRefusal::SeatsOfUnlimited { seats }),
            (_, 1..=Self::SEATS_MAX) => {}
            (_, seats) => return Err(TermsRefusal::SeatsOutOfRange { seats }),
        }
        if let (Some(activation), Some(expiration)) = (self.activation, self.expiration)
            && activation >= expiration
        {
            return Err(TermsRefusal::NeverActive);
        }
        if self.feature.text.len() > Feature::TEXT_MAX {
            return Err(TermsRefusal::TextTooLong { length: self.feature.text.len() as u64 });
        }
        if self.feature.text.chars().any(char::is_control) {
            return Err(TermsRefusal::TextNotPrintable);
        }
        self.validate_extensions()
    }

    fn validate_extensions(&self) -> Result<(), TermsRefusal> {
        if self.extensions.len() > Self::EXTENSIONS_MAX {
            return Err(TermsRefusal::TooManyExtensions { count: self.extensions.len() as u64 });
        }
        for pair in self.extensions.windows(2) {
            let tag = pair[1].tag;
            if pair[0].tag == tag {
                return Err(TermsRefusal::DuplicateExtension { tag });
            }
            if pair[0].tag > tag {
                return Err(TermsRefusal::ExtensionOutOfOrder { tag });
            }
        }
        for extension in &self.extensions {
            let (tag, length) = (extension.tag, extension.value.len());
            if length > Extension::VALUE_MAX {
                return Err(TermsRefusal::ExtensionTooLong { tag, length: length as u64 });
            }
            // This build knows no extension, so every critical one is unknown.
            if extension.is_critical() {
                return Err(TermsRefusal::UnknownExtension { tag });
            }
        }
        Ok(())
    }
}

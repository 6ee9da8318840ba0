//! What the vendor sold: the terms of one license.

use serde::{Deserialize, Serialize};

use crate::product::{
    ActId, ClusterId, LicenseId, LicenseSerial, ProductName, Version, WallTime,
};

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
    /// Room for what later versions add, ordered by tag.
    pub extensions: Vec<Extension>,
}

/// What takes a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// Free text, at most [`Feature::TEXT_MAX`] bytes.
    pub text: String,
}

impl Feature {
    /// Longest text, in bytes.
    pub const TEXT_MAX: usize = 1_024;
}

/// One term that a later version added.
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

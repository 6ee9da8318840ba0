//! Clock resets: believed whole, or refused for what is wrong with them.

use proptest::prelude::*;

use super::{FIRM, World};
use crate::product::{ClusterId, FirmCode, WallTime};
use crate::reset::{ClockReset, ResetRefusal, ResetTerms};
use crate::vendor::{RootKey, Vendor};

impl World {
    fn believe(&self, file: &[u8]) -> Result<(FirmCode, ResetTerms), ResetRefusal> {
        ClockReset::decode(file)?.verify(&[self.root.root().clone()], &self.cluster)
    }
}

#[test]
fn a_reset_of_a_trusted_vendor_is_believed() {
    let world = World::new(8);
    assert_eq!(world.believe(&world.reset().encode()), Ok((FIRM, world.reset_terms())));
}

#[test]
fn a_strangers_reset_is_refused() {
    let mut world = World::new(8);
    let other = RootKey::create("Evil root", &mut world.rng).expect("a name");
    let evil = Vendor::create(&other, FIRM, "Evil", &mut world.rng).expect("a name");
    let reset = evil.reset_clock(world.reset_terms()).expect("it turns the date back");
    let refused = world.believe(&reset.encode());
    assert!(matches!(refused, Err(ResetRefusal::UnknownRoot { .. })), "{refused:?}");
    // The trusted root named, and its word for the key made up.
    let mut forged = reset;
    forged.certificate.body.issuer = world.root.root().key.digest();
    let refused = world.believe(&forged.encode());
    assert!(matches!(refused, Err(ResetRefusal::FirmNotCertified { .. })), "{refused:?}");
}

#[test]
fn a_reset_is_for_one_cluster() {
    let world = World::new(8);
    let meant = ClusterId([1; 16]);
    let terms = ResetTerms { cluster: meant, ..world.reset_terms() };
    let reset = world.vendor.reset_clock(terms).expect("it turns the date back");
    let here = world.cluster;
    assert_eq!(world.believe(&reset.encode()), Err(ResetRefusal::OtherCluster { meant, here }));
}

#[test]
fn a_reset_turns_back_or_is_none() {
    let world = World::new(8);
    for to in [WallTime(2_000_000_000_000), WallTime(2_000_000_000_001)] {
        let terms = ResetTerms { to, ..world.reset_terms() };
        let not_back = ResetRefusal::NotBack { from: terms.from, to };
        assert_eq!(world.vendor.reset_clock(terms), Err(not_back.clone()));
        // One that a vendor made all the same.
        assert_eq!(world.believe(&world.vendor.sign_reset(terms).encode()), Err(not_back));
    }
}

#[test]
fn a_license_is_no_reset() {
    let mut world = World::new(8);
    let package = world.issue().encode();
    let refused = world.believe(&package).expect_err("another kind").to_string();
    assert!(refused.contains("this is a license package, not a clock reset"), "{refused}");
}

#[test]
fn a_flipped_bit_anywhere_in_a_reset_is_found() {
    let world = World::new(8);
    let good = world.reset().encode();
    for place in 0..good.len() {
        for bit in 0..8 {
            let mut spoiled = good.clone();
            spoiled[place] ^= 1 << bit;
            assert!(world.believe(&spoiled).is_err(), "byte {place} bit {bit}");
        }
    }
    for length in 0..good.len() {
        assert!(world.believe(&good[..length]).is_err(), "{length} bytes");
    }
}

proptest! {
    #[test]
    fn a_spoiled_reset_is_refused_whatever_was_spoiled(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let world = World::new(8);
        let good = world.reset().encode();
        let mut spoiled = good.clone();
        for (index, byte) in changes {
            let position = index.index(good.len());
            spoiled[position] = byte;
        }
        prop_assert_eq!(world.believe(&spoiled).is_ok(), spoiled == good);
    }
}

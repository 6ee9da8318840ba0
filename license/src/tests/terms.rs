//! Which terms a license may have.

use super::World;
use crate::product::WallTime;
use crate::terms::{Counting, Extension, Feature, Terms, TermsRefusal};

/// What `change` makes of good terms.
fn check(change: impl FnOnce(&mut Terms)) -> Result<(), TermsRefusal> {
    let mut terms = World::new(3).terms();
    change(&mut terms);
    terms.validate()
}

fn extension(tag: u16) -> Extension {
    Extension { tag, value: vec![1] }
}

#[test]
fn seats_are_one_to_a_million() {
    assert_eq!(check(|terms| terms.seats = 1), Ok(()));
    assert_eq!(check(|terms| terms.seats = 1_000_000), Ok(()));
    for seats in [0, 1_000_001, u32::MAX] {
        let refusal = TermsRefusal::SeatsOutOfRange { seats };
        assert_eq!(check(|terms| terms.seats = seats), Err(refusal));
    }
}

#[test]
fn unlimited_counting_has_no_number_of_seats() {
    let unlimited = |seats| {
        check(|terms| {
            terms.counting = Counting::Unlimited;
            terms.seats = seats;
        })
    };
    assert_eq!(unlimited(0), Ok(()));
    assert_eq!(unlimited(5), Err(TermsRefusal::SeatsOfUnlimited { seats: 5 }));
}

#[test]
fn a_license_begins_before_it_ends() {
    let between = |from, until| {
        check(|terms| {
            terms.activation = Some(WallTime(from));
            terms.expiration = Some(WallTime(until));
        })
    };
    assert_eq!(between(5, 6), Ok(()));
    assert_eq!(between(5, 5), Err(TermsRefusal::NeverActive));
    assert_eq!(between(6, 5), Err(TermsRefusal::NeverActive));
}

#[test]
fn the_feature_text_is_short_and_printable() {
    let with = |text: String| check(|terms| terms.feature = Feature { map: 0, text });
    assert_eq!(with("x".repeat(1_024)), Ok(()));
    assert_eq!(with("x".repeat(1_025)), Err(TermsRefusal::TextTooLong { length: 1_025 }));
    assert_eq!(with("bell \u{7}".to_owned()), Err(TermsRefusal::TextNotPrintable));
}

#[test]
fn an_unknown_term_is_refused_when_critical_and_ignored_otherwise() {
    let with = |tag| check(|terms| terms.extensions = vec![extension(tag)]);
    assert_eq!(with(2), Ok(()));
    assert_eq!(with(3), Err(TermsRefusal::UnknownExtension { tag: 3 }));
}

#[test]
fn a_term_given_twice_is_refused() {
    let refusal = check(|terms| terms.extensions = vec![extension(2), extension(2)]);
    assert_eq!(refusal, Err(TermsRefusal::DuplicateExtension { tag: 2 }));
}

#[test]
fn terms_out_of_order_are_refused() {
    let refusal = check(|terms| terms.extensions = vec![extension(4), extension(2)]);
    assert_eq!(refusal, Err(TermsRefusal::ExtensionOutOfOrder { tag: 2 }));
}

#[test]
fn additional_terms_are_few_and_small() {
    let refusal = check(|terms| terms.extensions = (0..17).map(|n| extension(n * 2)).collect());
    assert_eq!(refusal, Err(TermsRefusal::TooManyExtensions { count: 17 }));
    let long = Extension { tag: 2, value: vec![0; 1_025] };
    let refusal = check(|terms| terms.extensions = vec![long]);
    assert_eq!(refusal, Err(TermsRefusal::ExtensionTooLong { tag: 2, length: 1_025 }));
}

/// A term given twice in a package that the vendor really signed.
#[test]
fn a_package_with_a_term_given_twice_is_refused_by_name() {
    let mut world = World::new(3);
    let package = world
        .issue_spoiled(|statement| statement.terms.extensions = vec![extension(2), extension(2)]);
    let refusal = world.install(&package.encode()).expect_err("given twice");
    assert_eq!(refusal, TermsRefusal::DuplicateExtension { tag: 2 }.into());
}

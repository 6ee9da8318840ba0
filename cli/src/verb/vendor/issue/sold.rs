//! What is sold with an update: what the vendor names, and for the rest what
//! the customer had. Pure.

use license::product::{Version, WallTime};
use license::terms::Counting;
use serde::Serialize;

use crate::dates::show_date;
use crate::failure::Failure;
use crate::vendor_dir::Sold;

/// A term that `none` takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound<T> {
    None,
    At(T),
}

impl<T> Bound<T> {
    /// `none`, or what `parse` reads.
    pub(super) fn parse(
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            _ => parse(text).map(Self::At),
        }
    }

    fn value(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::At(value) => Some(value),
        }
    }
}

/// What the command line names.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) seats: Option<u32>,
    pub(super) counting: Option<Counting>,
    pub(super) activation: Option<Bound<WallTime>>,
    pub(super) expiration: Option<Bound<WallTime>>,
    pub(super) version_max: Option<Bound<Version>>,
    pub(super) feature_map: Option<u32>,
    pub(super) text: Option<String>,
}

impl Asked {
    /// What is to be sold to a customer who had `before`, if any.
    pub(super) fn sold(self, before: Option<&Sold>, now: WallTime) -> Result<Sold, Failure> {
        let counting = self.counting.or(before.map(|before| before.counting));
        let counting = counting.unwrap_or(Counting::PerInstance);
        let had = before.filter(|before| before.counting != Counting::Unlimited);
        let seats = match (self.seats, counting) {
            (Some(seats), _) => seats,
            (None, Counting::Unlimited) => 0,
            (None, _) => had.map(|had| had.seats).ok_or_else(|| {
                Failure::usage("--seats is missing; give the number of seats sold")
            })?,
        };
        let kept_end = before.and_then(|before| before.expiration_ms);
        if let (None, Some(end)) = (&self.expiration, kept_end)
            && end <= now
        {
            let ended = show_date(end);
            return Err(Failure::usage(format!(
                "the customer's license ended at {ended}, and an update keeps that unless it is told otherwise"
            ))
            .next("give the new end with --expiration DATE, or --expiration none for a license without end"));
        }
        let or_before = |asked: Option<Bound<WallTime>>, before| match asked {
            Some(bound) => bound.value(),
            None => before,
        };
        Ok(Sold {
            seats,
            counting,
            activation_ms: or_before(self.activation, before.and_then(|it| it.activation_ms)),
            expiration_ms: or_before(self.expiration, kept_end),
            version_max: match self.version_max {
                Some(bound) => bound.value().map(|version| version.to_string()),
                None => before.and_then(|before| before.version_max.clone()),
            },
            feature_map: self.feature_map.or(before.map(|it| it.feature_map)).unwrap_or(0),
            text: self.text.or(before.map(|it| it.text.clone())).unwrap_or_default(),
        })
    }
}

/// A term that is another than it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// seats, counting, from, until, highest version, features, text.
    pub(super) term: &'static str,
    /// As people read it.
    pub(super) before: String,
    /// As people read it.
    pub(super) now: String,
}

/// What a customer who had `before` gets that is different.
pub(super) fn changes(before: &Sold, now: &Sold) -> Vec<Change> {
    let pairs = facts(before).into_iter().zip(facts(now));
    let differing = pairs.filter(|((_, before), (_, now))| before != now);
    differing.map(|((term, before), (_, now))| Change { term, before, now }).collect()
}

/// All terms, as people read them.
pub(super) fn facts(sold: &Sold) -> Vec<(&'static str, String)> {
    let date = |date: Option<WallTime>, none: &str| date.map_or(none.to_owned(), show_date);
    let seats = match sold.counting {
        Counting::Unlimited => "unlimited".to_owned(),
        _ => sold.seats.to_string(),
    };
    let counting = match sold.counting {
        Counting::PerInstance => "per-instance",
        Counting::PerStation => "per-station",
        Counting::ExclusivePerStation => "exclusive-per-station",
        Counting::Unlimited => "unlimited",
    };
    vec![
        ("seats", seats),
        ("counting", counting.to_owned()),
        ("from", date(sold.activation_ms, "at once")),
        ("until", date(sold.expiration_ms, "no end")),
        ("highest version", sold.version_max.clone().unwrap_or_else(|| "any".to_owned())),
        ("features", format!("{:#010x}", sold.feature_map)),
        ("text", sold.text.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_800_000_000_000);
    const END: WallTime = WallTime(NOW.0 + 86_400_000);

    fn had() -> Sold {
        Sold {
            seats: 50,
            counting: Counting::PerStation,
            activation_ms: Some(WallTime(5)),
            expiration_ms: Some(END),
            version_max: Some("3.1".to_owned()),
            feature_map: 0xf,
            text: "gold".to_owned(),
        }
    }

    #[test]
    fn an_update_keeps_every_term_that_is_not_named() {
        let update = Asked { seats: Some(80), ..Asked::default() };
        let sold = update.sold(Some(&had()), NOW).expect("an update");
        assert_eq!(sold, Sold { seats: 80, ..had() });
        let (before, now) = ("50".to_owned(), "80".to_owned());
        assert_eq!(changes(&had(), &sold), [Change { term: "seats", before, now }]);
        let same = Asked::default().sold(Some(&had()), NOW).expect("the same again");
        assert_eq!((&same, changes(&had(), &same).len()), (&had(), 0));
    }

    #[test]
    fn an_update_takes_a_term_away_only_when_it_is_told_to() {
        let asked = Asked {
            activation: Some(Bound::None),
            expiration: Some(Bound::None),
            version_max: Some(Bound::None),
            feature_map: Some(0),
            text: Some(String::new()),
            ..Asked::default()
        };
        let sold = asked.sold(Some(&had()), NOW).expect("an update");
        assert_eq!(
            (sold.activation_ms, sold.expiration_ms, sold.version_max.as_deref()),
            (None, None, None)
        );
        let terms: Vec<_> = changes(&had(), &sold).into_iter().map(|change| change.term).collect();
        assert_eq!(terms, ["from", "until", "highest version", "features", "text"]);
    }

    /// Kept in silence it would be a license that never serves.
    #[test]
    fn an_end_that_has_passed_is_not_kept_in_silence() {
        let over = Sold { expiration_ms: Some(NOW), ..had() };
        let refused = Asked::default().sold(Some(&over), NOW).expect_err("it has ended");
        assert!(refused.to_string().contains("--expiration"), "{refused}");
        let asked = Asked { expiration: Some(Bound::At(END)), ..Asked::default() };
        assert_eq!(asked.sold(Some(&over), NOW).expect("renewed").expiration_ms, Some(END));
    }

    #[test]
    fn a_first_license_needs_its_seats_and_has_no_end_unless_given() {
        assert!(Asked::default().sold(None, NOW).is_err());
        let first = Asked { seats: Some(5), ..Asked::default() }.sold(None, NOW).expect("one");
        assert_eq!(
            (first.seats, first.counting, first.expiration_ms),
            (5, Counting::PerInstance, None)
        );
    }

    #[test]
    fn seats_come_and_go_with_what_is_counted() {
        let unlimited = Asked { counting: Some(Counting::Unlimited), ..Asked::default() };
        let unlimited = unlimited.sold(Some(&had()), NOW).expect("unlimited");
        assert_eq!(unlimited.seats, 0);
        let counted = Asked { counting: Some(Counting::PerInstance), ..Asked::default() };
        assert!(counted.sold(Some(&unlimited), NOW).is_err(), "how many?");
    }
}

//! Into whose hands the shares come: what was issued for other containers goes
//! on serving where those are. Pure.

use crate::failure::Failure;
use crate::vendor_dir::Entry;

/// So many of a license's three shares serve it.
const ENOUGH: usize = 2;

/// Containers that an earlier issue was split for and this one is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exchange {
    /// The serial that was split for those that are gone.
    pub(super) serial: u64,
    /// Serials of the containers that this issue leaves out.
    pub(super) gone: Vec<String>,
    /// Serials of those that come in their place.
    pub(super) new: Vec<String>,
}

impl Exchange {
    /// Of all earlier issues of this license to this customer, the one that is left
    /// out most: what two exchanges one after the other leave behind serves too.
    /// Containers that the customer has called gone count no more.
    pub(super) fn since<'a>(
        earlier: impl Iterator<Item = &'a Entry> + Clone,
        now: &[String],
    ) -> Option<Self> {
        let called_gone: Vec<&String> =
            earlier.clone().flat_map(|entry| &entry.containers_gone).collect();
        let left_out = earlier.map(|entry| {
            let is_gone = |one: &&String| !now.contains(one) && !called_gone.contains(one);
            let is_new = |one: &&String| !entry.containers.contains(one);
            Self {
                serial: entry.serial,
                gone: entry.containers.iter().filter(is_gone).cloned().collect(),
                new: now.iter().filter(is_new).cloned().collect(),
            }
        });
        let most = left_out.max_by_key(|exchange| (exchange.gone.len(), exchange.serial))?;
        (!most.gone.is_empty()).then_some(most)
    }

    /// The customer's word is needed where those that are gone could still serve.
    ///
    /// # Errors
    /// They could, and nobody has said that they are gone for good.
    pub(super) fn check(&self, are_gone: bool) -> Result<(), Failure> {
        if self.gone.len() < ENOUGH || are_gone {
            return Ok(());
        }
        let Self { serial, gone, .. } = self;
        let what = format!(
            "{} of the three containers that serial {serial} was split for are not in this request: {}. Where they still run, they go on serving serial {serial} beside this issue, and every seat is there twice",
            gone.len(),
            gone.join(", ")
        );
        Err(Failure::refused("CONTAINERS_EXCHANGED", what).next("ask the customer what became of those nodes; if they are destroyed, or their data directories wiped, add --containers-gone"))
    }

    /// For the person who compares.
    pub(super) fn in_words(&self) -> String {
        format!(
            "Containers that serial {} was split for and this is not: {}; in their place: {}.\n",
            self.serial,
            self.gone.join(", "),
            self.new.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(containers: &[&str]) -> Entry {
        Entry {
            license: "7:1:1".to_owned(),
            serial: 6,
            product: "cad".to_owned(),
            cluster: String::new(),
            seats: 1,
            issued_ms: 0,
            containers: words(containers),
            containers_gone: Vec::new(),
            sold: None,
        }
    }

    fn words(containers: &[&str]) -> Vec<String> {
        containers.iter().map(ToString::to_string).collect()
    }

    fn exchange(before: &[&str], now: &[&str]) -> Option<Exchange> {
        Exchange::since([&issued(before)].into_iter(), &words(now))
    }

    #[test]
    fn one_container_in_the_place_of_another_is_told_and_taken() {
        let one = exchange(&["a", "b", "c"], &["a", "b", "d"]).expect("one is another");
        assert_eq!((&one.gone[..], &one.new[..]), (&["c".to_owned()][..], &["d".to_owned()][..]));
        one.check(false).expect("the two that stay are in this issue");
    }

    /// Two shares serve: those of before must be gone for good.
    #[test]
    fn a_majority_that_is_left_out_must_be_said_to_be_gone() {
        for now in [["a", "d", "e"], ["d", "e", "f"]] {
            let most = exchange(&["a", "b", "c"], &now).expect("others");
            let refused = most.check(false).expect_err("they may still run");
            assert!(refused.to_string().contains("serial 6"), "{refused}");
            most.check(true).expect("the customer said so");
        }
    }

    /// One after the other, c and b go: together they hold two shares of the first issue.
    #[test]
    fn two_exchanges_one_after_the_other_are_a_majority_of_the_first_issue() {
        let mut book = [issued(&["a", "b", "c"]), issued(&["a", "b", "d"])];
        book[1].serial = 7;
        let now = words(&["a", "d", "e"]);
        let left = Exchange::since(book.iter(), &now).expect("two are left out");
        assert_eq!((left.serial, &left.gone), (6, &words(&["b", "c"])));
        left.check(false).expect_err("they may still run");
        // Once the customer has said so, that is settled.
        book[1].containers_gone = words(&["c"]);
        let left = Exchange::since(book.iter(), &now).expect("one is left out");
        assert_eq!((left.serial, &left.gone), (7, &words(&["b"])));
    }

    #[test]
    fn the_same_containers_and_a_book_that_does_not_say_are_no_exchange() {
        assert_eq!(exchange(&["a", "b", "c"], &["c", "b", "a"]), None);
        assert_eq!(exchange(&[], &["a", "b", "c"]), None);
        assert_eq!(Exchange::since([].into_iter(), &words(&["a"])), None);
    }
}

//! First reading: the seats that a history begins with.

use std::collections::BTreeMap;

use super::Charged;
use crate::command::Token;
use crate::usage::{Fact, Page};

/// First reading: which seats lived where the kept history begins.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    last_token: Option<Token>,
    seats: BTreeMap<Token, Charged>,
}

impl Survey {
    /// Reads one page.
    pub fn read(&mut self, page: &Page) {
        for record in &page.records {
            if let Fact::PartBegun { last_token, .. } = record.fact {
                self.last_token.get_or_insert(last_token);
            }
            // Its first mention says what a seat was charged to until then.
            if let (Some(last), Some(held)) = (self.last_token, record.fact.seat())
                && held.token <= last
            {
                self.seats.entry(held.token).or_insert_with(|| held.into());
            }
        }
    }

    /// The seats that lived at the beginning, with those that no record
    /// mentions and that still live at the end.
    pub fn opening(mut self, live: &BTreeMap<Token, Charged>) -> BTreeMap<Token, Charged> {
        let last = self.last_token.unwrap_or(Token(0));
        for (token, charged) in live.range(..=last) {
            self.seats.entry(*token).or_insert_with(|| charged.clone());
        }
        self.seats
    }
}

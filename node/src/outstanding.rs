//! What was promised to a peer and waits to be fetched: little, and not for long.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// What was not fetched by then is dropped.
const LIFE: Duration = Duration::from_secs(2);

/// How much may wait; a peer that asks for more is refused.
const WAITING_MAX: usize = 64;

/// Things that wait, by name.
pub(crate) struct Outstanding<K, T>(BTreeMap<K, (Instant, T)>);

impl<K, T> Default for Outstanding<K, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, T> Outstanding<K, T> {
    /// Keeps it, if there is room. Whether there was.
    #[must_use]
    pub(crate) fn keep(&mut self, name: K, thing: T) -> bool {
        self.drop_late();
        let has_room = self.0.len() < WAITING_MAX;
        if has_room {
            self.0.insert(name, (Instant::now() + LIFE, thing));
        }
        has_room
    }

    /// Gives it out, once.
    pub(crate) fn take(&mut self, name: K) -> Option<T> {
        self.drop_late();
        self.0.remove(&name).map(|(_, thing)| thing)
    }

    fn drop_late(&mut self) {
        let now = Instant::now();
        self.0.retain(|_, (dropped_at, _)| *dropped_at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A_MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn what_is_fetched_once_waits_for_two_seconds_and_not_too_much_of_it() {
        let mut outstanding = Outstanding::default();
        for name in 0..64 {
            assert!(outstanding.keep(name, name), "{name}");
        }
        assert!(!outstanding.keep(64, 64), "one too many");
        assert_eq!(outstanding.take(64), None);
        assert_eq!(outstanding.take(0), Some(0));
        assert_eq!(outstanding.take(0), None, "a nonce serves once");
        assert!(outstanding.keep(64, 64), "there is room again");

        tokio::time::advance(Duration::from_secs(2) - A_MOMENT).await;
        assert_eq!(outstanding.take(1), Some(1));
        tokio::time::advance(A_MOMENT).await;
        assert_eq!(outstanding.take(2), None, "it was dropped");
        assert!((100..164).all(|name| outstanding.keep(name, name)), "and all made room");
    }
}

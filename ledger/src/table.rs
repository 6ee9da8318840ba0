//! An ordered map that keeps the sum of its entries' hashes (S18).
//!
//! The sum is of a multiset: it does not depend on the order in which entries
//! came and went, and changing one entry costs two hashes however many there
//! are. It finds divergence, not forgery: peers are authenticated elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use postcard::ser_flavors::Flavor;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// SHA-256 of a value's one encoding, without writing it out first.
pub(crate) fn digest(value: &impl Serialize) -> [u8; 32] {
    postcard::serialize_with_flavor(value, Hashing(Sha256::new()))
        .expect("the ledger's own types always encode, and hashing them cannot fail")
}

struct Hashing(Sha256);

impl Flavor for Hashing {
    type Output = [u8; 32];

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.update(bytes);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.update([byte]);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<[u8; 32]> {
        Ok(self.0.finalize().into())
    }
}

/// Four lanes of 64 bits, each added without carry into the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sum([u64; 4]);

impl Sum {
    fn of(hash: [u8; 32]) -> Self {
        let mut lanes = [0; 4];
        for (lane, bytes) in lanes.iter_mut().zip(hash.as_chunks::<8>().0) {
            *lane = u64::from_le_bytes(*bytes);
        }
        Self(lanes)
    }

    fn add(&mut self, item: Self) {
        for (lane, addend) in self.0.iter_mut().zip(item.0) {
            *lane = lane.wrapping_add(addend);
        }
    }

    fn subtract(&mut self, item: Self) {
        for (lane, subtrahend) in self.0.iter_mut().zip(item.0) {
            *lane = lane.wrapping_sub(subtrahend);
        }
    }
}

/// An ordered map whose entries can only change through it. `KIND` keeps equal
/// entries of different tables apart in the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table<K, V, const KIND: u8> {
    entries: BTreeMap<K, V>,
    sum: Sum,
}

impl<K, V, const KIND: u8> Default for Table<K, V, KIND> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), sum: Sum::default() }
    }
}

impl<K: Ord + Serialize, V: Serialize, const KIND: u8> Table<K, V, KIND> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    /// Puts an entry in the place of any under the same key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.sum.add(Self::item(&key, &value));
        if let Some(replaced) = self.entries.get(&key) {
            self.sum.subtract(Self::item(&key, replaced));
        }
        self.entries.insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.entries.remove(key)?;
        self.sum.subtract(Self::item(key, &value));
        Some(value)
    }

    /// Removes the entry under the lowest key.
    pub(crate) fn pop_first(&mut self) -> Option<(K, V)> {
        let (key, value) = self.entries.pop_first()?;
        self.sum.subtract(Self::item(&key, &value));
        Some((key, value))
    }

    /// Changes an entry in place; `None` when there is none.
    pub(crate) fn update<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let value = self.entries.get_mut(key)?;
        self.sum.subtract(Self::item(key, value));
        let result = change(value);
        self.sum.add(Self::item(key, value));
        Some(result)
    }

    /// Changes how values lie in memory, never what they are.
    pub(crate) fn repack(&mut self, repack: impl FnMut(&mut V)) {
        self.entries.values_mut().for_each(repack);
    }

    /// The sum as it was kept.
    pub(crate) fn sum(&self) -> Sum {
        self.sum
    }

    /// The sum from scratch; tests and restores compare it with the kept one.
    pub(crate) fn recomputed(&self) -> Sum {
        let mut sum = Sum::default();
        self.entries.iter().for_each(|(key, value)| sum.add(Self::item(key, value)));
        sum
    }

    fn item(key: &K, value: &V) -> Sum {
        Sum::of(digest(&(KIND, key, value)))
    }
}

impl<K, V, const KIND: u8> IntoIterator for Table<K, V, KIND> {
    type Item = (K, V);
    type IntoIter = std::collections::btree_map::IntoIter<K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<K: Serialize, V: Serialize, const KIND: u8> Serialize for Table<K, V, KIND> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(&self.entries)
    }
}

/// Strict: keys must rise, so a table has one encoding.
impl<'de, K, V, const KIND: u8> Deserialize<'de> for Table<K, V, KIND>
where
    K: Ord + Serialize + Deserialize<'de>,
    V: Serialize + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Rising(PhantomData))
    }
}

struct Rising<K, V, const KIND: u8>(PhantomData<(K, V)>);

impl<'de, K, V, const KIND: u8> Visitor<'de> for Rising<K, V, KIND>
where
    K: Ord + Serialize + Deserialize<'de>,
    V: Serialize + Deserialize<'de>,
{
    type Value = Table<K, V, KIND>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with rising keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut table = Table::default();
        while let Some((key, value)) = map.next_entry::<K, V>()? {
            if table.entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(A::Error::custom("keys do not rise"));
            }
            table.insert(key, value);
        }
        Ok(table)
    }
}

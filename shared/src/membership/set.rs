//! Collections inside statements: bounded, and with one encoding each.
//!
//! A set is a CBOR array and a map a CBOR map, both of definite length and in strictly ascending order: what is read twice, out of
//! order or in excess is refused, so that a body has one reading and one form (protocol §8.2).

use minicbor::data::Type;
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// At most `MAX` different values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set<T, const MAX: usize>(BTreeSet<T>);

impl<T: Ord, const MAX: usize> Set<T, MAX> {
    /// `None` when there are more than `MAX`.
    pub fn new(values: impl IntoIterator<Item = T>) -> Option<Self> {
        let values: BTreeSet<T> = values.into_iter().collect();
        (values.len() <= MAX).then_some(Self(values))
    }

    /// Adds `value`; false when it is full, and nothing was added.
    pub fn insert(&mut self, value: T) -> bool {
        let has_room = self.0.len() < MAX || self.0.contains(&value);
        if has_room {
            self.0.insert(value);
        }
        has_room
    }
}

impl<T, const MAX: usize> Default for Set<T, MAX> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<T, const MAX: usize> Deref for Set<T, MAX> {
    type Target = BTreeSet<T>;

    fn deref(&self) -> &BTreeSet<T> {
        &self.0
    }
}

impl<C, T: Encode<C>, const MAX: usize> Encode<C> for Set<T, MAX> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.array(self.0.len() as u64)?;
        self.0.iter().try_for_each(|value| value.encode(e, ctx))
    }
}

impl<'b, C, T: Decode<'b, C> + Ord, const MAX: usize> Decode<'b, C> for Set<T, MAX> {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        let mut values = BTreeSet::new();
        for _ in 0..bounded(d.array()?, MAX)? {
            let value = T::decode(d, ctx)?;
            ascending(values.last(), &value)?;
            values.insert(value);
        }
        Ok(Self(values))
    }
}

/// At most `MAX` different keys, each with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map<K, V, const MAX: usize>(BTreeMap<K, V>);

impl<K: Ord, V, const MAX: usize> Map<K, V, MAX> {
    /// Sets the value of `key`; false when it is full, and nothing was changed.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        let has_room = self.0.len() < MAX || self.0.contains_key(&key);
        if has_room {
            self.0.insert(key, value);
        }
        has_room
    }

    /// Nothing is the value of `key` any more.
    pub fn remove(&mut self, key: &K) {
        self.0.remove(key);
    }
}

impl<K, V, const MAX: usize> Default for Map<K, V, MAX> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K, V, const MAX: usize> Deref for Map<K, V, MAX> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &BTreeMap<K, V> {
        &self.0
    }
}

impl<C, K: Encode<C>, V: Encode<C>, const MAX: usize> Encode<C> for Map<K, V, MAX> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.map(self.0.len() as u64)?;
        for (key, value) in &self.0 {
            key.encode(e, ctx)?;
            value.encode(e, ctx)?;
        }
        Ok(())
    }
}

impl<'b, C, K: Decode<'b, C> + Ord, V: Decode<'b, C>, const MAX: usize> Decode<'b, C> for Map<K, V, MAX> {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        let mut entries = BTreeMap::new();
        for _ in 0..bounded(d.map()?, MAX)? {
            let key = K::decode(d, ctx)?;
            ascending(entries.last_key_value().map(|(last, _)| last), &key)?;
            let value = V::decode(d, ctx)?;
            entries.insert(key, value);
        }
        Ok(Self(entries))
    }
}

/// The number of entries that a head announces.
pub(super) fn bounded(announced: Option<u64>, max: usize) -> Result<u64, decode::Error> {
    match announced {
        Some(count) if count <= max as u64 => Ok(count),
        Some(_) => Err(decode::Error::message("too many entries")),
        None => Err(decode::Error::type_mismatch(Type::ArrayIndef)),
    }
}

fn ascending<T: Ord>(last: Option<&T>, next: &T) -> Result<(), decode::Error> {
    if last.is_none_or(|last| last < next) {
        Ok(())
    } else {
        Err(decode::Error::message("entries out of order"))
    }
}

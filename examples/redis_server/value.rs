//! Values: immutable, so that a reader needs no copy and a writer shares with the old one all that it does not change.
//!
//! A key's value is one versioned word, so commands conflict exactly when they touch the same key. Containers are persistent
//! (balanced trees that are copied along one path), which makes a change of a big list, hash or set cost as much as its depth, and an aborted
//! one nothing but garbage.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, Vector};

/// An element, a field, a name.
pub(crate) type Bytes = Arc<[u8]>;
/// A list.
pub(crate) type List = Shared<Vector<Bytes>>;
/// A hash.
pub(crate) type Fields = Shared<Table<Bytes>>;
/// A set.
pub(crate) type Set = Shared<Table<()>>;
/// A sorted set.
pub(crate) type ZSet = Shared<crate::ranking::Ranking>;

/// A container behind one pointer, so that readers share it for the price of a count and items stay small. Whoever changes it gets a
/// copy of its root first, if it is shared.
#[derive(Clone, Default)]
pub(crate) struct Shared<T>(Arc<T>);

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(container: T) -> Self {
        Shared(Arc::new(container))
    }
}

impl<A, T: FromIterator<A>> FromIterator<A> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = A>>(items: I) -> Self {
        Shared(Arc::new(items.into_iter().collect()))
    }
}

/// The longest key that lies beside its value's word.
const SHORT_KEY: usize = 22;

/// A key of a database. Short ones need no memory of their own, so whoever looks for one has it where the map has its entry.
#[derive(Clone)]
pub(crate) enum Key {
    Short { length: u8, bytes: [u8; SHORT_KEY] },
    Long(Bytes),
}

impl From<&[u8]> for Key {
    fn from(name: &[u8]) -> Self {
        if name.len() > SHORT_KEY {
            return Key::Long(name.into());
        }
        let mut bytes = [0; SHORT_KEY];
        bytes[..name.len()].copy_from_slice(name);
        Key::Short { length: name.len() as u8, bytes }
    }
}

impl Deref for Key {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Key::Short { length, bytes } => &bytes[..usize::from(*length)],
            Key::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Key {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

/// What a key holds.
#[derive(Clone)]
pub(crate) struct Item {
    /// Changes whenever the key does: what WATCH remembers.
    pub(crate) stamp: u64,
    /// When it expires, in milliseconds since 1970, or 0.
    pub(crate) expires: i64,
    pub(crate) value: Value,
}

impl Item {
    /// Whether its time has come.
    pub(crate) fn is_over(&self, now: i64) -> bool {
        self.expires != 0 && self.expires <= now
    }
}

/// The longest string that is kept in its item.
const IN_PLACE: usize = 44;

/// A string. All but long ones lie in the item itself, so setting one allocates once.
#[derive(Clone)]
pub(crate) enum Text {
    /// An integer in its canonical form, and its digits, so that neither counting nor reading it has to convert anything.
    Int {
        length: u8,
        digits: [u8; 20],
        number: i64,
    },
    Short {
        length: u8,
        bytes: [u8; IN_PLACE],
    },
    Long(Bytes),
}

impl Text {
    pub(crate) fn new(text: &[u8]) -> Self {
        if let Some(number) = crate::numbers::integer(text) {
            let mut digits = [0; 20];
            digits[..text.len()].copy_from_slice(text);
            return Text::Int { length: text.len() as u8, digits, number };
        }
        if text.len() > IN_PLACE {
            return Text::Long(text.into());
        }
        let mut bytes = [0; IN_PLACE];
        bytes[..text.len()].copy_from_slice(text);
        Text::Short { length: text.len() as u8, bytes }
    }

    pub(crate) fn from_integer(number: i64) -> Self {
        let mut buffer = [0; 20];
        let text = crate::numbers::decimal(number, &mut buffer);
        let mut digits = [0; 20];
        digits[..text.len()].copy_from_slice(text);
        Text::Int { length: text.len() as u8, digits, number }
    }

    /// The name of the representation.
    pub(crate) fn encoding(&self) -> &'static str {
        match self {
            Text::Int { .. } => "int",
            Text::Short { .. } => "embstr",
            Text::Long(_) => "raw",
        }
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        match self {
            Text::Long(bytes) => bytes.clone(),
            other => (**other).into(),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Text::Short { length: 0, bytes: [0; IN_PLACE] }
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Text::Int { length, digits, .. } => &digits[..usize::from(*length)],
            Text::Short { length, bytes } => &bytes[..usize::from(*length)],
            Text::Long(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.encoding(), String::from_utf8_lossy(self))
    }
}

/// A value of one of the types.
#[derive(Clone)]
pub(crate) enum Value {
    Str(Text),
    List(List),
    Hash(Fields),
    Set(Set),
    ZSet(ZSet),
}

impl Value {
    /// What TYPE says.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Str(_) => "string",
            Value::List(_) => "list",
            Value::Hash(_) => "hash",
            Value::Set(_) => "set",
            Value::ZSet(_) => "zset",
        }
    }
}

/// From so many entries on a table has an index; below, looking at all of them is as quick.
const INDEXED: usize = 24;

type Index = GenericHashMap<Bytes, u32, foldhash::fast::RandomState, DefaultSharedPtr>;

/// Keys with values, numbered densely, in the order in which they came as long as none is removed. The numbers make a random choice and
/// a resumable scan cheap.
#[derive(Clone)]
pub(crate) struct Table<V: Clone> {
    entries: Vector<(Bytes, V)>,
    index: Option<Index>,
}

impl<V: Clone> Default for Table<V> {
    fn default() -> Self {
        Table { entries: Vector::new(), index: None }
    }
}

impl<V: Clone> Table<V> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(key).map(|at| *at as usize),
            None => self.entries.iter().position(|(own, _)| **own == *key),
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        Some(&self.entries[self.find(key)?].1)
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// Sets the value of a key and says whether it is new.
    pub(crate) fn insert(&mut self, key: &[u8], value: V) -> bool {
        if let Some(at) = self.find(key) {
            self.entries[at].1 = value;
            return false;
        }
        let key: Bytes = key.into();
        if let Some(index) = &mut self.index {
            index.insert(key.clone(), self.entries.len() as u32);
        }
        self.entries.push_back((key, value));
        if self.index.is_none() && self.entries.len() >= INDEXED {
            self.index = Some(self.entries.iter().enumerate().map(|(at, (key, _))| (key.clone(), at as u32)).collect());
        }
        true
    }

    /// Removes a key. The last one takes its number.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        let at = self.find(key)?;
        let last = self.entries.pop_back()?;
        let (key, value) = if at == self.entries.len() {
            last
        } else {
            if let Some(index) = &mut self.index {
                index.insert(last.0.clone(), at as u32);
            }
            std::mem::replace(&mut self.entries[at], last)
        };
        if let Some(index) = &mut self.index {
            index.remove(&*key);
            if self.entries.len() < INDEXED / 2 {
                self.index = None;
            }
        }
        Some(value)
    }

    /// The entry of a number below `len`.
    pub(crate) fn at(&self, number: usize) -> (&Bytes, &V) {
        let (key, value) = &self.entries[number];
        (key, value)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Bytes, &V)> + ExactSizeIterator {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.entries.iter().map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_know_how_they_are_kept() {
        assert_eq!(size_of::<Item>(), 64, "an item fills a cache line");
        for (text, encoding) in [("", "embstr"), ("-12", "int"), ("012", "embstr"), ("9223372036854775808", "embstr")] {
            let own = Text::new(text.as_bytes());
            assert_eq!((own.encoding(), &*own), (encoding, text.as_bytes()));
        }
        for length in [43, 44, 45, 1000] {
            let text = vec![b'x'; length];
            let own = Text::new(&text);
            assert_eq!((own.encoding(), &*own), (if length <= 44 { "embstr" } else { "raw" }, &*text));
        }
        assert_eq!(Text::from_integer(i64::MIN).to_vec(), i64::MIN.to_string().into_bytes());
    }
}

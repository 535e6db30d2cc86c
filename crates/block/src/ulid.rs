//! The names of blocks: ULIDs, 48 bits of time and 80 bits of chance, as 26 characters in Crockford's base 32.

use std::fmt;
use std::str::FromStr;

/// The characters in order of their value; without I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters of the text form.
const CHARS: usize = 26;

/// A block's name. Orders by time, then chance, and so does its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(pub u128);

/// A text that is no ULID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ULID")]
pub struct NotAUlid;

impl Ulid {
    /// Of a time (ms since 1970; 48 bits are kept) and 80 bits of chance.
    pub fn new(time_ms: u64, random: u128) -> Ulid {
        Ulid(u128::from(time_ms & 0xffff_ffff_ffff) << 80 | random & ((1 << 80) - 1))
    }

    /// A new one of this time, unlike any other.
    pub fn generate(time_ms: u64) -> Ulid {
        Ulid::new(time_ms, rand::random())
    }

    /// Its time, ms since 1970.
    pub fn time_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; CHARS];
        for (i, c) in text.iter_mut().enumerate() {
            *c = ALPHABET[(self.0 >> (5 * (CHARS - 1 - i))) as usize & 31];
        }
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl FromStr for Ulid {
    type Err = NotAUlid;

    /// As strict as Prometheus: 26 characters, none that the alphabet lacks, no overflow. Lower case is fine.
    fn from_str(text: &str) -> Result<Ulid, NotAUlid> {
        let bytes = text.as_bytes();
        // 26 characters have 130 bits; the first may only use three of its five.
        if bytes.len() != CHARS || bytes[0] > b'7' {
            return Err(NotAUlid);
        }
        let mut value = 0u128;
        for byte in bytes {
            let digit = ALPHABET.iter().position(|c| *c == byte.to_ascii_uppercase()).ok_or(NotAUlid)?;
            value = value << 5 | digit as u128;
        }
        Ok(Ulid(value))
    }
}

impl serde::Serialize for Ulid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Ulid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Ulid, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_those_of_the_specification() {
        let ulid: Ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("the example of the specification");
        assert_eq!(ulid.time_ms(), 1_469_922_850_259);
        assert_eq!(ulid.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        assert_eq!("7ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse(), Ok(Ulid(u128::MAX)));
        assert_eq!("01arz3ndektsv4rrffq69g5fav".parse(), Ok(ulid));
    }

    #[test]
    fn other_names_are_not_taken_for_blocks() {
        for text in
            ["", "wal", "01ARZ3NDEKTSV4RRFFQ69G5FA", "01ARZ3NDEKTSV4RRFFQ69G5FAVX", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ"]
        {
            assert_eq!(text.parse::<Ulid>(), Err(NotAUlid), "{text}");
        }
        assert_eq!("01ARZ3NDEKTSV4RRFFQ69G5FAU".parse::<Ulid>(), Err(NotAUlid));
        assert_eq!("01ARZ3NDEKTSV4RRFFQ69G5FAé".parse::<Ulid>(), Err(NotAUlid));
    }

    proptest! {
        #[test]
        fn texts_come_back_and_keep_the_order(a in any::<u128>(), b in any::<u128>()) {
            prop_assert_eq!(Ulid(a).to_string().parse(), Ok(Ulid(a)));
            prop_assert_eq!(Ulid(a).cmp(&Ulid(b)), Ulid(a).to_string().cmp(&Ulid(b).to_string()));
        }
    }
}

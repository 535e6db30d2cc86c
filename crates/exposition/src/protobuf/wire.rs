//! Protobuf messages as fields, without copying.
//!
//! Nothing recurses: messages are slices that are read where their contents are wanted, and groups, which no message of ours has, are
//! passed over by counting.

/// What does not belong into a message. Texts as in Prometheus where its users see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Varint,
    #[error("proto: illegal tag 0 (wire type {0})")]
    FieldNumber(u64),
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    #[error("proto: unexpected end of group")]
    EndOfGroup,
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WrongType { field: &'static str, wire: u8 },
}

/// A field's contents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Of a type that no message of ours has.
    Other(u8),
}

impl<'a> Field<'a> {
    fn wrong(self, field: &'static str) -> WireError {
        let wire = match self {
            Field::Varint(_) => 0,
            Field::Fixed64(_) => 1,
            Field::Bytes(_) => 2,
            Field::Other(wire) => wire,
        };
        WireError::WrongType { field, wire }
    }

    pub(crate) fn varint(self, name: &'static str) -> Result<u64, WireError> {
        if let Field::Varint(value) = self { Ok(value) } else { Err(self.wrong(name)) }
    }

    pub(crate) fn double(self, name: &'static str) -> Result<f64, WireError> {
        if let Field::Fixed64(bits) = self { Ok(f64::from_bits(bits)) } else { Err(self.wrong(name)) }
    }

    pub(crate) fn bytes(self, name: &'static str) -> Result<&'a [u8], WireError> {
        if let Field::Bytes(bytes) = self { Ok(bytes) } else { Err(self.wrong(name)) }
    }
}

/// What a zigzag-encoded number stands for.
pub(crate) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The fields of a message, one after another.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        // One byte is the most frequent length by far.
        if let [first, rest @ ..] = self.0
            && *first < 0x80
        {
            self.0 = rest;
            return Ok(u64::from(*first));
        }
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(WireError::Truncated)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Varint)
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, WireError> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(len).map_err(|_| WireError::Truncated)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field with its number; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let (number, wire) = (key >> 3, (key & 7) as u8);
        if number == 0 {
            return Err(WireError::FieldNumber(key));
        }
        let field = match wire {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(self.fixed64()?),
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.take(len)?)
            }
            3 => {
                self.skip_group()?;
                Field::Other(wire)
            }
            4 => return Err(WireError::EndOfGroup),
            5 => {
                self.take(4)?;
                Field::Other(wire)
            }
            _ => return Err(WireError::WireType(wire)),
        };
        Ok(Some((number, field)))
    }

    /// Behind the start of a group, to behind its end.
    fn skip_group(&mut self) -> Result<(), WireError> {
        let mut depth = 1u32;
        while depth > 0 {
            match (self.varint()? & 7) as u8 {
                0 => _ = self.varint()?,
                1 => _ = self.fixed64()?,
                2 => {
                    let len = self.varint()?;
                    self.take(len)?;
                }
                3 => depth = depth.saturating_add(1),
                4 => depth -= 1,
                5 => _ = self.take(4)?,
                wire => return Err(WireError::WireType(wire)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(message: &[u8]) -> Result<Vec<u64>, WireError> {
        let (mut fields, mut numbers) = (Fields(message), Vec::new());
        while let Some((number, _)) = fields.next()? {
            numbers.push(number);
        }
        Ok(numbers)
    }

    #[test]
    fn fields_are_told_apart() {
        // A varint, eight bytes, a string, a group with a group and a varint inside, four bytes.
        let message = [8, 150, 1, 17, 0, 0, 0, 0, 0, 0, 0, 0, 26, 1, b'x', 35, 43, 44, 8, 1, 36, 45, 0, 0, 0, 0];
        assert_eq!(numbers(&message), Ok(vec![1, 2, 3, 4, 5]));
        for len in 1..message.len() {
            // Whatever is cut off is missed, unless it was whole fields.
            let whole = [3, 12, 15, 21].contains(&len);
            assert_eq!(numbers(&message[..len]).is_ok(), whole, "{len}");
        }
        assert_eq!(numbers(&[0, 0]), Err(WireError::FieldNumber(0)));
        assert_eq!(numbers(&[12]), Err(WireError::EndOfGroup));
        assert_eq!(numbers(&[14]), Err(WireError::WireType(6)));
        assert_eq!(numbers(&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), Err(WireError::Varint));
        assert_eq!([0, 1, 2, u64::MAX].map(zigzag), [0, -1, 1, i64::MIN]);
    }
}

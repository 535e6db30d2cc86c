//! Numbers, texts, labels and alerts as bytes, and back. Reading trusts nothing: every length is checked against what is left.

use fk_model::Labels;
use fk_rules::{AlertMemory, AlertPhase, Annotations, InstanceId};

use crate::frames::Malformed;

const SHORT: Malformed = Malformed("a record ends too early");

/// Writes a number in groups of seven bits, low ones first.
pub(crate) fn put_uint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Writes a number with a sign: small ones, of either sign, are short.
pub(crate) fn put_int(out: &mut Vec<u8>, n: i64) {
    put_uint(out, ((n << 1) ^ (n >> 63)) as u64);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn put_float(out: &mut Vec<u8>, v: f64) {
    out.extend_from_slice(&v.to_bits().to_le_bytes());
}

pub(crate) fn put_id(out: &mut Vec<u8>, id: u128) {
    out.extend_from_slice(&id.to_le_bytes());
}

pub(crate) fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_pairs(out, labels.len(), labels.iter());
}

fn put_pairs<'a>(out: &mut Vec<u8>, len: usize, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    put_uint(out, len as u64);
    for (name, value) in pairs {
        put_text(out, name);
        put_text(out, value);
    }
}

/// Zero for nothing, else one and the number.
fn put_option(out: &mut Vec<u8>, n: Option<i64>) {
    out.push(u8::from(n.is_some()));
    if let Some(n) = n {
        put_int(out, n);
    }
}

pub(crate) fn put_memory(out: &mut Vec<u8>, memory: &AlertMemory) {
    out.push(match memory.phase {
        AlertPhase::Pending => 0,
        AlertPhase::Firing => 1,
        AlertPhase::Resolved => 2,
    });
    put_labels(out, &memory.labels);
    put_pairs(out, memory.annotations.len(), memory.annotations.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    put_float(out, memory.value);
    put_int(out, memory.active_at_ns);
    for time in [memory.fired_at_ns, memory.resolved_at_ns, memory.last_sent_ns, memory.keep_firing_since_ns] {
        put_option(out, time);
    }
}

/// Reads one record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.bytes(1)?[0])
    }

    pub(crate) fn uint(&mut self) -> Result<u64, Malformed> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(Malformed("a number is too long"))
    }

    pub(crate) fn int(&mut self) -> Result<i64, Malformed> {
        let n = self.uint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// A number of things of at least `bytes_min` bytes each.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, Malformed> {
        let n = usize::try_from(self.uint()?).map_err(|_| SHORT)?;
        if n > self.0.len() / bytes_min { Err(SHORT) } else { Ok(n) }
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let n = self.count(1)?;
        std::str::from_utf8(self.bytes(n)?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    pub(crate) fn float(&mut self) -> Result<f64, Malformed> {
        let mut bits = [0; 8];
        bits.copy_from_slice(self.bytes(8)?);
        Ok(f64::from_bits(u64::from_le_bytes(bits)))
    }

    pub(crate) fn id(&mut self) -> Result<u128, Malformed> {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(self.bytes(16)?);
        Ok(u128::from_le_bytes(bytes))
    }

    pub(crate) fn instance(&mut self) -> Result<InstanceId, Malformed> {
        self.id().map(InstanceId)
    }

    fn pairs(&mut self) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
        (0..self.count(2)?).map(|_| Ok((self.text()?, self.text()?))).collect()
    }

    pub(crate) fn labels(&mut self) -> Result<Labels, Malformed> {
        Ok(Labels::from_pairs(self.pairs()?))
    }

    fn option(&mut self) -> Result<Option<i64>, Malformed> {
        match self.byte()? {
            0 => Ok(None),
            1 => self.int().map(Some),
            _ => Err(Malformed("a time is neither there nor missing")),
        }
    }

    pub(crate) fn memory(&mut self) -> Result<AlertMemory, Malformed> {
        let phase = match self.byte()? {
            0 => AlertPhase::Pending,
            1 => AlertPhase::Firing,
            2 => AlertPhase::Resolved,
            _ => return Err(Malformed("an alert is in no known state")),
        };
        let labels = self.labels()?;
        let annotations: Annotations =
            self.pairs()?.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(AlertMemory {
            phase,
            labels,
            annotations,
            value: self.float()?,
            active_at_ns: self.int()?,
            fired_at_ns: self.option()?,
            resolved_at_ns: self.option()?,
            last_sent_ns: self.option()?,
            keep_firing_since_ns: self.option()?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_memory() -> impl Strategy<Value = AlertMemory> {
        let phase = prop::sample::select(vec![AlertPhase::Pending, AlertPhase::Firing, AlertPhase::Resolved]);
        let pairs = || prop::collection::btree_map("[a-z]{1,4}", "[a-zé]{1,6}", 0..4);
        let time = || prop::option::of(any::<i64>());
        (phase, pairs(), pairs(), any::<i32>(), any::<i64>(), (time(), time(), time(), time())).prop_map(
            |(phase, labels, annotations, value, active_at_ns, (fired, resolved, sent, keep))| AlertMemory {
                phase,
                labels: Labels::from_pairs(labels),
                annotations: annotations.into_iter().collect(),
                value: f64::from(value) / 8.0,
                active_at_ns,
                fired_at_ns: fired,
                resolved_at_ns: resolved,
                last_sent_ns: sent,
                keep_firing_since_ns: keep,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(memory in any_memory(), n in any::<u64>(), i in any::<i64>(), id in any::<u128>()) {
            let mut out = Vec::new();
            put_memory(&mut out, &memory);
            put_uint(&mut out, n);
            put_int(&mut out, i);
            put_id(&mut out, id);
            let mut cursor = Cursor(&out);
            prop_assert_eq!(cursor.memory(), Ok(memory));
            prop_assert_eq!((cursor.uint(), cursor.int(), cursor.id()), (Ok(n), Ok(i), Ok(id)));
            prop_assert!(cursor.is_at_end());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut cursor = Cursor(&bytes);
            if let Ok(memory) = cursor.memory() {
                let mut out = Vec::new();
                put_memory(&mut out, &memory);
                let mut again = Cursor(&out).memory();
                if let Ok(again) = &mut again && memory.value.is_nan() {
                    again.value = memory.value;
                }
                prop_assert_eq!(format!("{:?}", again), format!("{:?}", Ok::<_, Malformed>(memory)));
            }
        }
    }
}

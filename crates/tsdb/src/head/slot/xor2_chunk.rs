//! Floats with start timestamps: the open chunk is an XOR2 chunk, with its writer in a list beside the buffers. A run without
//! start timestamps lives in the slot, as ever, and gets the encoding of the day when it is over.

use fk_chunk::Encoding;
use fk_chunk::xor2::Xor2Writer;

use super::super::arena::Arena;
use super::super::buffers::{NONE, Slabs, XOR2};
use super::{CHUNK_BYTES_MAX, CutRules, Slot, SlotState, WRITER_LEN, chunk_end};

impl Slot {
    /// As [`Slot::push`], into an XOR2 chunk; `start` is the start timestamp, ms, 0 if not known. An open XOR chunk ends.
    pub fn push_xor2(
        &mut self,
        idx: u32,
        (start, t, v): (i64, i64, f64),
        commit: u64,
        rules: &CutRules,
        slabs: &mut Slabs,
        arena: &mut Arena,
    ) -> bool {
        self.join(commit);
        let count = self.open.count;
        if count == 0 {
            self.begin_xor2((start, t, v), rules, slabs);
            return true;
        }
        if count == rules.samples / 4 {
            self.next_cut = chunk_end(self.open_first_time(slabs), self.open.t, self.next_cut, 4.0);
        }
        let bytes = match self.buffer {
            NONE => 0,
            handle if handle >= XOR2 => slabs.xor2.get(handle - XOR2).bytes().len(),
            // Nothing of another encoding is continued.
            _ => usize::MAX,
        };
        if t >= self.next_cut || u32::from(count) >= u32::from(rules.samples) * 2 || bytes > CHUNK_BYTES_MAX {
            self.complete(idx, rules, slabs, arena);
            self.begin_xor2((start, t, v), rules, slabs);
            return true;
        }
        if self.buffer == NONE {
            let delta = t.wrapping_sub(self.open.t) as u64;
            if start == 0 && v.to_bits() == self.open.v.to_bits() && (count == 1 || delta == self.open.delta) {
                (self.open.t, self.open.delta, self.open.count) = (t, delta, count + 1);
                return false;
            }
            let run = self.run().to_xor2();
            self.set_xor2(run, slabs);
        }
        slabs.xor2.get_mut(self.buffer - XOR2).push(start, t, v);
        (self.open.t, self.open.v, self.open.count) = (t, v, count + 1);
        false
    }

    fn begin_xor2(&mut self, (start, t, v): (i64, i64, f64), rules: &CutRules, slabs: &mut Slabs) {
        self.begin((t, v), rules);
        if start != 0 {
            let mut writer = Xor2Writer::new();
            writer.push(start, t, v);
            self.set_xor2(writer, slabs);
        }
    }

    fn set_xor2(&mut self, writer: Xor2Writer, slabs: &mut Slabs) {
        self.open.len = WRITER_LEN;
        self.buffer = slabs.xor2.insert(Box::new(writer)) + XOR2;
    }

    /// What [`Slot::restore`] is for an open XOR2 chunk.
    pub fn restore_xor2(state: &SlotState, bytes: &[u8], completed: u32, slabs: &mut Slabs) -> Option<Slot> {
        let writer = Xor2Writer::resume(bytes.to_vec()).ok()?;
        let is_whole = writer.count() > 0
            && writer.count() == usize::from(state.open.count)
            && writer.last_time() == state.open.t
            && Encoding::Xor2.count(bytes) == Some(writer.count());
        is_whole.then(|| {
            let buffer = slabs.xor2.insert(Box::new(writer)) + XOR2;
            Slot::with_writer(state, buffer, completed)
        })
    }
}

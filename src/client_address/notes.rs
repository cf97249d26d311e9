//! What is remembered of each connection whose endpoint learns the client's address: eight bytes beside its entry, whose pages
//! are touched by such connections alone.

use bytemuck::{Pod, Zeroable};

use super::proxy::Splice;
use crate::conntrack::FlowId;

/// By [`FlowId`].
#[derive(Debug)]
pub struct Notes {
    notes: Box<[Note]>,
    /// Whether anything was ever noted: else no connection need look.
    used: bool,
}

#[derive(Clone, Copy, Default, Debug, Pod, Zeroable)]
#[repr(C)]
struct Note {
    number: u32,
    bytes: [u8; 3],
    /// 0: nothing is noted.
    kind: u8,
}

const SPLICE: u8 = 1;
const FIRST: u8 = 2;

impl Notes {
    /// For so many connections; zero pages until they are used.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self { notes: bytemuck::zeroed_slice_box(connections), used: false }
    }

    fn get(&self, id: FlowId, kind: u8) -> Option<&Note> {
        self.notes.get(id.0 as usize).filter(|note| note.kind == kind)
    }

    fn set(&mut self, id: FlowId, note: Note) {
        self.used = true;
        if let Some(slot) = self.notes.get_mut(id.0 as usize) {
            *slot = note;
        }
    }

    /// The numbers of a stream with a PROXY header.
    #[inline]
    #[must_use]
    pub fn splice(&self, id: FlowId) -> Option<Splice> {
        let Note { number, bytes, .. } = self.get(id, SPLICE)?;
        Some(Splice::unpack(*number, *bytes))
    }

    /// Keeps them.
    #[inline]
    pub fn set_splice(&mut self, id: FlowId, splice: &Splice) {
        let (number, bytes) = splice.pack();
        self.set(id, Note { number, bytes, kind: SPLICE });
    }

    /// TOA: the number of the first byte of the endpoint's stream, once it has told it.
    #[inline]
    #[must_use]
    pub fn first(&self, id: FlowId) -> Option<u32> {
        self.get(id, FIRST).map(|note| note.number)
    }

    /// Keeps it.
    pub fn set_first(&mut self, id: FlowId, number: u32) {
        self.set(id, Note { number, bytes: [0; 3], kind: FIRST });
    }

    /// For another connection in the same entry.
    #[inline]
    pub fn forget(&mut self, id: FlowId) {
        if self.used && self.notes.get(id.0 as usize).is_some_and(|note| note.kind != 0) {
            self.set(id, Note::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::flag::ACK;

    #[test]
    fn what_is_kept_comes_back() {
        let mut notes = Notes::new(2);
        let mut splice = Splice::new(7, 28);
        for ack in [8, 20, 36, 100] {
            splice.inward(ack);
            notes.set_splice(FlowId(1), &splice);
            assert_eq!(notes.splice(FlowId(1)), Some(splice));
        }
        assert_eq!(splice.outward(ACK, 8, 0).seq, 36);
        assert_eq!(
            (notes.first(FlowId(1)), notes.splice(FlowId(0)), notes.splice(FlowId(9))),
            (None, None, None)
        );
        notes.set_first(FlowId(1), 5);
        assert_eq!((notes.first(FlowId(1)), notes.splice(FlowId(1))), (Some(5), None));
        notes.forget(FlowId(1));
        assert_eq!(notes.first(FlowId(1)), None);
    }
}

//! The vacant entries: a stack whose upper part is at hand, so that what the next connections will have is fetched without walking
//! a list from line to line.

use super::rest::Rest;
use super::wheel::NIL;
use crate::pipeline::MAX_BURST;

/// Entries at hand: as many as a burst can take.
const TOP: usize = MAX_BURST;

/// By numbers of rests. The link of one is to that which lies [`TOP`] below it.
pub(super) struct Vacant {
    /// The one at height `n` is at place `n` modulo [`TOP`].
    top: [u32; TOP],
    len: usize,
}

impl Vacant {
    pub(super) const fn new() -> Self {
        Self { top: [NIL; TOP], len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The `n`-th from the top, if it is at hand.
    #[inline]
    pub(super) fn nth(&self, n: usize) -> Option<u32> {
        let height = self.len.checked_sub(n + 1)?;
        (n < TOP).then(|| self.top[height % TOP])
    }

    #[inline]
    pub(super) fn push(&mut self, rests: &mut [Rest], id: u32) {
        let place = &mut self.top[self.len % TOP];
        rests[id as usize].links.next = std::mem::replace(place, id);
        self.len += 1;
    }

    #[inline]
    pub(super) fn pop(&mut self, rests: &[Rest]) -> Option<u32> {
        let height = self.len.checked_sub(1)?;
        let place = &mut self.top[height % TOP];
        let id = *place;
        *place = rests[id as usize].links.next;
        self.len = height;
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_stack(pushes in proptest::collection::vec(proptest::bool::weighted(0.6), 0..1000)) {
            let mut rests: Vec<_> = (0..1000).map(|_| Rest::blank()).collect();
            let (mut stack, mut model) = (Vacant::new(), Vec::new());
            for (id, push) in (0..).zip(pushes) {
                if push {
                    stack.push(&mut rests, id);
                    model.push(id);
                } else {
                    prop_assert_eq!(stack.pop(&rests), model.pop());
                }
                prop_assert_eq!(stack.len(), model.len());
                for n in [0, 1, TOP - 1] {
                    prop_assert_eq!(stack.nth(n), model.iter().rev().nth(n).copied());
                }
                prop_assert_eq!(stack.nth(TOP), None);
            }
        }
    }
}

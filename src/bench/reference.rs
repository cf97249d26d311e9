//! What the pipeline is held against: a bare forward of the same packets, as `dpdk-testpmd` does it in its mode `5tswap`.

use arrayvec::ArrayVec;

use crate::dpdk::{Mbuf, RxQueue, TxQueue, free_all};
use crate::pipeline::{Frame, MAX_BURST};

/// What is done to a frame on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touch {
    /// MACs, addresses and ports are swapped.
    Swap,
    /// It is not looked at: what queues and harness cost by themselves.
    Nothing,
}

/// One burst from queue to queue.
#[inline]
pub fn forward(rx: &mut RxQueue, tx: &mut TxQueue, burst: usize, touch: Touch) -> usize {
    let mut frames = ArrayVec::<Mbuf, MAX_BURST>::new();
    let mut refused = ArrayVec::<usize, MAX_BURST>::new();
    rx.burst(burst, &mut frames, &mut refused);
    if touch == Touch::Swap {
        for frame in &mut frames {
            swap(frame.data_mut());
        }
    }
    let taken = tx.burst(&mut frames);
    free_all(&mut frames);
    taken
}

/// Swaps MACs, addresses and ports of an IP packet without options or extension headers. Sums stay as they are.
#[inline]
fn swap(data: &mut [u8]) {
    let Some(ethernet) = data.first_chunk_mut::<14>() else { return };
    exchange::<6>(ethernet);
    match data.get(14).map(|byte| byte >> 4) {
        Some(4) => {
            if let Some(l3) = data.get_mut(14..).and_then(|l3| l3.first_chunk_mut::<24>()) {
                exchange::<4>(&mut l3[12..]);
                exchange::<2>(&mut l3[20..]);
            }
        }
        Some(6) => {
            if let Some(l3) = data.get_mut(14..).and_then(|l3| l3.first_chunk_mut::<44>()) {
                exchange::<16>(&mut l3[8..]);
                exchange::<2>(&mut l3[40..]);
            }
        }
        _ => {}
    }
}

/// Exchanges the first `N` bytes with the `N` that follow.
#[inline]
fn exchange<const N: usize>(bytes: &mut [u8]) {
    if let Some((first, rest)) = bytes.split_first_chunk_mut::<N>()
        && let Some(second) = rest.first_chunk_mut::<N>()
    {
        std::mem::swap(first, second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Mac;
    use crate::wire::build::{eth, verify};

    #[test]
    fn the_packet_goes_back_to_where_it_came_from() {
        let (a, b) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
            let mut there = eth(a, b).ip(src, dst).tcp(4000, 80).syn().payload([7; 9]).frame();
            let back = eth(b, a).ip(dst, src).tcp(80, 4000).syn().payload([7; 9]).frame();
            swap(&mut there);
            assert_eq!(there, back);
            verify(&there).unwrap();
        }
    }
}

//! Smooth weighted round-robin, as nginx has it: weights 5, 1, 1 give `a a b a c a a`, not `a a a a a b c`.
//!
//! The order is worked out beforehand, one turn for each unit of weight (weights divided by their greatest common divisor),
//! and all workers walk it with one counter: whatever the number of workers, any whole cycle of connections of the service
//! is shared out exactly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::Endpoint;

/// How many turns of a service have been taken, by all workers together.
#[derive(Debug, Default)]
pub(crate) struct Cursor(CachePadded<AtomicU64>);

/// The greatest sum of weights that is honoured exactly. Above it the weights are scaled down to this sum and rounded, each
/// endpoint keeping one turn at least: shares are then off by no more than one turn in so many, per endpoint.
const MAX_TURNS: u64 = 65_536;

/// The order of turns, as indices of endpoints.
pub(super) struct Sequence {
    turns: Box<[u16]>,
    cursor: Arc<Cursor>,
}

// 65 536 turns are nothing to read in a log.
impl std::fmt::Debug for Sequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequence").field("turns", &self.turns.len()).field("cursor", &self.cursor).finish()
    }
}

impl Sequence {
    pub fn new(endpoints: &[Endpoint], cursor: Arc<Cursor>) -> Self {
        let (indices, weights): (Vec<u16>, Vec<u64>) = (0..=u16::MAX)
            .zip(endpoints)
            .filter(|(_, endpoint)| endpoint.takes_new())
            .map(|(index, endpoint)| (index, u64::from(endpoint.weight)))
            .unzip();
        let turns = interleave(&scale(&weights)).into_iter().map(|n| indices[n]).collect();
        Self { turns, cursor }
    }

    /// The endpoint whose turn it is.
    #[inline]
    pub fn next(&self) -> Option<usize> {
        let len = self.turns.len() as u64;
        // Relaxed: only that no turn is taken twice matters. Not counted where nobody can be chosen.
        let turn = (len > 0).then(|| self.cursor.0.fetch_add(1, Ordering::Relaxed) % len)?;
        self.turns.get(turn as usize).map(|index| usize::from(*index))
    }
}

/// Weights to turns in a cycle.
fn scale(weights: &[u64]) -> Vec<u64> {
    let divisor = weights.iter().fold(0, |a, &b| gcd(a, b)).max(1);
    let turns: Vec<u64> = weights.iter().map(|weight| weight / divisor).collect();
    let sum: u64 = turns.iter().sum();
    if sum <= MAX_TURNS {
        return turns;
    }
    // To the nearest. No overflow: a weight is below 2³².
    turns.iter().map(|turns| ((turns * MAX_TURNS + sum / 2) / sum).max(1)).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One cycle. nginx `ngx_http_upstream_get_peer`: everybody gains their weight, the richest takes the turn and pays the sum.
fn interleave(weights: &[u64]) -> Vec<usize> {
    // What comes of it where all have the same weight, without the quadratic way there.
    if weights.iter().all(|weight| *weight == 1) {
        return (0..weights.len()).collect();
    }
    let sum: u64 = weights.iter().sum();
    let mut current = vec![0i64; weights.len()];
    (0..sum)
        .map(|_| {
            let mut best = 0;
            for (n, &weight) in weights.iter().enumerate() {
                current[n] += weight as i64;
                if current[n] > current[best] {
                    best = n;
                }
            }
            current[best] -= sum as i64;
            best
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::service::tests::endpoint;

    fn sequence(weights: &[u32]) -> Sequence {
        let endpoints: Vec<_> = (0..).zip(weights).map(|(n, &weight)| endpoint(n, weight)).collect();
        Sequence::new(&endpoints, Arc::default())
    }

    fn counts(sequence: &Sequence, turns: usize, of: usize) -> Vec<u64> {
        let mut counts = vec![0; of];
        for _ in 0..turns {
            counts[sequence.next().unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn the_order_is_that_of_nginx() {
        let order = |weights: &[u32], n| -> Vec<usize> {
            let s = sequence(weights);
            (0..n).map(|_| s.next().unwrap()).collect()
        };
        assert_eq!(order(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(order(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(order(&[4, 2], 6), [0, 1, 0, 0, 1, 0]);
    }

    #[test]
    fn the_index_is_that_of_the_file_where_some_take_nothing() {
        let s = sequence(&[0, 3, 0, 3]);
        assert_eq!((0..4).map(|_| s.next().unwrap()).collect::<Vec<_>>(), [1, 3, 1, 3]);
        assert_eq!(s.turns.len(), 2, "divided by the greatest common divisor");
    }

    #[test]
    fn workers_together_are_exact() {
        let s = sequence(&[3, 2, 7]);
        let total = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| counts(&s, 12 * 250, 3))).collect();
            workers.into_iter().map(|w| w.join().unwrap()).fold(vec![0; 3], |sum, counts| {
                sum.iter().zip(counts).map(|(a, b)| a + b).collect::<Vec<_>>()
            })
        });
        assert_eq!(total, [3_000, 2_000, 7_000]);
    }

    #[test]
    fn the_cap_itself_is_exact() {
        let s = sequence(&[65_535, 1]);
        assert_eq!(s.turns.len(), 65_536);
        assert_eq!(counts(&s, 65_536, 2), [65_535, 1]);
    }

    #[test]
    fn huge_weights_are_scaled_and_nobody_starves() {
        let weights = [u32::MAX, u32::MAX - 1, 1];
        let s = sequence(&weights);
        let cycle = s.turns.len();
        assert!(cycle as u64 <= MAX_TURNS + weights.len() as u64);
        assert_eq!(counts(&s, cycle, 3), [32_768, 32_768, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_whole_cycle_from_anywhere_is_exact(
            weights in prop::collection::vec(0..12u32, 1..12),
            skip in 0..100usize,
            cycles in 1..4usize,
        ) {
            let s = sequence(&weights);
            let sum = weights.iter().sum::<u32>() as usize;
            if sum == 0 {
                prop_assert_eq!(s.next(), None);
                return Ok(());
            }
            (0..skip).for_each(|_| _ = s.next());
            let expected: Vec<_> = weights.iter().map(|w| u64::from(*w) * cycles as u64).collect();
            prop_assert_eq!(counts(&s, sum * cycles, weights.len()), expected);
        }

        #[test]
        fn nobody_runs_ahead(weights in prop::collection::vec(1..9u32, 1..9)) {
            // Smooth: at no time has anybody had a whole turn more than their share.
            let (s, sum) = (sequence(&weights), weights.iter().sum::<u32>());
            let mut had = vec![0u32; weights.len()];
            for turn in 1..=sum {
                had[s.next().unwrap()] += 1;
                for (had, weight) in had.iter().zip(&weights) {
                    let share = f64::from(turn * weight) / f64::from(sum);
                    prop_assert!(f64::from(*had) - share < 1.0);
                }
            }
        }

        #[test]
        fn scaled_shares_are_off_by_at_most_a_turn(weights in prop::collection::vec(1..=u32::MAX, 2..20)) {
            let wide: Vec<_> = weights.iter().map(|w| u64::from(*w)).collect();
            let turns = scale(&wide);
            let (sum, cycle) = (wide.iter().sum::<u64>() as f64, turns.iter().sum::<u64>() as f64);
            for (turns, weight) in turns.iter().zip(&wide) {
                let off = *turns as f64 / cycle - *weight as f64 / sum;
                prop_assert!(off.abs() * MAX_TURNS as f64 <= 1.0 + weights.len() as f64 / 2.0 * (*weight as f64 / sum));
            }
        }
    }
}

//! Least connections, weighted: the endpoint with the fewest active connections for its weight.
//!
//! Each worker publishes how many active connections it has with each endpoint ([`WorkerCounters::active`]). It chooses from a
//! view of its own: what it has seen the others publish, at most [`WINDOW`] ago, and its own connections as they are. All views
//! begin anew at the same moments, the multiples of [`WINDOW`].
//!
//! Workers that see the same view would all send their next connections to the same endpoints. So each takes for granted, until it
//! looks again, that all others do as it does: a choice counts as many connections as there are workers. With `W` workers,
//! equal weights and no connection ending, the difference between the fullest and the emptiest endpoint then never grows beyond
//! `W`, or what it was before:
//!
//! Let `s` be the counts of all workers at the beginning of a window, `d(w)` what worker w has added since, and `m(w)` the least
//! of `s + W·d(w)`, which is where it sends its next connection. Whomever it has sent one to had at most its least then, so
//! `max(s, m(w)) ≤ s + W·d(w) ≤ max(s, m(w) + W)` holds for every endpoint. The mean of the middle over all workers is
//! `s + Σ d(w)`, the true count. So the fullest and the emptiest differ by no more than the mean over w of
//! `max(s_max, m(w) + W) − max(s_min, m(w))`, and each of these is at most `max(W, s_max − s_min)`. How the connections are split
//! between the workers plays no part. ∎
//!
//! A worker looks at its first choice in a window, so one that has little to do looks a little later, which costs less than `W`
//! again: the tests assert `2·W`.
//!
//! A view is a tournament: the winner is at hand, and a change of one endpoint plays its way up, O(log n). Looking anew is
//! O(n·W), once in a window, and only where connections begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::{Asker, Endpoint};
use crate::counters::WorkerCounters;
use crate::ids::{EndpointId, WorkerId};

/// Other workers' counts are at most this old, and the turn of the poll loop.
const WINDOW: Duration = Duration::from_millis(4);

/// A service's endpoints that take connections, and each worker's view of them.
pub(super) struct Views {
    /// By id.
    candidates: Box<[Candidate]>,
    views: Box<[CachePadded<View>]>,
}

/// An endpoint that takes connections.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: EndpointId,
    /// Index in the service.
    index: u16,
    weight: u32,
}

/// What one worker knows. Written and read by that worker alone; atomic because tables are shared.
struct View {
    /// The window of its counts; 0: none yet.
    window: AtomicU64,
    /// Choices so far: among equals the one that was chosen longest ago is next.
    choices: AtomicU64,
    /// By candidate.
    scores: Box<[Score]>,
    /// A complete binary tree whose leaves are the candidates: who wins below node n has nodes 2n and 2n + 1.
    winners: Box<[AtomicU32]>,
}

#[derive(Default)]
struct Score {
    connections: AtomicU32,
    chosen: AtomicU64,
}

/// A node without a candidate.
const NOBODY: u32 = u32::MAX;

impl std::fmt::Debug for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Views")
            .field("candidates", &self.candidates.len())
            .field("views", &self.views.len())
            .finish()
    }
}

impl Views {
    /// Views for this many workers.
    pub fn new(endpoints: &[Endpoint], workers: usize) -> Self {
        let mut candidates: Box<[_]> = (0..=u16::MAX)
            .zip(endpoints)
            .filter(|(_, endpoint)| endpoint.takes_new())
            .map(|(index, endpoint)| Candidate { id: endpoint.id, index, weight: endpoint.weight })
            .collect();
        candidates.sort_unstable_by_key(|candidate| candidate.id);
        let workers = workers.max(1);
        let views = (0..workers).map(|n| CachePadded::new(View::new(candidates.len(), n, workers))).collect();
        Self { candidates, views }
    }

    /// The endpoint with the fewest, which counts as chosen.
    pub fn pick(&self, asker: &Asker<'_>) -> Option<usize> {
        let view = self.view(asker.worker);
        let window = asker.now.0 / WINDOW.as_nanos() as u64 + 1;
        if view.window.load(Relaxed) != window {
            view.window.store(window, Relaxed);
            view.look(&self.candidates, asker.peers);
        }
        let winner = view.winners.get(1).map_or(NOBODY, |winner| winner.load(Relaxed));
        let score = view.scores.get(winner as usize)?;
        let choices = view.choices.load(Relaxed) + 1;
        view.choices.store(choices, Relaxed);
        score.chosen.store(choices, Relaxed);
        let everybody = asker.peers.len().max(1) as u32;
        score.connections.store(score.connections.load(Relaxed).saturating_add(everybody), Relaxed);
        view.replay(&self.candidates, winner as usize);
        self.candidates.get(winner as usize).map(|candidate| usize::from(candidate.index))
    }

    /// A connection of this worker's with this endpoint is no longer active.
    pub fn released(&self, worker: WorkerId, endpoint: EndpointId) {
        let Ok(n) = self.candidates.binary_search_by_key(&endpoint, |candidate| candidate.id) else { return };
        let view = self.view(worker);
        let connections = &view.scores[n].connections;
        connections.store(connections.load(Relaxed).saturating_sub(1), Relaxed);
        view.replay(&self.candidates, n);
    }

    fn view(&self, worker: WorkerId) -> &View {
        &self.views[worker.index() % self.views.len()]
    }
}

impl View {
    fn new(candidates: usize, worker: usize, workers: usize) -> Self {
        let width = if candidates == 0 { 0 } else { candidates.next_power_of_two() };
        let scores: Box<[Score]> = (0..candidates).map(|_| Score::default()).collect();
        // Workers begin at different candidates.
        let start = candidates * worker / workers;
        for (n, score) in scores.iter().enumerate() {
            score.chosen.store(((n + candidates - start) % candidates) as u64, Relaxed);
        }
        Self {
            window: AtomicU64::new(0),
            choices: AtomicU64::new(candidates as u64),
            scores,
            winners: (0..2 * width).map(|_| AtomicU32::new(NOBODY)).collect(),
        }
    }

    /// Reads what all workers publish, and plays all matches.
    fn look(&self, candidates: &[Candidate], peers: &[Arc<WorkerCounters>]) {
        let width = self.winners.len() / 2;
        for (n, (candidate, score)) in candidates.iter().zip(&self.scores).enumerate() {
            let connections =
                peers.iter().fold(0u32, |sum, peer| sum.saturating_add(peer.active(candidate.id)));
            score.connections.store(connections, Relaxed);
            self.winners[width + n].store(n as u32, Relaxed);
        }
        for node in (1..width).rev() {
            self.play(candidates, node);
        }
    }

    /// The matches of one candidate.
    fn replay(&self, candidates: &[Candidate], n: usize) {
        let mut node = (self.winners.len() / 2 + n) / 2;
        while node > 0 {
            self.play(candidates, node);
            node /= 2;
        }
    }

    fn play(&self, candidates: &[Candidate], node: usize) {
        let [a, b] = [2 * node, 2 * node + 1].map(|below| self.winners[below].load(Relaxed));
        let winner = if b == NOBODY || a != NOBODY && self.rank(candidates, a, b) { a } else { b };
        self.winners[node].store(winner, Relaxed);
    }

    /// Whether candidate `a` comes before `b`: by (connections + ½) / weight, so that each share is met to the nearest.
    fn rank(&self, candidates: &[Candidate], a: u32, b: u32) -> bool {
        let of = |n: u32| (&candidates[n as usize], &self.scores[n as usize]);
        let ((a, score_a), (b, score_b)) = (of(a), of(b));
        let cross = |score: &Score, other: &Candidate| {
            (2 * u128::from(score.connections.load(Relaxed)) + 1) * u128::from(other.weight)
        };
        let (left, right) = (cross(score_a, b), cross(score_b, a));
        (left, score_a.chosen.load(Relaxed)) < (right, score_b.chosen.load(Relaxed))
    }
}

#[cfg(test)]
#[path = "least_tests.rs"]
mod tests;

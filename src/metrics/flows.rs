//! The `sip`-labelled families: which client–endpoint pairs have a series, and what those count (ground rules 5 and 6).
//!
//! A pair without a series is counted as `other`, tick by tick. As long as seats are free, a pair gets one with its first traffic;
//! after that a seat changes hands only where the newcomer's traffic, smoothed over some sixteen ticks, is twice that of the one who has it.

use std::collections::HashMap;

use super::catalog::{Catalog, Removed};
use super::totals::Retired;
use crate::addr::Addr;

/// Key of an endpoint's series, and the client.
pub(super) type Pair = (usize, Addr);

/// Key of a service's series, and the client.
pub(super) type Client = (usize, Addr);

/// Snapshots that show 0 for a new series.
const PENDING_TICKS: u32 = 2;

/// Ticks that a series lasts at least; longer than it is pending, or it might go without having been seen.
const MIN_TICKS: u32 = 6;

/// Weight of one tick in the smoothed traffic.
const WEIGHT: f64 = 1.0 / 16.0;

/// How much more traffic than a pair with a series one without must have to take its place.
const ADVANTAGE: f64 = 2.0;

/// Smoothed bytes per tick below which a pair without a series is forgotten.
const NEGLIGIBLE: f64 = 1.0;

/// Packets and L3 bytes.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub packets: u64,
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// A pair's series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub counted: Amount,
    /// Key of the service's series.
    service: usize,
    /// This tick's.
    tick: Amount,
    /// Snapshots that have shown it.
    age: u32,
    /// Smoothed bytes per tick.
    score: f64,
}

/// A client's series: what its pairs counted while they had one. Goes with the last of them.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct ClientSeries {
    pub packets: u64,
    pairs: u32,
    age: u32,
}

impl Seat {
    /// Whether the series shows 0 yet.
    pub fn pending(&self) -> bool {
        self.age <= PENDING_TICKS
    }
}

impl ClientSeries {
    /// Whether the series shows 0 yet.
    pub fn pending(&self) -> bool {
        self.age <= PENDING_TICKS
    }
}

/// A pair without a seat that had traffic in the tick.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    pair: Pair,
    amount: Amount,
    score: f64,
}

/// What shows 0 because it is new.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub pair_bytes: u64,
    pub pair_packets: u64,
    pub client_packets: u64,
}

/// All pairs that count.
#[derive(Debug, Default)]
pub(super) struct Flows {
    pub seats: HashMap<Pair, Seat>,
    pub clients: HashMap<Client, ClientSeries>,
    /// Folded since the last snapshot.
    tick: HashMap<Pair, Amount>,
    /// Smoothed bytes per tick of pairs without a seat, of no more of them than there are seats.
    waiting: HashMap<Pair, f64>,
}

impl Flows {
    /// Traffic of a pair.
    pub fn count(&mut self, pair: Pair, amount: Amount) {
        self.tick.entry(pair).or_default().add(amount);
    }

    /// Ends the tick: gives out seats, at most `limit`, and credits everything to a series or to `other`.
    pub fn settle(&mut self, limit: usize, catalog: &mut Catalog, retired: &mut Retired) {
        let mut candidates = self.weigh();
        let free = limit.saturating_sub(self.seats.len()).min(candidates.len());
        let without = candidates.split_off(free);
        let excess = self.seats.len().saturating_sub(limit);
        let losers = self.losers(excess, &without);
        let (winners, without) = without.split_at(losers.len() - excess);
        // Before the losers go: a client that loses one pair and gains another keeps its series.
        for candidate in candidates.iter().chain(winners) {
            self.seat(candidate, catalog);
        }
        for pair in losers {
            self.unseat(pair, catalog, retired);
        }
        for candidate in without {
            credit_other(candidate.pair.0, candidate.amount, catalog);
            self.waiting.insert(candidate.pair, candidate.score);
        }
        self.bound_waiting(limit);
        self.credit_seats();
    }

    /// Hands the tick's traffic to the pairs with a seat, and weighs all. The candidates, heaviest first.
    fn weigh(&mut self) -> Vec<Candidate> {
        for seat in self.seats.values_mut() {
            seat.score *= 1.0 - WEIGHT;
        }
        for score in self.waiting.values_mut() {
            *score *= 1.0 - WEIGHT;
        }
        let mut candidates = Vec::new();
        for (pair, amount) in self.tick.drain() {
            let news = WEIGHT * amount.bytes as f64;
            if let Some(seat) = self.seats.get_mut(&pair) {
                seat.tick = amount;
                seat.score += news;
            } else {
                let before = self.waiting.remove(&pair).unwrap_or_default();
                candidates.push(Candidate { pair, amount, score: before + news });
            }
        }
        candidates.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.pair.cmp(&b.pair)));
        candidates
    }

    /// Who must go: the lightest, where there are more than may be; then each who is much lighter than the candidate for its seat.
    fn losers(&self, excess: usize, candidates: &[Candidate]) -> Vec<Pair> {
        if excess == 0 && candidates.is_empty() {
            return Vec::new();
        }
        let mut seats: Vec<_> = self.seats.iter().map(|(&pair, seat)| (pair, seat.score, seat.age)).collect();
        seats.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let (over, within) = seats.split_at(excess);
        let contested = within
            .iter()
            .filter(|seat| seat.2 >= MIN_TICKS)
            .zip(candidates)
            .take_while(|(seat, candidate)| candidate.score > ADVANTAGE * seat.1);
        over.iter().chain(contested.map(|(seat, _)| seat)).map(|seat| seat.0).collect()
    }

    fn seat(&mut self, candidate: &Candidate, catalog: &Catalog) {
        let Candidate { pair, amount, score } = *candidate;
        let service = catalog.endpoints[pair.0].service;
        self.clients.entry((service, pair.1)).or_default().pairs += 1;
        self.seats.insert(pair, Seat { counted: Amount::default(), service, tick: amount, age: 0, score });
    }

    /// Retires what the pair's series has counted. The tick that is ending never was in it, and goes to `other`.
    fn unseat(&mut self, pair: Pair, catalog: &mut Catalog, retired: &mut Retired) {
        let Some(seat) = self.seats.remove(&pair) else { return };
        credit_other(pair.0, seat.tick, catalog);
        self.retire(pair.1, &seat, retired);
    }

    fn retire(&mut self, client: Addr, seat: &Seat, retired: &mut Retired) {
        retired.pair_bytes.settled += seat.counted.bytes;
        retired.pair_packets.settled += seat.counted.packets;
        let key = (seat.service, client);
        let Some(series) = self.clients.get_mut(&key) else { return };
        series.pairs -= 1;
        if series.pairs == 0 {
            retired.client_packets.settled += series.packets;
            self.clients.remove(&key);
        }
    }

    fn credit_seats(&mut self) {
        for (pair, seat) in &mut self.seats {
            let amount = std::mem::take(&mut seat.tick);
            seat.age = seat.age.saturating_add(1);
            if amount != Amount::default() {
                seat.counted.add(amount);
                if let Some(client) = self.clients.get_mut(&(seat.service, pair.1)) {
                    client.packets += amount.packets;
                }
            }
        }
        for client in self.clients.values_mut() {
            client.age = client.age.saturating_add(1);
        }
    }

    /// Forgets the lightest of those who wait, down to as many as there are seats.
    fn bound_waiting(&mut self, limit: usize) {
        self.waiting.retain(|_, score| *score >= NEGLIGIBLE);
        if self.waiting.len() > limit {
            let mut all: Vec<_> = self.waiting.drain().collect();
            all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            self.waiting.extend(all.into_iter().take(limit));
        }
    }

    /// The clients with most traffic of those with a series, heaviest first, and their smoothed bytes per tick.
    pub fn heaviest(&self, most: usize) -> Vec<(Addr, f64)> {
        let mut scores: HashMap<Addr, f64> = HashMap::new();
        for ((_, client), seat) in self.seats.iter().filter(|(_, seat)| seat.score >= NEGLIGIBLE) {
            *scores.entry(*client).or_default() += seat.score;
        }
        let mut clients: Vec<_> = scores.into_iter().collect();
        clients.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        clients.truncate(most);
        clients
    }

    /// What series have counted that show 0 yet.
    pub fn pending(&self) -> Pending {
        let mut pending = Pending::default();
        for seat in self.seats.values().filter(|seat| seat.pending()) {
            pending.pair_bytes += seat.counted.bytes;
            pending.pair_packets += seat.counted.packets;
        }
        let new = self.clients.values().filter(|client| client.pending());
        pending.client_packets = new.map(|client| client.packets).sum();
        pending
    }

    /// Retires the pairs of endpoints that are no longer configured.
    pub fn remove(&mut self, removed: &Removed, catalog: &mut Catalog, retired: &mut Retired) {
        if removed.endpoints.is_empty() {
            return;
        }
        let gone: HashMap<usize, Option<usize>> = removed.endpoints.iter().copied().collect();
        let pairs: Vec<Pair> = self.seats.keys().filter(|pair| gone.contains_key(&pair.0)).copied().collect();
        for pair in pairs {
            if let Some(seat) = self.seats.remove(&pair) {
                self.retire(pair.1, &seat, retired);
            }
        }
        self.tick.retain(|pair, amount| {
            let Some(service) = gone.get(&pair.0) else { return true };
            retired.pair_bytes.add(amount.bytes);
            retired.pair_packets.add(amount.packets);
            match service.and_then(|key| catalog.services.get_mut(key)) {
                Some(series) => series.other_packets.add(amount.packets),
                None => retired.client_packets.add(amount.packets),
            }
            false
        });
        self.waiting.retain(|pair, _| !gone.contains_key(&pair.0));
    }
}

/// Counts for the clients of an endpoint that have no series.
fn credit_other(endpoint: usize, amount: Amount, catalog: &mut Catalog) {
    let series = &mut catalog.endpoints[endpoint];
    series.other_bytes.settled += amount.bytes;
    series.other_packets.settled += amount.packets;
    catalog.services[series.service].other_packets.settled += amount.packets;
}

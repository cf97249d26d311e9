//! The `sip`-labelled families: what each client–endpoint pair counts ([`Table`]), which pairs have a series on `/metrics` (ground rules 5
//! and 6), and all of them for `/metrics/flows` ([`Frozen`]).
//!
//! A pair without a series is counted as `other`, tick by tick. As long as seats are free, a pair gets one with its first traffic;
//! after that a seat changes hands only where the newcomer's traffic, smoothed over some sixteen ticks, is twice that of the one who has it.

mod frozen;
mod lines;
mod table;

use std::sync::{Arc, Weak};

use hashbrown::HashMap;

pub use self::frozen::{Cut, Frozen, Selection, Text, Unknown};
pub(super) use self::lines::{Labels, Sip, number};
use self::table::{NONE, Table};
pub(super) use self::table::{Pair, Row};
use super::catalog::{Catalog, Removed};
use super::totals::Retired;
use crate::addr::Addr;

/// Snapshots that show 0 for a new series.
const PENDING_TICKS: u32 = 2;

/// Ticks that a series lasts at least; longer than it is pending, or it might go without having been seen.
const MIN_TICKS: u32 = 6;

/// Weight of one tick in the smoothed traffic.
const WEIGHT: f32 = 1.0 / 16.0;

/// How much more traffic than a pair with a series one without must have to take its place.
const ADVANTAGE: f32 = 2.0;

/// Smoothed bytes per tick below which a client counts for nothing among the heaviest.
const NEGLIGIBLE: f32 = 1.0;

/// Candidates for a seat that are kept, however few seats there are, before the lighter ones are left out.
const FEW: usize = 512;

/// Pairs that are followed at most, where [four times as many as have a series](most_followed) are not more.
const FOLLOWED: usize = 1 << 20;

/// Pairs that are followed at most where so many may have a series.
pub(super) const fn most_followed(series_limit: usize) -> usize {
    let four = 4 * series_limit;
    if four > FOLLOWED { four } else { FOLLOWED }
}

/// Packets and L3 bytes. Aligned to 4, which spares a [`Row`] as much.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
pub(super) struct Amount {
    pub packets: u64,
    pub bytes: u64,
}

impl Amount {
    pub fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }

    fn less(self, other: Self) -> Self {
        Self { packets: self.packets - other.packets, bytes: self.bytes - other.bytes }
    }

    fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// A pair's series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    /// Where its pair is counted.
    row: u32,
    /// What the pair had counted before it had the series.
    before: Amount,
    /// Snapshots taken before.
    born: u32,
}

/// A client's series: what its pairs counted while they had one. Goes with the last of them.
#[derive(Clone, Copy, Debug)]
struct ClientSeries {
    packets: u64,
    pairs: u32,
    born: u32,
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
    table: Table,
    seats: Vec<Seat>,
    /// By the table's number of the client.
    clients: HashMap<u32, ClientSeries>,
    /// Snapshots taken.
    snapshots: u32,
    /// Pairs that are followed at most.
    bound: usize,
    /// Where each worker's slots were counted last: right most of the time.
    hints: Vec<Vec<u32>>,
    /// Pairs without a seat that had traffic in the tick: score, row.
    candidates: Vec<(f32, u32)>,
    /// What is being streamed: of this tick, and of an earlier one.
    frozen: Option<(u32, Weak<Frozen>)>,
    thawing: Weak<Frozen>,
}

impl Flows {
    /// For so many workers; follows so many pairs at most.
    pub fn new(workers: usize, bound: usize) -> Self {
        Self { bound, hints: vec![Vec::new(); workers], ..Self::default() }
    }

    /// Follows more pairs, or fewer new ones.
    pub fn set_bound(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// Traffic of a pair, as a worker counted it in one of its slots.
    pub fn count(
        &mut self,
        (worker, slot): (usize, usize),
        pair: &Pair,
        amount: Amount,
        catalog: &mut Catalog,
        retired: &mut Retired,
    ) {
        let hints = &mut self.hints[worker];
        if hints.len() <= slot {
            hints.resize(slot + 1, NONE);
        }
        let mut at = hints[slot];
        if !self.table.is(at, pair) {
            let Some(found) = self.table.find(pair).or_else(|| self.follow(pair, catalog, retired)) else {
                stray(pair.endpoint as usize, amount, catalog);
                return;
            };
            at = found;
            self.hints[worker][slot] = at;
        }
        self.table.count(at, amount);
    }

    /// A new row, if there is room or somebody lighter.
    fn follow(&mut self, pair: &Pair, catalog: &mut Catalog, retired: &mut Retired) -> Option<u32> {
        if self.table.len() >= self.bound {
            let lightest = self.table.lightest()?;
            stray(self.table.row(lightest).endpoint as usize, self.table.tick(lightest), catalog);
            self.drop_row(lightest, retired);
        }
        Some(self.table.insert(pair, self.snapshots))
    }

    /// Retires what a row has settled from the page of all pairs.
    fn drop_row(&mut self, at: u32, retired: &mut Retired) {
        let gone = self.table.remove(at);
        let followed = &mut retired.followed;
        followed.pair_bytes.settled += gone.row.settled.bytes;
        followed.pair_packets.settled += gone.row.settled.packets;
        if gone.last {
            followed.client_packets.settled += gone.client.departed;
        }
    }

    /// Ends the tick: gives out seats, at most `limit`, and credits everything to a series or to `other`.
    pub fn settle(&mut self, limit: usize, catalog: &mut Catalog, retired: &mut Retired) {
        self.weigh(limit);
        let mut candidates = std::mem::take(&mut self.candidates);
        let free = limit.saturating_sub(self.seats.len()).min(candidates.len());
        if free < candidates.len() {
            candidates.select_nth_unstable_by(free, heavier);
        }
        let (winners, without) = candidates.split_at_mut(free);
        let losers = self.losers(self.seats.len().saturating_sub(limit), without);
        // Before the losers go: a client that loses one pair and gains another keeps its series.
        for &(_, row) in winners.iter().chain(&losers.winners) {
            self.seat(row);
        }
        for row in losers.rows {
            self.unseat(row, retired);
        }
        candidates.clear();
        self.candidates = candidates;
        self.credit(catalog);
        self.snapshots = self.snapshots.wrapping_add(1);
    }

    /// Smooths everybody's traffic, and finds the candidates: the heaviest, as many as there may be seats.
    fn weigh(&mut self, limit: usize) {
        for at in 0..self.table.rows().len() as u32 {
            let tick = self.table.tick(at);
            let row = self.table.row_mut(at);
            row.score *= 1.0 - WEIGHT;
            if tick.is_zero() {
                continue;
            }
            row.score += WEIGHT * tick.bytes as f32;
            if row.seat == NONE {
                self.candidates.push((row.score, at));
                if self.candidates.len() >= 2 * limit.max(FEW) {
                    keep_heaviest(&mut self.candidates, limit);
                }
            }
        }
        keep_heaviest(&mut self.candidates, limit);
    }

    /// Who must go: the lightest, where there are more than may be; then each who is much lighter than the candidate for its seat.
    fn losers(&self, excess: usize, candidates: &mut [(f32, u32)]) -> Exchange {
        if excess == 0 && candidates.is_empty() {
            return Exchange::default();
        }
        let score = |seat: &Seat| self.table.row(seat.row).score;
        let light = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1));
        let lasted = |seat: &Seat| self.snapshots.wrapping_sub(seat.born) >= MIN_TICKS;
        let mut exchange = Exchange::default();
        let mut seats: Vec<(f32, u32)> = self.seats.iter().map(|seat| (score(seat), seat.row)).collect();
        if excess > 0 {
            seats.select_nth_unstable_by(excess - 1, light);
            exchange.rows.extend(seats.drain(..excess).map(|(_, row)| row));
        }
        let Some(heaviest) = candidates.iter().map(|candidate| candidate.0).max_by(f32::total_cmp) else {
            return exchange;
        };
        seats.retain(|&(score, row)| {
            heaviest > ADVANTAGE * score && lasted(&self.seats[self.table.row(row).seat as usize])
        });
        let most = seats.len().min(candidates.len());
        if most == 0 {
            return exchange;
        }
        if most < candidates.len() {
            candidates.select_nth_unstable_by(most, heavier);
        }
        candidates[..most].sort_unstable_by(heavier);
        seats.sort_unstable_by(light);
        for (seat, candidate) in seats.iter().zip(&candidates[..most]) {
            if candidate.0 <= ADVANTAGE * seat.0 {
                break;
            }
            exchange.rows.push(seat.1);
            exchange.winners.push(*candidate);
        }
        exchange
    }

    fn seat(&mut self, at: u32) {
        let born = self.snapshots;
        let number = self.seats.len() as u32;
        let row = self.table.row_mut(at);
        row.seat = number;
        let (client, before) = (row.client, row.settled);
        self.seats.push(Seat { row: at, before, born });
        self.clients.entry(client).or_insert(ClientSeries { packets: 0, pairs: 0, born }).pairs += 1;
    }

    /// Retires what the pair's series has counted. The tick that is ending never was in it, and goes to `other`.
    fn unseat(&mut self, at: u32, retired: &mut Retired) {
        let row = self.table.row_mut(at);
        let number = std::mem::replace(&mut row.seat, NONE);
        let (client, settled) = (row.client, row.settled);
        let seat = self.seats.swap_remove(number as usize);
        if let Some(moved) = self.seats.get(number as usize) {
            self.table.row_mut(moved.row).seat = number;
        }
        let counted = settled.less(seat.before);
        retired.pair_bytes.settled += counted.bytes;
        retired.pair_packets.settled += counted.packets;
        let Some(series) = self.clients.get_mut(&client) else { return };
        series.pairs -= 1;
        if series.pairs == 0 {
            retired.client_packets.settled += series.packets;
            self.clients.remove(&client);
        }
    }

    /// What the tick brought goes to where it is shown.
    fn credit(&mut self, catalog: &mut Catalog) {
        for at in 0..self.table.rows().len() as u32 {
            let amount = self.table.take_tick(at);
            if amount.is_zero() {
                continue;
            }
            let row = self.table.row_mut(at);
            row.settled.add(amount);
            if row.seat == NONE {
                let series = &mut catalog.endpoints[row.endpoint as usize];
                series.other.credit(amount);
                catalog.services[series.service].other_packets.settled += amount.packets;
            } else if let Some(client) = self.clients.get_mut(&row.client) {
                client.packets += amount.packets;
            }
        }
    }

    /// Pairs with a series.
    pub fn series(&self) -> usize {
        self.seats.len()
    }

    /// Pairs that are followed, and how many may be.
    pub fn followed(&self) -> (usize, usize) {
        (self.table.len(), self.bound)
    }

    fn is_new(&self, born: u32) -> bool {
        self.snapshots.wrapping_sub(born) <= PENDING_TICKS
    }

    /// What the series of each pair shows, with all that is pending or not.
    pub fn shown(&self, with_pending: bool) -> impl Iterator<Item = (&Row, Addr, Amount)> {
        self.seats.iter().map(move |seat| {
            let row = self.table.row(seat.row);
            let counted = row.settled.less(seat.before);
            let shown = if self.is_new(seat.born) && !with_pending { Amount::default() } else { counted };
            (row, self.table.client(row.client).addr(), shown)
        })
    }

    /// What the series of each client shows: key of its service, address, packets.
    pub fn shown_clients(&self, with_pending: bool) -> impl Iterator<Item = (usize, Addr, u64)> {
        self.clients.iter().map(move |(&client, series)| {
            let shown = if self.is_new(series.born) && !with_pending { 0 } else { series.packets };
            let client = self.table.client(client);
            (client.service as usize, client.addr(), shown)
        })
    }

    /// What a pair's series has counted, where it has one.
    pub fn counted(&self, pair: &Pair) -> Option<Amount> {
        let row = self.table.row(self.table.find(pair)?);
        let seat = self.seats.get(row.seat as usize)?;
        Some(row.settled.less(seat.before))
    }

    /// The clients with most traffic of those with a series, heaviest first, and their smoothed bytes per tick.
    pub fn heaviest(&self, most: usize) -> Vec<(Addr, f64)> {
        let mut scores: HashMap<Addr, f64> = HashMap::new();
        let rows = self.seats.iter().map(|seat| self.table.row(seat.row));
        for row in rows.filter(|row| row.score >= NEGLIGIBLE) {
            *scores.entry(self.table.client(row.client).addr()).or_default() += f64::from(row.score);
        }
        let mut clients: Vec<_> = scores.into_iter().collect();
        clients.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        clients.truncate(most);
        clients
    }

    /// What series have counted that show 0 yet.
    pub fn pending(&self) -> Pending {
        let mut pending = Pending::default();
        for seat in self.seats.iter().filter(|seat| self.is_new(seat.born)) {
            let counted = self.table.row(seat.row).settled.less(seat.before);
            pending.pair_bytes += counted.bytes;
            pending.pair_packets += counted.packets;
        }
        let new = self.clients.values().filter(|client| self.is_new(client.born));
        pending.client_packets = new.map(|client| client.packets).sum();
        pending
    }

    /// Retires the pairs of endpoints that are no longer configured.
    pub fn remove(&mut self, removed: &Removed, catalog: &mut Catalog, retired: &mut Retired) {
        if removed.endpoints.is_empty() {
            return;
        }
        let gone: HashMap<u32, Option<usize>> =
            removed.endpoints.iter().map(|&(key, service)| (key as u32, service)).collect();
        for at in 0..self.table.rows().len() as u32 {
            let &Row { endpoint, seat, .. } = self.table.row(at);
            let Some(&service) = gone.get(&endpoint) else { continue };
            let tick = self.table.tick(at);
            for (packets, bytes) in [
                (&mut retired.pair_packets, &mut retired.pair_bytes),
                (&mut retired.followed.pair_packets, &mut retired.followed.pair_bytes),
            ] {
                packets.add(tick.packets);
                bytes.add(tick.bytes);
            }
            if let Some(series) = service.and_then(|key| catalog.services.get_mut(key)) {
                series.other_packets.add(tick.packets);
                series.stray_packets.add(tick.packets);
            } else {
                retired.client_packets.add(tick.packets);
                retired.followed.client_packets.add(tick.packets);
            }
            if seat != NONE {
                self.unseat(at, retired);
            }
            self.drop_row(at, retired);
        }
    }

    /// All pairs as of the last snapshot, to be streamed: one copy for all who ask within a tick. Whoever still reads that of the
    /// tick before the last one asked in is cut off: two copies are all there are at a time.
    pub fn freeze(&mut self, catalog: &Catalog, retired: &Retired) -> Arc<Frozen> {
        if let Some((at, frozen)) = &self.frozen {
            if let Some(frozen) = frozen.upgrade().filter(|_| *at == self.snapshots) {
                return frozen;
            }
            if let Some(older) = self.thawing.upgrade() {
                older.cut();
            }
            self.thawing = Weak::clone(frozen);
        }
        let frozen = Arc::new(Frozen::new(&self.table, self.snapshots, catalog, retired));
        self.frozen = Some((self.snapshots, Arc::downgrade(&frozen)));
        frozen
    }

    /// No copy is of use any more: what it shows is configured otherwise.
    pub fn thaw(&mut self) {
        if let Some((_, frozen)) = self.frozen.take() {
            if let Some(older) = self.thawing.upgrade() {
                older.cut();
            }
            self.thawing = frozen;
        }
    }

    /// Bytes of memory that all pairs take here.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
            + self.seats.capacity() * size_of::<Seat>()
            + self.clients.capacity() * size_of::<(u32, ClientSeries)>()
            + self.hints.iter().map(|hints| hints.capacity() * size_of::<u32>()).sum::<usize>()
            + self.candidates.capacity() * size_of::<(f32, u32)>()
    }
}

/// Seats that change hands.
#[derive(Default)]
struct Exchange {
    /// Whose are taken away.
    rows: Vec<u32>,
    /// Who gets one of theirs.
    winners: Vec<(f32, u32)>,
}

/// Takes the others out.
fn keep_heaviest(candidates: &mut Vec<(f32, u32)>, most: usize) {
    if most < candidates.len() {
        candidates.select_nth_unstable_by(most, heavier);
        candidates.truncate(most);
    }
}

fn heavier(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Counts for a pair that is not followed.
pub(super) fn stray(endpoint: usize, amount: Amount, catalog: &mut Catalog) {
    let series = &mut catalog.endpoints[endpoint];
    series.other.add(amount);
    series.stray.add(amount);
    let service = &mut catalog.services[series.service];
    service.other_packets.add(amount.packets);
    service.stray_packets.add(amount.packets);
}

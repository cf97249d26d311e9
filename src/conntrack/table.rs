//! The table: a slab of entries, an index by hash, a timer wheel.
//!
//! Memory is taken in [`Conntrack::new`] and never grows, moves or is rehashed; its pages are touched as connections come. A lookup
//! touches one bucket (64 bytes; a second for one key of eleven at worst) and one entry (64 bytes; of IPv6, 128); inserting touches
//! a bucket for each of the two tuples, the entry, the 24 bytes beside it, and those of the entry in whose timer list it goes.

use std::fmt;

use arrayvec::ArrayVec;

use super::entry::{Entry, PAST_ALL_TIMEOUTS_MS, Wide};
use super::hash::{TupleHash, rest_v4};
use super::key::Key;
use super::machine::Machine;
use super::rest::Rest;
use super::tally::Great;
use super::vacant::Vacant;
use super::view::View;
use super::wheel::{Wheel, tick};
use super::{
    Age, Direction, Expired, Flow, FlowError, FlowId, InsertError, OwnAddresses, Step, Tuple, opens,
};
use crate::addr::Addr;
use crate::counters::FlowState;
use crate::dpdk::memory::{Pages, huge_vec, prefetch};
use crate::ids::EndpointId;
use crate::index::{Index, Probe, Search};
use crate::parse::{L4, Whole};
use crate::time::Instant;
use crate::wire::raw;

/// Entry numbers leave room for a direction and the wheel's marks in 32 bits.
const MAX_CAPACITY: usize = 1 << 30;

/// Entries that are looked at for expiry together, so that their cache misses overlap.
const TOGETHER: usize = 16;

/// New connections from the one in hand to that for which memory is fetched: it comes behind the work on those between.
const AHEAD: usize = 8;

/// Where a lookup by steps has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lead(Key);

impl Default for Lead {
    fn default() -> Self {
        Self::NONE
    }
}

impl Lead {
    /// Nowhere: it is not in the table, or must be looked for by [`Conntrack::find`].
    pub const NONE: Self = Self(Key::NEVER);
    /// To the second bucket.
    const FURTHER: Self = Self(Key::FURTHER);

    /// The connection that it leads to, if [`Conntrack::confirm`] has found it there, and nothing was removed since.
    #[inline]
    #[must_use]
    pub fn connection(self) -> Option<(FlowId, Direction)> {
        let Self(key) = self;
        (self != Self::NONE && self != Self::FURTHER).then(|| (key.id(), key.direction()))
    }

    /// Whether [`Conntrack::probe_further`] is to be asked.
    #[inline]
    #[must_use]
    pub fn is_further(self) -> bool {
        self == Self::FURTHER
    }
}

/// A connection that has expired and is no more; what was in its entry is there to be seen once more.
#[derive(Clone, Copy, Debug)]
pub struct Departed<'t> {
    /// What it was.
    pub view: View<'t>,
    /// Its last state.
    pub state: FlowState,
    /// As in [`Expired`].
    pub error: Option<FlowError>,
}

/// Addresses that a connection's entry may name, but has no room for.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere<'t> {
    /// Those of full NAT and tunnels.
    pub own: &'t OwnAddresses,
    wides: &'t [Wide],
    id: FlowId,
}

impl Elsewhere<'_> {
    /// Its own, where one of them is of IPv6.
    #[inline(always)]
    #[must_use]
    pub fn wide(&self) -> Option<&Wide> {
        self.wides.get(self.id.0 as usize)
    }
}

/// The table of one worker.
///
/// A [`FlowId`] is good until its entry is removed. One that was good once is never out of bounds, so that a stale one cannot
/// make the data path panic: [`flow`](Self::flow) then shows the remains or the entry's next tenant,
/// [`state`](Self::state) is closed and [`step`](Self::step) and [`remove`](Self::remove) do nothing while it is vacant. Only a number that no
/// table of this capacity ever gave out panics.
///
/// Time never goes back: an earlier `now` than the latest seen counts as that. [`expire`](Self::expire) must be called at least
/// once a day.
pub struct Conntrack {
    hash: TupleHash,
    index: Index<Key>,
    entries: Vec<Entry>,
    /// By the number of the entry, as are those below.
    rests: Vec<Rest>,
    /// On small pages: one is taken where a connection has carried 8 GiB, or four million packets.
    greats: Pages<Great>,
    /// Pages that no connection of IPv6 has used cost nothing.
    wides: Pages<Wide>,
    wheel: Wheel,
    vacant: Vacant,
    len: usize,
    capacity: usize,
    /// The latest time seen, milliseconds.
    now_ms: u64,
    /// What the entries of full NAT name.
    own: OwnAddresses,
}

impl fmt::Debug for Conntrack {
    /// Without the hash key and the entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conntrack")
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl Conntrack {
    /// An empty table for `capacity` connections (at most 2³⁰), all memory reserved now; its pages are taken as they are first used. `hash_key` is secret, against hash
    /// flooding.
    #[must_use]
    pub fn new(capacity: usize, hash_key: (u64, u64)) -> Self {
        let capacity = capacity.min(MAX_CAPACITY);
        Self {
            hash: TupleHash::new(hash_key),
            index: Index::new(2 * capacity),
            entries: huge_vec(capacity),
            rests: huge_vec(capacity),
            greats: Pages::sparse(capacity),
            wides: Pages::zeroed(capacity),
            wheel: Wheel::new(),
            vacant: Vacant::new(),
            len: 0,
            capacity,
            now_ms: 0,
            own: OwnAddresses::default(),
        }
    }

    /// The addresses that entries name. A slot must keep its address as long as an entry names it.
    pub fn set_own(&mut self, own: OwnAddresses) {
        self.own = own;
    }

    /// The addresses that entries name.
    #[inline]
    #[must_use]
    pub fn own(&self) -> &OwnAddresses {
        &self.own
    }

    /// Bytes that a table for `capacity` connections comes to take as they fill it; `wide`: as those of IPv6 do. Not the
    /// eight of one that has carried more than 8 GiB, or four million packets.
    #[must_use]
    pub fn bytes(capacity: usize, wide: bool) -> usize {
        let entry = size_of::<Entry>() + size_of::<Rest>() + if wide { size_of::<Wide>() } else { 0 };
        Index::<Key>::bytes(2 * capacity).saturating_add(capacity.saturating_mul(entry))
    }

    /// The keyed hash of a tuple.
    #[inline]
    #[must_use]
    pub fn hash(&self, tuple: &Tuple) -> u64 {
        self.hash.of(tuple)
    }

    /// [`hash`](Self::hash) of the tuple of a packet.
    #[inline(always)]
    #[must_use]
    pub fn hash_of(&self, packet: &Whole) -> u64 {
        if packet.is_v4 {
            self.hash.of_v4(packet.v4, rest_v4(packet.ports, packet.protocol()))
        } else {
            self.hash.of(&packet.tuple())
        }
    }

    /// [`hash`](Self::hash) of the answers to a packet that is sent on to this endpoint; port 0: the one that the packet has.
    #[inline(always)]
    #[must_use]
    pub fn hash_of_reply(&self, packet: &Whole, (endpoint, port): (Addr, u16)) -> u64 {
        let port = if port == 0 { packet.dport() } else { port };
        if packet.is_v4 && endpoint.is_v4() {
            let addresses = u64::from(raw::u32(endpoint.0 as u32)) | packet.v4 << 32;
            let ports = u32::from(raw::u16(port)) | packet.ports << 16;
            return self.hash.of_v4(addresses, rest_v4(ports, packet.protocol()));
        }
        let Tuple { src, sport, protocol, .. } = packet.tuple();
        self.hash.of(&Tuple { src: endpoint, sport: port, dst: src, dport: sport, protocol })
    }

    /// Finds the connection that a packet with this tuple belongs to; `hash` is [`Self::hash`] of it.
    #[inline]
    #[must_use]
    pub fn find(&self, tuple: &Tuple, hash: u64) -> Option<(FlowId, Direction)> {
        let key = self.index.find(hash, |key| {
            self.get(key.id()).is_some_and(|view| view.has_tuple(key.direction(), tuple, &self.own))
        })?;
        Some((key.id(), key.direction()))
    }

    /// First of three steps of a lookup, each for a whole burst, so that the cache misses of its packets overlap: fetches
    /// what [`probe`](Self::probe) reads.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Second step where one is to be entered, by the hash of its replies: fetches what else [`insert_at`](Self::insert_at) may read.
    #[inline]
    pub fn prefetch_room(&self, hash: u64) {
        self.index.prefetch_room(hash);
    }

    /// Second step: where the connection may be; fetches what [`confirm`](Self::confirm) reads, of IPv6 addresses, too, if `wide`.
    #[inline]
    #[must_use]
    pub fn probe(&self, hash: u64, wide: bool) -> Lead {
        match self.index.probe(hash) {
            Probe::Candidate(key) => self.lead(key, wide),
            Probe::Absent => Lead::NONE,
            Probe::Second => Lead::FURTHER,
        }
    }

    /// The second step again, for the few that [are to go further](Lead::is_further).
    #[must_use]
    pub fn probe_further(&self, hash: u64, wide: bool) -> Lead {
        self.index.probe_second(hash).map_or(Lead::NONE, |key| self.lead(key, wide))
    }

    #[inline]
    fn lead(&self, key: Key, wide: bool) -> Lead {
        let id = key.id().0 as usize;
        if let Some(entry) = self.entries.get(id) {
            prefetch(entry);
        }
        if wide && let Some(wide) = self.wides.get(id) {
            prefetch(wide);
        }
        Lead(key)
    }

    /// Third step: the connection that a lead is to, if it is this packet's. `None` where [`find`](Self::find) has to tell. To be called
    /// before anything is removed from the table.
    #[inline(always)]
    #[must_use]
    pub fn confirm(&self, lead: Lead, packet: &Whole) -> Option<(FlowId, Direction)> {
        let Lead(key) = lead;
        let (id, direction) = (key.id(), key.direction());
        let entry = self.entries.get(id.0 as usize)?;
        let same = match entry.has_plain(direction, packet) {
            Some(same) => same,
            None => self.is_of(id, direction, packet)?,
        };
        same.then_some((id, direction))
    }

    /// Whether a packet is one of a connection's that is [not plain](Entry::is_plain).
    #[inline]
    fn is_of(&self, id: FlowId, direction: Direction, packet: &Whole) -> Option<bool> {
        let view = self.get(id)?;
        let View { entry, wide, .. } = view;
        entry
            .has_plain_v6(direction, packet, wide)
            .or_else(|| entry.has_v4_packet(direction, packet, &self.own))
            .or_else(|| Some(view.has_packet(direction, packet, &self.own)))
    }

    #[inline(always)]
    fn get(&self, id: FlowId) -> Option<View<'_>> {
        let id = id.0 as usize;
        Some(View { entry: self.entries.get(id)?, rest: self.rests.get(id)?, wide: self.wides.get(id)? })
    }

    /// What a connection's packets need.
    #[inline]
    #[must_use]
    pub fn entry(&self, id: FlowId) -> &Entry {
        &self.entries[id.0 as usize]
    }

    /// A connection.
    #[inline]
    #[must_use]
    pub fn view(&self, id: FlowId) -> View<'_> {
        let id = id.0 as usize;
        View { entry: &self.entries[id], rest: &self.rests[id], wide: &self.wides[id] }
    }

    /// All that there is of a connection, put together.
    #[must_use]
    pub fn flow(&self, id: FlowId) -> Flow {
        self.view(id).flow()
    }

    /// What a connection's packets need, to be [followed](Entry::follow); and the addresses that are not in it.
    #[inline(always)]
    pub fn get_mut(&mut self, id: FlowId) -> Option<(&mut Entry, Elsewhere<'_>)> {
        let elsewhere = Elsewhere { own: &self.own, wides: &self.wides, id };
        Some((self.entries.get_mut(id.0 as usize)?, elsewhere))
    }

    /// The time of [`begin`](Self::begin), or a later one: the low 32 bits of milliseconds.
    #[inline]
    #[must_use]
    pub const fn now_ms(&self) -> u32 {
        self.now_ms as u32
    }

    /// After [`Entry::count`] has asked for it.
    #[cold]
    #[inline(never)]
    pub fn carry(&mut self, id: FlowId) {
        let id = id.0 as usize;
        if let (Some(entry), Some(rest)) = (self.entries.get_mut(id), self.rests.get_mut(id)) {
            rest.carried.take(&mut entry.recent, || &mut self.greats[id]);
        }
    }

    /// Counts a packet that a connection has carried, of so many L3 bytes.
    #[inline]
    pub fn count(&mut self, id: FlowId, bytes: u32) {
        if self.get_mut(id).is_some_and(|(entry, _)| entry.count(bytes)) {
            self.carry(id);
        }
    }

    /// Where its packets that go this way are sent from now on.
    #[inline]
    pub fn set_next_hop(&mut self, id: FlowId, direction: Direction, hop: u32) {
        self.entries[id.0 as usize].set_next_hop(direction, hop);
    }

    /// The firewall epoch under which it is allowed.
    #[inline]
    pub fn set_epoch(&mut self, id: FlowId, epoch: u32) {
        self.entries[id.0 as usize].set_epoch(epoch);
    }

    /// An entry's state.
    #[must_use]
    pub fn state(&self, id: FlowId) -> FlowState {
        self.entries[id.0 as usize].machine.flow_state()
    }

    /// The tag that packets to an SCTP association's client carry.
    #[must_use]
    pub fn client_tag(&self, id: FlowId) -> Option<u32> {
        self.entries[id.0 as usize].machine.client_tag()
    }

    /// Enters a connection by the first packet seen of it, in state half-open; picked up by a RST, closed.
    ///
    /// # Errors
    /// [`InsertError`]; the table is then unchanged. A tuple in use is reported also where the table is full.
    pub fn insert(&mut self, flow: Flow, first: &L4, now: Instant) -> Result<FlowId, InsertError> {
        let hashes = [Direction::Original, Direction::Reply].map(|d| self.hash(&flow.tuple_by(d, &self.own)));
        self.insert_at(&flow, first, hashes, now)
    }

    /// [`insert`](Self::insert), by the [hashes](Self::hash) of both tuples.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn insert_at(
        &mut self,
        flow: &Flow,
        first: &L4,
        hashes: [u64; 2],
        now: Instant,
    ) -> Result<FlowId, InsertError> {
        let search = |direction: Direction| {
            self.index.search(hashes[direction as usize], |key| self.has_tuple_of(key, flow, direction))
        };
        // Apart, and by steps: what is put together would be written to memory, and read before it is there.
        let (original, reply) = (search(Direction::Original), search(Direction::Reply));
        if original.is_found() || reply.is_found() || hashes[0] == hashes[1] && self.answers_itself(flow) {
            return Err(InsertError::TupleInUse);
        }
        let Search::Room(original) = original else { return Err(InsertError::Full) };
        let Search::Room(reply) = reply else { return Err(InsertError::Full) };
        let id = match self.vacant.nth(0) {
            Some(vacant) => FlowId(vacant),
            None if self.entries.len() < self.capacity => FlowId(self.entries.len() as u32),
            None => return Err(InsertError::Full),
        };
        let [there, back] = [Direction::Original, Direction::Reply].map(|direction| Key::new(id, direction));
        if !self.index.put_both(original, there, reply, back) {
            return Err(InsertError::Full);
        }
        let now_ms = self.clock(now);
        let entry = Entry::new(flow, Machine::open(flow, first, now.micros() as u32), now_ms as u32);
        if entry.is_wide() {
            self.wides[id.0 as usize] = [flow.client.0, flow.vip.0, flow.endpoint.0, 0];
        }
        self.vacant.pop(&self.rests);
        match (self.entries.get_mut(id.0 as usize), self.rests.get_mut(id.0 as usize)) {
            (Some(vacant), Some(rest)) => {
                *vacant = entry;
                *rest = Rest::new(flow, now_ms);
            }
            // Within the capacity taken at the start: does not allocate.
            _ => {
                self.entries.push(entry);
                self.rests.push(Rest::new(flow, now_ms));
            }
        }
        let deadline = now_ms + u64::from(self.view(id).left_ms(now_ms));
        self.wheel.link(&mut self.rests, id.0, deadline);
        self.len += 1;
        self.prefetch_vacant();
        Ok(id)
    }

    /// Whether a key is of a connection, and a direction, whose tuple the new one would have this way. Hardly ever asked: tags differ.
    #[cold]
    #[inline(never)]
    fn has_tuple_of(&self, key: Key, flow: &Flow, direction: Direction) -> bool {
        let tuple = flow.tuple_by(direction, &self.own);
        self.get(key.id()).is_some_and(|view| view.has_tuple(key.direction(), &tuple, &self.own))
    }

    /// Whether a connection has one tuple for both directions.
    #[cold]
    fn answers_itself(&self, flow: &Flow) -> bool {
        flow.tuple_by(Direction::Original, &self.own) == flow.tuple_by(Direction::Reply, &self.own)
    }

    /// Fetches the entry that a new connection some way ahead is to have, if none goes meanwhile.
    #[inline]
    fn prefetch_vacant(&mut self) {
        if let Some(id) = self.vacant.nth(AHEAD) {
            if let (Some(entry), Some(rest)) = (self.entries.get(id as usize), self.rests.get(id as usize)) {
                prefetch(entry);
                rest.prefetch();
            }
        } else if let Some(n) = AHEAD.checked_sub(self.vacant.len()) {
            // Those that never were used.
            if let Some(entry) = self.entries.spare_capacity_mut().get(n) {
                prefetch(entry);
            }
            if let Some(rest) = self.rests.spare_capacity_mut().get(n) {
                prefetch(rest);
            }
        }
    }

    /// Begins a burst of [`follow`](Self::follow)s.
    #[inline]
    pub fn begin(&mut self, now: Instant) {
        self.clock(now);
    }

    /// [`step`](Self::step) for a packet that changes no state, as most do: `false`, and no change, for any other. Its time is
    /// that of [`begin`](Self::begin).
    #[inline]
    pub fn follow(&mut self, id: FlowId, direction: Direction, packet: &Whole) -> bool {
        let now_ms = self.now_ms();
        self.get_mut(id).is_some_and(|(entry, _)| entry.follow(direction, packet, now_ms))
    }

    /// Advances the state machine by a packet of the connection, and its timer.
    #[inline]
    pub fn step(&mut self, id: FlowId, direction: Direction, l4: &L4, now: Instant) -> Step {
        let now_ms = self.clock(now);
        let entry = &mut self.entries[id.0 as usize];
        let before = entry.machine.flow_state();
        let asked_us = entry.machine.asked_us();
        let reaction = entry.machine.step(direction, l4);
        let after = entry.machine.flow_state();
        let mut answered = None;
        if reaction.refresh {
            if before == FlowState::HalfOpen && after == before && direction == Direction::Reply {
                answered = entry.answered(asked_us, now.micros(), now_ms);
            }
            entry.touched_ms = now_ms as u32;
        }
        if after != before {
            self.reschedule(id, before, now_ms);
        }
        Step { before, after, error: reaction.error, pass: reaction.pass, answered }
    }

    /// After a change of its state from `before`.
    fn reschedule(&mut self, id: FlowId, before: FlowState, now_ms: u64) {
        let view = self.view(id);
        if view.timeout_ms(self.state(id)) < view.timeout_ms(before) {
            // The wheel would look too late; where a deadline moves away, it looks too early and finds that out.
            let deadline = now_ms + u64::from(view.left_ms(now_ms));
            self.wheel.unlink(&mut self.rests, id.0);
            self.wheel.link(&mut self.rests, id.0, deadline);
        }
    }

    /// What this side of a connection would send now if it had nothing to say, as it comes to us; `None` where that is not known.
    #[must_use]
    pub fn keepalive(&self, id: FlowId, direction: Direction) -> Option<L4> {
        let view = self.view(id);
        let tuple = view.tuple(direction, &self.own);
        view.entry.machine.keepalive(direction, (tuple.sport, tuple.dport))
    }

    /// A connection of which both sides have been told that it is over. What comes of it yet finds it closed for some seconds.
    pub fn end(&mut self, id: FlowId, now: Instant) -> Step {
        let now_ms = self.clock(now);
        let entry = &mut self.entries[id.0 as usize];
        let before = entry.machine.flow_state();
        entry.machine.end();
        entry.touched_ms = now_ms as u32;
        let after = entry.machine.flow_state();
        self.reschedule(id, before, now_ms);
        Step { before, after, error: None, pass: Ok(()), answered: None }
    }

    /// Whether a first packet of this kind, original direction, starts the connection anew (port reuse: a SYN or INIT on an
    /// entry that is closed, or a SYN after both FINs). The caller removes the entry and creates another.
    #[must_use]
    pub fn reopens(&self, id: FlowId, direction: Direction, l4: &L4) -> bool {
        direction == Direction::Original && opens(l4) && self.entries[id.0 as usize].machine.is_over()
    }

    /// Removes an entry. That is no bad end: `error` is not set.
    pub fn remove(&mut self, id: FlowId) -> Expired {
        let flow = self.flow(id);
        if self.entries[id.0 as usize].machine == Machine::Vacant {
            return Expired { flow, state: FlowState::Closed, error: None };
        }
        let state = self.state(id);
        self.take(id, self.hashes(self.view(id)));
        Expired { flow, state, error: None }
    }

    /// Removes what has expired by `now`, looking at no more than `budget` entries, and says whether any are left to look at.
    ///
    /// An entry goes in the first call that comes 128 ms or more after its deadline; never before the deadline.
    pub fn expire(&mut self, now: Instant, budget: usize, mut gone: impl FnMut(Expired)) -> bool {
        self.expire_with(
            now,
            budget,
            &mut (),
            |(), _| {},
            |(), departed| {
                let Departed { view, state, error } = departed;
                gone(Expired { flow: view.flow(), state, error });
            },
        )
    }

    /// [`expire`](Self::expire) that shows `near` each entry some time before `gone` gets it: to fetch what that will write. Both have
    /// the use of `with`.
    pub fn expire_with<T>(
        &mut self,
        now: Instant,
        budget: usize,
        with: &mut T,
        near: impl Fn(&T, View<'_>),
        mut gone: impl FnMut(&mut T, Departed<'_>),
    ) -> bool {
        let now_ms = self.clock(now);
        let mut left = budget;
        while left > 0 {
            let Some(head) = self.wheel.due(tick(now_ms)) else { return false };
            let mut batch = ArrayVec::<u32, TOGETHER>::new();
            let mut id = head;
            while batch.len() < TOGETHER.min(left)
                && let Some(view) = self.get(FlowId(id))
            {
                prefetch(view.entry);
                batch.push(id);
                id = view.rest.links.next;
                // The list goes on there; entries lie by themselves.
                if let Some(next) = self.rests.get(id as usize) {
                    next.prefetch();
                }
            }
            let mut due = ArrayVec::<(u32, Option<[u64; 2]>), TOGETHER>::new();
            for &id in &batch {
                let view = self.view(FlowId(id));
                let hashes = (view.left_ms(now_ms) == 0).then(|| {
                    near(with, view);
                    let hashes = self.hashes(view);
                    for hash in hashes {
                        self.index.prefetch(hash);
                    }
                    hashes
                });
                due.push((id, hashes));
            }
            left -= due.len();
            for (id, hashes) in due {
                if let Some(hashes) = hashes {
                    let machine = &mut self.entries[id as usize].machine;
                    let (state, error) = (machine.flow_state(), machine.expiry_error());
                    self.take(FlowId(id), hashes);
                    gone(with, Departed { view: self.view(FlowId(id)), state, error });
                } else {
                    let deadline = now_ms + u64::from(self.view(FlowId(id)).left_ms(now_ms));
                    self.wheel.unlink(&mut self.rests, id);
                    self.wheel.link(&mut self.rests, id, deadline);
                }
            }
        }
        self.wheel.due(tick(now_ms)).is_some()
    }

    /// The hashes of both directions.
    #[inline]
    fn hashes(&self, view: View<'_>) -> [u64; 2] {
        let entry = view.entry;
        if entry.is_plain() {
            return [Direction::Original, Direction::Reply].map(|direction| {
                let (addresses, ports) = entry.comes_v4(direction);
                self.hash.of_v4(addresses, rest_v4(ports, entry.protocol()))
            });
        }
        [Direction::Original, Direction::Reply]
            .map(|direction| self.hash.of(&view.tuple(direction, &self.own)))
    }

    /// Gives the epoch `mark` to the connections with endpoints that `is` says so of, among `budget` entries from number `from` on,
    /// and their ids, as long as there is room for them. Where to go on; none at the end.
    pub fn mark<const N: usize>(
        &mut self,
        from: usize,
        budget: usize,
        mark: u32,
        is: impl Fn(EndpointId) -> bool,
        marked: &mut ArrayVec<FlowId, N>,
    ) -> Option<usize> {
        let end = from.saturating_add(budget).min(self.entries.len());
        for n in from..end {
            let id = FlowId(n as u32);
            let view = self.view(id);
            if view.entry.machine != Machine::Vacant && is(view.endpoint_id()) {
                if marked.try_push(id).is_err() {
                    return Some(n);
                }
                self.set_epoch(id, mark);
            }
        }
        (end < self.entries.len()).then_some(end)
    }

    /// Looks at entries from number `from` on, at most `budget` of them, and shows those that are `wanted`, with their state, until
    /// `see` wants no more: the one that it refused is the next to be shown. Where to go on; none at the end.
    pub fn show(
        &self,
        from: usize,
        budget: usize,
        wanted: impl Fn(&View<'_>) -> bool,
        mut see: impl FnMut(Flow, Age) -> bool,
    ) -> Option<usize> {
        let end = from.saturating_add(budget).min(self.entries.len());
        for n in from..end {
            let view = self.view(FlowId(n as u32));
            if view.entry.machine == Machine::Vacant || !wanted(&view) {
                continue;
            }
            let (packets, bytes) = view.rest.carried.total(view.entry.recent, || self.greats[n]);
            let age = Age {
                age_ms: view.rest.age_ms(self.now_ms),
                state: view.entry.machine.flow_state(),
                idle_ms: view.entry.silent_ms(self.now_ms),
                left_ms: view.left_ms(self.now_ms),
                packets,
                bytes,
            };
            if !see(view.flow(), age) {
                return Some(n);
            }
        }
        (end < self.entries.len()).then_some(end)
    }

    /// Connections in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no more fit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes the entry of a connection vacant.
    fn take(&mut self, id: FlowId, hashes: [u64; 2]) {
        for (direction, hash) in [Direction::Original, Direction::Reply].into_iter().zip(hashes) {
            self.index.remove(hash, Key::new(id, direction));
        }
        self.wheel.unlink(&mut self.rests, id.0);
        self.entries[id.0 as usize].machine = Machine::Vacant;
        self.vacant.push(&mut self.rests, id.0);
        self.len -= 1;
    }

    /// The time in milliseconds, monotonic.
    #[inline]
    fn clock(&mut self, now: Instant) -> u64 {
        let ms = now.millis();
        if ms.saturating_sub(self.now_ms) >= u64::from(PAST_ALL_TIMEOUTS_MS) {
            self.leap(ms);
        }
        self.now_ms = self.now_ms.max(ms);
        self.now_ms
    }

    /// A gap of weeks in a capture: every entry is due, and must not look young again when 32 bits of milliseconds have wrapped.
    #[cold]
    fn leap(&mut self, ms: u64) {
        for entry in &mut self.entries {
            entry.touched_ms = (ms as u32).wrapping_sub(PAST_ALL_TIMEOUTS_MS);
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;

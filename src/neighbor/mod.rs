//! Next hops: who is behind an address, and which packets wait to find out.
//!
//! Every worker keeps its own table, so that nothing is shared on the way of a packet; what one learns it tells the others
//! ([`crate::pipeline::NeighborUpdate`]). A connection keeps a [`NextHop`], never a MAC: a changed MAC takes effect at once.

mod hold;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::addr::{Addr, Mac};
use crate::ids::PortId;
use crate::pipeline::NeighborUpdate;
use crate::route::Hop;
use crate::time::Instant;

pub use hold::{Held, Hold};

/// Neighbours that a worker's table holds.
const CAPACITY: usize = 1 << 14;
/// A neighbour that has not shown itself for this long is asked again when it is next used (RFC 4861 §10, `REACHABLE_TIME`).
const REACHABLE: Duration = Duration::from_secs(30);
/// Between two solicitations (RFC 4861 §10, `RETRANS_TIMER`).
const RETRANSMIT: Duration = Duration::from_secs(1);
/// Solicitations before a neighbour counts as unreachable (RFC 4861 §10, `MAX_MULTICAST_SOLICIT`).
const MAX_SOLICITATIONS: u8 = 3;
/// Between two walks over those that are asked.
const TICK: Duration = Duration::from_millis(10);
/// Slots looked at for one to give away.
const SEARCH: usize = 64;
/// How long packets to an unreachable neighbour are dropped before it is asked again.
const BACK_OFF: Duration = Duration::from_secs(1);

/// A handle on a neighbour that notices when its slot was given to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHop {
    slot: u16,
    generation: u16,
}

impl NextHop {
    /// As a connection stores it.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        (self.generation as u32) << 16 | self.slot as u32
    }

    /// Whether both are of one neighbour, of which a packet waits: its slot is given to no other meanwhile.
    #[must_use]
    const fn waits_with(self, other: Self) -> bool {
        self.slot == other.slot
    }

    /// From what a connection stores.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self { slot: bits as u16, generation: (bits >> 16) as u16 }
    }
}

/// What is known of a next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// Send to this MAC, out of this port.
    Resolved(PortId, Mac),
    /// Being asked: wait.
    Waiting(PortId),
    /// Does not answer.
    Unreachable,
    /// The handle is out of date: look the route up again.
    Gone,
}

/// A solicitation to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Solicit {
    /// Out of this port.
    pub port: PortId,
    /// For this address.
    pub target: Addr,
    /// To this station alone (a probe of one known before), or to all.
    pub unicast: Option<Mac>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Never answered yet.
    Incomplete,
    Reachable,
    /// Known, but silent for long: in use, and asked again at its station.
    Probe,
    /// Silent at its station too: still in use, and everybody is asked who has the address.
    Search,
    Unreachable,
    /// Configured: always right.
    Static,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hop: Hop,
    mac: Mac,
    state: State,
    solicitations: u8,
    generation: u16,
    /// Of the last confirmation, solicitation or give-up, by state.
    since: Instant,
    /// Before this moment its MAC is known, and nothing has to be asked.
    until: Instant,
    used: bool,
    /// An endpoint's or gateway's: never given away, however many clients there are on the link.
    pinned: bool,
    /// Is in `asking`.
    listed: bool,
}

impl Entry {
    /// Goes over to a state. `assume`: what is reachable stays so.
    fn enter(&mut self, state: State, since: Instant, assume: bool) {
        self.state = state;
        self.since = since;
        self.until = match state {
            State::Reachable if !assume => Instant(since.0.saturating_add(REACHABLE.as_nanos() as u64)),
            State::Reachable | State::Static | State::Probe | State::Search => Instant(u64::MAX),
            State::Incomplete | State::Unreachable => Instant::ZERO,
        };
    }
}

const _: () = assert!(size_of::<Entry>() == 64);

type Index = HashMap<(PortId, Addr), u16, BuildHasherDefault<SipHasher13>>;

/// The neighbours of one worker.
#[derive(Debug)]
pub struct Neighbors {
    index: Index,
    entries: Vec<Entry>,
    /// Slots in state Incomplete, Probe or Search: those with a timer.
    asking: Vec<u16>,
    ticked: Instant,
    /// Where the search for a slot to give away goes on.
    hand: u16,
    /// Take every next hop for resolved (`replay`).
    assume: bool,
}

impl Neighbors {
    /// The static neighbours, and room for the others. With `assume`, every next hop counts as resolved: `02:00` and the
    /// last four bytes of its address.
    #[must_use]
    pub fn new(fixed: &[(PortId, Addr, Mac)], assume: bool) -> Self {
        let mut neighbors = Self {
            index: Index::with_capacity_and_hasher(CAPACITY, BuildHasherDefault::default()),
            entries: Vec::with_capacity(CAPACITY),
            asking: Vec::with_capacity(CAPACITY),
            ticked: Instant::ZERO,
            hand: 0,
            assume,
        };
        for &(port, addr, mac) in fixed {
            neighbors.add(Hop { port, addr }, mac, State::Static, Instant::ZERO);
        }
        neighbors
    }

    /// The handle of a next hop, made where there is none; `pin` where it is an endpoint or a gateway. `None` where no slot is
    /// free.
    pub fn intern(&mut self, hop: Hop, pin: bool) -> Option<NextHop> {
        if let Some(&slot) = self.index.get(&(hop.port, hop.addr)) {
            self.entries[slot as usize].pinned |= pin;
            return Some(self.handle(slot));
        }
        let (mac, state) = if self.assume {
            (assumed_mac(hop.addr), State::Reachable)
        } else {
            (Mac::default(), State::Unreachable)
        };
        // Unreachable since ever: the first use asks at once.
        let slot = self.add(hop, mac, state, Instant::ZERO)?;
        self.entries[slot as usize].pinned = pin;
        Some(self.handle(slot))
    }

    /// A neighbour that is known is configured from now on: always right.
    pub fn fix(&mut self, port: PortId, addr: Addr) {
        if let Some(&slot) = self.index.get(&(port, addr)) {
            let entry = &mut self.entries[slot as usize];
            entry.enter(State::Static, entry.since, self.assume);
        }
    }

    /// A neighbour is no longer configured: it is in use as it is, and asked when it is next used.
    pub fn release(&mut self, port: PortId, addr: Addr) {
        if let Some(&slot) = self.index.get(&(port, addr)) {
            self.entries[slot as usize].enter(State::Reachable, Instant::ZERO, self.assume);
        }
    }

    /// The MAC that a neighbour was last known by.
    #[must_use]
    pub fn mac(&self, port: PortId, addr: Addr) -> Option<Mac> {
        let entry = &self.entries[*self.index.get(&(port, addr))? as usize];
        matches!(entry.state, State::Reachable | State::Probe | State::Search).then_some(entry.mac)
    }

    /// What is known of `hop`; `ask` gets the solicitation that this use makes necessary.
    #[inline]
    pub fn lookup(&mut self, hop: NextHop, now: Instant, ask: impl FnOnce(Solicit)) -> Lookup {
        let Some(entry) = self.entries.get_mut(hop.slot as usize) else { return Lookup::Gone };
        if entry.generation != hop.generation {
            return Lookup::Gone;
        }
        entry.used = true;
        match entry.state {
            State::Static => Lookup::Resolved(entry.hop.port, entry.mac),
            State::Reachable if self.assume || now.since(entry.since) < REACHABLE => {
                Lookup::Resolved(entry.hop.port, entry.mac)
            }
            State::Probe | State::Search => Lookup::Resolved(entry.hop.port, entry.mac),
            State::Incomplete => Lookup::Waiting(entry.hop.port),
            State::Reachable => {
                let known = entry.mac;
                self.begin(hop.slot, State::Probe, now, ask);
                Lookup::Resolved(self.entries[hop.slot as usize].hop.port, known)
            }
            // A neighbour that never was asked has `since` at the start and no solicitations behind it.
            State::Unreachable if entry.solicitations > 0 && now.since(entry.since) < BACK_OFF => {
                Lookup::Unreachable
            }
            State::Unreachable => {
                self.begin(hop.slot, State::Incomplete, now, ask);
                Lookup::Waiting(self.entries[hop.slot as usize].hop.port)
            }
        }
    }

    /// Where `hop` is, if nothing has to be asked: [`lookup`](Self::lookup) would say `Resolved`, and change nothing.
    #[inline]
    pub fn ready(&mut self, hop: NextHop, now: Instant) -> Option<(PortId, &Mac)> {
        let entry = self.entries.get_mut(hop.slot as usize)?;
        if entry.generation != hop.generation || now >= entry.until {
            return None;
        }
        entry.used = true;
        Some((entry.hop.port, &entry.mac))
    }

    /// Whether the handle is not out of date.
    #[inline]
    #[must_use]
    pub fn is_current(&self, hop: NextHop) -> bool {
        self.entries.get(hop.slot as usize).is_some_and(|entry| entry.generation == hop.generation)
    }

    /// Takes in a MAC. Says whose packets may go now, if the neighbour is one of ours.
    pub fn learn(&mut self, update: &NeighborUpdate, now: Instant) -> Option<NextHop> {
        if self.assume {
            // What is assumed stays: a next hop that was heard would grow old and be asked for.
            return None;
        }
        let slot = match self.index.get(&(update.port, update.addr)) {
            Some(&slot) => slot,
            None if update.create => {
                let hop = Hop { port: update.port, addr: update.addr };
                self.add(hop, update.mac, State::Reachable, now)?
            }
            None => return None,
        };
        let entry = &mut self.entries[slot as usize];
        if entry.state != State::Static {
            entry.mac = update.mac;
            entry.enter(State::Reachable, now, self.assume);
        }
        Some(self.handle(slot))
    }

    /// Runs the timers: `ask` gets the solicitations that are due, `lost` the neighbours that are given up. Each says whether
    /// it could take it; what it could not is due again at the next call.
    pub fn tick(
        &mut self,
        now: Instant,
        mut ask: impl FnMut(Solicit) -> bool,
        mut lost: impl FnMut(NextHop) -> bool,
    ) {
        if now.since(self.ticked) < TICK {
            return;
        }
        self.ticked = now;
        let mut i = 0;
        while i < self.asking.len() {
            let slot = self.asking[i];
            let entry = &mut self.entries[slot as usize];
            if !matches!(entry.state, State::Incomplete | State::Probe | State::Search) {
                entry.listed = false;
                self.asking.swap_remove(i);
                continue;
            }
            i += 1;
            if now.since(entry.since) < RETRANSMIT {
                continue;
            }
            let (state, solicitations) = if entry.solicitations < MAX_SOLICITATIONS {
                (entry.state, entry.solicitations + 1)
            } else if entry.state == State::Probe {
                // The known station is silent: perhaps another has the address now.
                (State::Search, 1)
            } else {
                (State::Unreachable, entry.solicitations)
            };
            let mut next = Entry { solicitations, ..*entry };
            next.enter(state, now, self.assume);
            let taken = match next.state {
                State::Unreachable => lost(NextHop { slot, generation: entry.generation }),
                _ => ask(solicitation(&next)),
            };
            if taken {
                *entry = next;
            }
        }
    }

    /// Makes every handle out of date: routes have changed, and whoever holds one looks its next hop up again. What is known of
    /// neighbours stays, and so does what waits for them. A handle that was not used for 65 536 such changes would be taken
    /// for a good one, until the next.
    pub fn reroute(&mut self) {
        for entry in &mut self.entries {
            entry.generation = entry.generation.wrapping_add(1);
        }
    }

    /// Whether any timer runs.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        !self.asking.is_empty()
    }

    fn begin(&mut self, slot: u16, state: State, now: Instant, ask: impl FnOnce(Solicit)) {
        let entry = &mut self.entries[slot as usize];
        entry.enter(state, now, self.assume);
        entry.solicitations = 1;
        ask(solicitation(entry));
        // A slot that answered within this round is still on the list.
        if !std::mem::replace(&mut entry.listed, true) {
            self.asking.push(slot);
        }
    }

    fn add(&mut self, hop: Hop, mac: Mac, state: State, since: Instant) -> Option<u16> {
        let mut entry = Entry {
            hop,
            mac,
            state,
            solicitations: 0,
            generation: 0,
            since,
            until: Instant::ZERO,
            used: false,
            pinned: false,
            listed: false,
        };
        entry.enter(state, since, self.assume);
        let slot = if self.entries.len() < CAPACITY {
            self.entries.push(entry);
            u16::try_from(self.entries.len() - 1).ok()?
        } else {
            let slot = self.victim()?;
            let old = &mut self.entries[slot as usize];
            self.index.remove(&(old.hop.port, old.hop.addr));
            *old = Entry { generation: old.generation.wrapping_add(1), ..entry };
            slot
        };
        self.index.insert((hop.port, hop.addr), slot);
        Some(slot)
    }

    /// One of the next slots that is neither pinned nor waited for, best one not used since the hand came by last.
    fn victim(&mut self) -> Option<u16> {
        let mut second_best = None;
        for _ in 0..SEARCH {
            let slot = self.hand;
            self.hand = ((self.hand as usize + 1) % self.entries.len()) as u16;
            let entry = &mut self.entries[slot as usize];
            if entry.pinned || entry.listed || entry.state == State::Static {
                continue;
            }
            if !std::mem::replace(&mut entry.used, false) {
                return Some(slot);
            }
            second_best.get_or_insert(slot);
        }
        second_best
    }

    fn handle(&self, slot: u16) -> NextHop {
        NextHop { slot, generation: self.entries[slot as usize].generation }
    }
}

fn solicitation(entry: &Entry) -> Solicit {
    let unicast = (entry.state == State::Probe).then_some(entry.mac);
    Solicit { port: entry.hop.port, target: entry.hop.addr, unicast }
}

fn assumed_mac(addr: Addr) -> Mac {
    let [a, b, c, d] = addr.v4_octets();
    Mac([2, 0, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: Hop = Hop { port: PortId(1), addr: Addr::v4([10, 1, 0, 10]) };
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 10]);

    fn at(seconds: u64) -> Instant {
        Instant(1_000_000_000 * seconds)
    }

    fn asked(neighbors: &mut Neighbors, hop: NextHop, now: Instant) -> (Lookup, Option<Solicit>) {
        let mut solicit = None;
        let lookup = neighbors.lookup(hop, now, |s| solicit = Some(s));
        (lookup, solicit)
    }

    fn update(create: bool) -> NeighborUpdate {
        NeighborUpdate { port: HOP.port, addr: HOP.addr, mac: MAC, create }
    }

    #[test]
    fn an_unknown_neighbor_is_asked_once_then_waited_for_then_given_up() {
        let mut n = Neighbors::new(&[], false);
        let hop = n.intern(HOP, false).unwrap();
        let (lookup, solicit) = asked(&mut n, hop, at(0));
        assert_eq!(lookup, Lookup::Waiting(HOP.port));
        assert_eq!(solicit, Some(Solicit { port: HOP.port, target: HOP.addr, unicast: None }));
        assert_eq!(asked(&mut n, hop, at(0)), (Lookup::Waiting(HOP.port), None));
        let (mut asks, mut lost) = (0, Vec::new());
        for s in 1..=5 {
            n.tick(
                at(s),
                |_| {
                    asks += 1;
                    true
                },
                |h| {
                    lost.push(h);
                    true
                },
            );
        }
        assert_eq!((asks, lost), (2, vec![hop]));
        assert_eq!(asked(&mut n, hop, Instant(3_500_000_000)).0, Lookup::Unreachable);
        assert_eq!(asked(&mut n, hop, at(5)).0, Lookup::Waiting(HOP.port));
    }

    #[test]
    fn an_answer_resolves_and_a_silent_one_is_probed_while_still_used() {
        let mut n = Neighbors::new(&[], false);
        let hop = n.intern(HOP, false).unwrap();
        asked(&mut n, hop, at(0));
        assert_eq!(n.learn(&update(true), at(1)), Some(hop));
        assert_eq!(asked(&mut n, hop, at(30)), (Lookup::Resolved(HOP.port, MAC), None));
        let (lookup, solicit) = asked(&mut n, hop, at(40));
        assert_eq!(lookup, Lookup::Resolved(HOP.port, MAC));
        assert_eq!(solicit.unwrap().unicast, Some(MAC));
        let mut broadcast = 0;
        for s in 41..=43 {
            n.tick(
                at(s),
                |s| {
                    broadcast += u32::from(s.unicast.is_none());
                    true
                },
                |_| panic!("given up too early"),
            );
        }
        assert_eq!(broadcast, 1, "after three unicast probes everybody is asked");
    }

    #[test]
    fn overheard_neighbors_make_no_entry_and_static_ones_stay() {
        let mut n = Neighbors::new(&[(HOP.port, HOP.addr, Mac([2; 6]))], false);
        let hop = n.intern(HOP, false).unwrap();
        n.learn(&update(true), at(1));
        assert_eq!(asked(&mut n, hop, at(100)).0, Lookup::Resolved(HOP.port, Mac([2; 6])));
        let stranger = NeighborUpdate { addr: Addr::v4([10, 1, 0, 99]), ..update(false) };
        assert_eq!(n.learn(&stranger, at(1)), None);
    }

    #[test]
    fn assumed_macs_follow_the_address() {
        let mut n = Neighbors::new(&[], true);
        let hop = n.intern(HOP, false).unwrap();
        assert_eq!(asked(&mut n, hop, at(0)).0, Lookup::Resolved(HOP.port, Mac([2, 0, 10, 1, 0, 10])));
        let six =
            Hop { port: PortId(0), addr: Addr::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]) };
        let hop = n.intern(six, false).unwrap();
        assert_eq!(asked(&mut n, hop, at(0)).0, Lookup::Resolved(PortId(0), Mac([2, 0, 1, 2, 3, 4])));
    }

    #[test]
    fn what_is_assumed_neither_grows_old_nor_learns_nor_fills_the_table() {
        let mut n = Neighbors::new(&[], true);
        assert_eq!(n.learn(&update(true), at(0)), None);
        let hop = n.intern(HOP, false).unwrap();
        n.learn(&update(true), at(1));
        let assumed = Lookup::Resolved(HOP.port, Mac([2, 0, 10, 1, 0, 10]));
        assert_eq!(asked(&mut n, hop, at(10_000)), (assumed, None));
        assert!(!n.is_asking());
        for i in 0..=CAPACITY as u32 {
            let hop = Hop { port: PortId(0), addr: Addr::v4((0x0a00_0000 + i).to_be_bytes()) };
            assert!(n.intern(hop, false).is_some(), "{i}");
        }
    }

    #[test]
    fn a_silent_neighbor_serves_until_nobody_answers_for_it() {
        let mut n = Neighbors::new(&[], false);
        let hop = n.intern(HOP, false).unwrap();
        asked(&mut n, hop, at(0));
        n.learn(&update(true), at(1));
        asked(&mut n, hop, at(40));
        let mut lost = 0;
        for s in 41..=45 {
            assert_eq!(asked(&mut n, hop, at(s)).0, Lookup::Resolved(HOP.port, MAC), "{s}");
            n.tick(at(s), |_| true, |_| panic!("given up at {s}"));
        }
        n.tick(
            at(46),
            |_| true,
            |_| {
                lost += 1;
                true
            },
        );
        assert_eq!((lost, asked(&mut n, hop, at(46)).0), (1, Lookup::Unreachable));
    }

    #[test]
    fn clients_on_the_link_do_not_push_an_endpoint_out() {
        let mut n = Neighbors::new(&[], false);
        let endpoint = n.intern(HOP, true).unwrap();
        n.learn(&update(true), at(0));
        for i in 0..3 * CAPACITY as u32 {
            let client = Hop { port: PortId(0), addr: Addr::v4((0x0a00_0000 + i).to_be_bytes()) };
            if let Some(hop) = n.intern(client, false) {
                asked(&mut n, hop, at(1));
            }
        }
        assert_eq!(asked(&mut n, endpoint, at(1)).0, Lookup::Resolved(HOP.port, MAC));
    }

    #[test]
    fn other_routes_make_handles_out_of_date_and_keep_what_is_known() {
        let mut n = Neighbors::new(&[], false);
        let hop = n.intern(HOP, true).unwrap();
        n.learn(&update(true), at(0));
        n.reroute();
        assert_eq!(asked(&mut n, hop, at(1)).0, Lookup::Gone);
        let again = n.intern(HOP, false).unwrap();
        assert_eq!(asked(&mut n, again, at(1)), (Lookup::Resolved(HOP.port, MAC), None));
        assert!(again != hop && again.waits_with(hop));
    }

    #[test]
    fn a_full_table_gives_away_idle_slots_and_their_handles_notice() {
        let mut n = Neighbors::new(&[], false);
        let address = |i: u32| Addr::v4((0x0a00_0000 + i).to_be_bytes());
        let first = n.intern(Hop { port: PortId(0), addr: address(0) }, false).unwrap();
        for i in 1..=CAPACITY as u32 {
            assert!(n.intern(Hop { port: PortId(0), addr: address(i) }, false).is_some());
        }
        assert_eq!(asked(&mut n, first, at(0)).0, Lookup::Gone);
    }
}

//! The pairs that are followed: a client and an endpoint each, and all that was counted for them since, in bounded memory.
//!
//! A row is made with a pair's first traffic and lasts until its endpoint is removed from the configuration, or its place is needed by
//! another: where the table is full, a newcomer takes the place of the lightest of a few rows that have no series. What matters stays, however
//! many addresses there are: every row's amount of the tick is exact (the workers count each pair), and of those looked at the one with
//! least smoothed traffic goes. Compare Metwally et al., "Efficient computation of frequent and top-k elements in data streams" (ICDT 2005), of which
//! this is the space-bounded part without its estimates: a row that is gone takes its count with it to what is retired.

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::hash::BuildHasher;

use super::{Amount, WEIGHT};
use crate::addr::Addr;

/// No row, client or seat.
pub(super) const NONE: u32 = u32::MAX;

/// Rows looked at for one to give up.
const LOOKED_AT: usize = 8;

/// Rows passed by at most meanwhile, since they are free or have a series.
const PASSED: usize = 256;

/// A pair that is followed: there are a million of these.
#[derive(Clone, Copy, Debug)]
pub(in crate::metrics) struct Row {
    /// Of the table's clients.
    pub client: u32,
    /// Key of the endpoint's series; [`NONE`] in a free row.
    pub endpoint: u32,
    /// Its seat; [`NONE`] without.
    pub seat: u32,
    /// Snapshots taken before it was made.
    pub born: u32,
    /// Smoothed bytes per tick.
    pub score: f32,
    /// Up to the end of the last tick.
    pub settled: Amount,
    /// Since; see [`Table::tick`].
    tick: Tick,
}

const _: () = assert!(size_of::<Row>() == 44);

/// What a row's tick has brought so far, where 32 bits hold each half of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Tick {
    packets: u32,
    bytes: u32,
}

impl Tick {
    /// It has brought more than that, which is kept elsewhere.
    const MORE: Self = Self { packets: u32::MAX, bytes: u32::MAX };

    /// [`MORE`](Self::MORE) where it does not fit.
    fn of(amount: Amount) -> Self {
        let half = |n: u64| u32::try_from(n).ok().filter(|n| *n < u32::MAX);
        match (half(amount.packets), half(amount.bytes)) {
            (Some(packets), Some(bytes)) => Self { packets, bytes },
            _ => Self::MORE,
        }
    }

    fn amount(self) -> Amount {
        Amount { packets: self.packets.into(), bytes: self.bytes.into() }
    }
}

/// A client of a service: as many as there are rows at worst.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(in crate::metrics) struct Client {
    addr: [u64; 2],
    /// Packets of its rows that are gone.
    pub departed: u64,
    /// Key of the service's series.
    pub service: u32,
    /// Its rows.
    pub pairs: u32,
    /// Snapshots taken before it was made.
    pub born: u32,
}

const _: () = assert!(size_of::<Client>() == 36);

impl Client {
    pub fn addr(&self) -> Addr {
        let [high, low] = self.addr;
        Addr(u128::from(high) << 64 | u128::from(low))
    }
}

fn halves(addr: Addr) -> [u64; 2] {
    [(addr.0 >> 64) as u64, addr.0 as u64]
}

/// Whose traffic it is: key of the service's and of the endpoint's series, and the client.
#[derive(Clone, Copy, Debug)]
pub(in crate::metrics) struct Pair {
    pub service: u32,
    pub endpoint: u32,
    pub client: Addr,
}

/// A row that was taken out, and what became of its client.
pub(in crate::metrics) struct Gone {
    pub row: Row,
    pub client: Client,
    /// Whether it was the client's last one.
    pub last: bool,
}

/// All rows and their clients.
#[derive(Debug, Default)]
pub(in crate::metrics) struct Table {
    rows: Vec<Row>,
    free_rows: Vec<u32>,
    clients: Vec<Client>,
    free_clients: Vec<u32>,
    by_pair: HashTable<u32>,
    by_client: HashTable<u32>,
    /// Of rows whose tick is [`Tick::MORE`].
    more: HashMap<u32, Amount>,
    hash: DefaultHashBuilder,
    hand: usize,
}

impl Table {
    /// Rows in use.
    pub fn len(&self) -> usize {
        self.by_pair.len()
    }

    /// All rows, free ones too.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn row(&self, row: u32) -> &Row {
        &self.rows[row as usize]
    }

    pub fn row_mut(&mut self, row: u32) -> &mut Row {
        &mut self.rows[row as usize]
    }

    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    pub fn client(&self, client: u32) -> &Client {
        &self.clients[client as usize]
    }

    /// Whether this row is the pair's: a guess that is right most of the time spares the search.
    pub fn is(&self, row: u32, pair: &Pair) -> bool {
        self.rows.get(row as usize).is_some_and(|row| {
            row.endpoint == pair.endpoint && self.clients[row.client as usize].addr() == pair.client
        })
    }

    /// The row of a pair.
    pub fn find(&self, pair: &Pair) -> Option<u32> {
        self.find_row(self.find_client(pair)?, pair.endpoint)
    }

    fn find_client(&self, pair: &Pair) -> Option<u32> {
        let addr = halves(pair.client);
        let is = |&at: &u32| {
            let client = &self.clients[at as usize];
            client.service == pair.service && client.addr() == pair.client
        };
        self.by_client.find(self.hash.hash_one((pair.service, addr)), is).copied()
    }

    fn find_row(&self, client: u32, endpoint: u32) -> Option<u32> {
        let is = |&at: &u32| {
            let row = &self.rows[at as usize];
            row.client == client && row.endpoint == endpoint
        };
        self.by_pair.find(self.hash.hash_one((client, endpoint)), is).copied()
    }

    /// Makes a row for a pair that has none. `now`: snapshots taken so far.
    pub fn insert(&mut self, pair: &Pair, now: u32) -> u32 {
        let client = self.find_client(pair).unwrap_or_else(|| self.insert_client(pair, now));
        self.clients[client as usize].pairs += 1;
        let row = Row {
            client,
            endpoint: pair.endpoint,
            seat: NONE,
            born: now,
            score: 0.0,
            settled: Amount::default(),
            tick: Tick::default(),
        };
        let at = put(&mut self.rows, &mut self.free_rows, row);
        let Self { rows, by_pair, hash, .. } = self;
        let of = |row: &Row| hash.hash_one((row.client, row.endpoint));
        by_pair.insert_unique(of(&row), at, |&at| of(&rows[at as usize]));
        at
    }

    fn insert_client(&mut self, pair: &Pair, now: u32) -> u32 {
        let addr = halves(pair.client);
        let client = Client { addr, departed: 0, service: pair.service, pairs: 0, born: now };
        let at = put(&mut self.clients, &mut self.free_clients, client);
        let Self { clients, by_client, hash, .. } = self;
        let of = |client: &Client| hash.hash_one((client.service, client.addr));
        by_client.insert_unique(of(&client), at, |&at| of(&clients[at as usize]));
        at
    }

    /// Takes a row out.
    pub fn remove(&mut self, at: u32) -> Gone {
        self.take_tick(at);
        let row = self.rows[at as usize];
        if let Ok(entry) =
            self.by_pair.find_entry(self.hash.hash_one((row.client, row.endpoint)), |&other| other == at)
        {
            entry.remove();
        }
        let free = Row { endpoint: NONE, seat: NONE, score: 0.0, ..row };
        self.rows[at as usize] = free;
        self.free_rows.push(at);
        let client = &mut self.clients[row.client as usize];
        client.pairs -= 1;
        client.departed += row.settled.packets;
        let (copy, last) = (*client, client.pairs == 0);
        if last {
            let hash = self.hash.hash_one((copy.service, copy.addr));
            if let Ok(entry) = self.by_client.find_entry(hash, |&other| other == row.client) {
                entry.remove();
            }
            self.free_clients.push(row.client);
        }
        Gone { row, client: copy, last }
    }

    /// Counts for a row.
    #[inline]
    pub fn count(&mut self, at: u32, amount: Amount) {
        let mut sum = self.tick(at);
        sum.add(amount);
        let tick = Tick::of(sum);
        self.rows[at as usize].tick = tick;
        if tick == Tick::MORE {
            self.more.insert(at, sum);
        }
    }

    /// What a row's tick has brought so far.
    #[inline]
    pub fn tick(&self, at: u32) -> Amount {
        match self.rows[at as usize].tick {
            Tick::MORE => self.more.get(&at).copied().unwrap_or_default(),
            tick => tick.amount(),
        }
    }

    /// Ends a row's tick; what it brought.
    #[inline]
    pub fn take_tick(&mut self, at: u32) -> Amount {
        match std::mem::take(&mut self.rows[at as usize].tick) {
            Tick::MORE => self.more.remove(&at).unwrap_or_default(),
            tick => tick.amount(),
        }
    }

    /// The lightest of some rows without a seat.
    pub fn lightest(&mut self) -> Option<u32> {
        let mut lightest: Option<(f32, usize)> = None;
        let mut looked_at = 0;
        for _ in 0..PASSED.min(self.rows.len()) {
            self.hand = (self.hand + 1) % self.rows.len();
            let row = &self.rows[self.hand];
            if row.endpoint == NONE || row.seat != NONE {
                continue;
            }
            let weight = row.score + WEIGHT * row.tick.bytes as f32;
            if lightest.is_none_or(|(least, _)| weight < least) {
                lightest = Some((weight, self.hand));
            }
            looked_at += 1;
            if looked_at == LOOKED_AT {
                break;
            }
        }
        lightest.map(|(_, at)| at as u32)
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
            + self.clients.capacity() * size_of::<Client>()
            + self.by_pair.allocation_size()
            + self.by_client.allocation_size()
            + (self.free_rows.capacity() + self.free_clients.capacity()) * size_of::<u32>()
            + self.more.allocation_size()
    }
}

/// Puts a value into a free place, or behind all others.
fn put<T>(places: &mut Vec<T>, free: &mut Vec<u32>, value: T) -> u32 {
    if let Some(at) = free.pop() {
        places[at as usize] = value;
        return at;
    }
    places.push(value);
    (places.len() - 1) as u32
}

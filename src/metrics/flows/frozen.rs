//! All pairs as of one snapshot, and the text of those that are asked for, piece by piece.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::super::catalog::Catalog;
use super::super::encode::{header, sample};
use super::super::families::{self, Family};
use super::super::totals::Retired;
use super::lines::{Labels, Sip};
use super::table::{Client, NONE, Table};
use super::{Amount, PENDING_TICKS, Pending};
use crate::addr::Addr;

/// Bytes of a piece, more or less.
const PIECE: usize = 64 << 10;

/// What a pair shows: 32 bytes.
#[derive(Clone, Copy, Debug)]
struct Shown {
    client: u32,
    endpoint: u32,
    settled: Amount,
    score: f32,
    new: bool,
}

/// The pairs, in the order of their clients once they are [prepared](Frozen::prepare); none are left where the copy was cut.
#[derive(Debug)]
struct Copy {
    pairs: Vec<Shown>,
    clients: Vec<Client>,
    ordered: bool,
    cut: bool,
}

/// Traffic that belongs to no pair: by endpoint, and by service.
#[derive(Debug)]
struct Strays {
    pairs: Vec<(usize, Amount)>,
    clients: Vec<(usize, u64)>,
}

/// All pairs as of one snapshot.
#[derive(Debug)]
pub struct Frozen {
    copy: RwLock<Copy>,
    labels: Labels,
    strays: Strays,
    retired: Pending,
    pending: Pending,
    snapshots: u32,
}

/// Which pairs are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of the service with this label.
    pub service: Option<String>,
    /// Of this client.
    pub client: Option<Addr>,
    /// To the endpoints with this address.
    pub endpoint: Option<Addr>,
    /// So many, those with most traffic.
    pub top: Option<usize>,
}

/// What is asked for and not configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No series has this `service`.
    #[error("there is no service {0:?}; the label service of total_requests_per_service has all there are")]
    Service(String),
    /// No series has this `dip`.
    #[error("there is no endpoint {0}; the label dip of endpoint_traffic_bytes has all there are")]
    Endpoint(Addr),
}

/// A newer copy has taken this one's place before it was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read too slowly: the snapshot has been given up for newer ones")]
pub struct Cut;

impl Frozen {
    pub(super) fn new(table: &Table, snapshots: u32, catalog: &Catalog, retired: &Retired) -> Self {
        let is_new = |born: u32| snapshots.wrapping_sub(born) <= PENDING_TICKS;
        let clients = table.clients().to_vec();
        let mut pairs = Vec::with_capacity(table.len());
        let mut pending = Pending::default();
        for row in table.rows().iter().filter(|row| row.endpoint != NONE) {
            let new = is_new(row.born);
            let client = &clients[row.client as usize];
            if new {
                pending.pair_bytes += row.settled.bytes;
                pending.pair_packets += row.settled.packets;
            }
            if is_new(client.born) {
                pending.client_packets += row.settled.packets;
            }
            let (client, endpoint, settled, score) = (row.client, row.endpoint, row.settled, row.score);
            pairs.push(Shown { client, endpoint, settled, score, new });
        }
        let new_clients = clients.iter().filter(|client| client.pairs > 0 && is_new(client.born));
        pending.client_packets += new_clients.map(|client| client.departed).sum::<u64>();
        let strays = Strays {
            pairs: catalog
                .endpoints
                .iter()
                .map(|(key, series)| {
                    let (packets, bytes) = (series.stray.packets.settled, series.stray.bytes.settled);
                    (key, Amount { packets, bytes })
                })
                .collect(),
            clients: catalog
                .services
                .iter()
                .map(|(key, series)| (key, series.stray_packets.settled))
                .collect(),
        };
        let retired = Pending {
            pair_bytes: retired.followed.pair_bytes.settled,
            pair_packets: retired.followed.pair_packets.settled,
            client_packets: retired.followed.client_packets.settled,
        };
        Self {
            copy: RwLock::new(Copy { pairs, clients, ordered: false, cut: false }),
            labels: Labels::new(catalog),
            strays,
            retired,
            pending,
            snapshots,
        }
    }

    /// Gives its memory back. Whoever reads it gets [`Cut`].
    pub(super) fn cut(&self) {
        let mut copy = self.copy.write().unwrap_or_else(PoisonError::into_inner);
        *copy = Copy { pairs: Vec::new(), clients: Vec::new(), ordered: true, cut: true };
    }

    /// Brings each client's pairs together. Takes a while with a million of them: not for a thread that others wait for.
    fn prepare(&self) {
        let mut copy = self.copy.write().unwrap_or_else(PoisonError::into_inner);
        if !copy.ordered {
            copy.pairs.sort_unstable_by_key(|pair| (pair.client, pair.endpoint));
            copy.ordered = true;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Copy> {
        self.copy.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text of the pairs that `selection` takes. Puts them in order first, which takes a while: not for a thread that others wait for.
    ///
    /// # Errors
    /// [`Unknown`], where nothing that is configured can be meant.
    pub fn text(self: &Arc<Self>, selection: &Selection) -> Result<Text, Unknown> {
        let service = match &selection.service {
            None => None,
            Some(label) => {
                let found = self.labels.services().find(|(_, known)| known == label);
                Some(found.ok_or_else(|| Unknown::Service(label.clone()))?.0)
            }
        };
        if let Some(endpoint) = selection.endpoint
            && !self.labels.endpoints().any(|(_, dip)| dip.addr == endpoint)
        {
            return Err(Unknown::Endpoint(endpoint));
        }
        self.prepare();
        let mut text = Text {
            frozen: Arc::clone(self),
            service,
            client: selection.client,
            endpoint: selection.endpoint,
            others: selection.client.is_none() && selection.top.is_none(),
            places: None,
            stage: Stage::Clients,
            at: 0,
        };
        if *selection != Selection::default() {
            text.places = Some(text.choose(selection.top));
        }
        Ok(text)
    }
}

/// Which family is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Clients,
    Bytes,
    Packets,
    Sums,
    End,
}

/// A page of pairs, as far as it is written.
#[derive(Debug)]
pub struct Text {
    frozen: Arc<Frozen>,
    service: Option<usize>,
    client: Option<Addr>,
    endpoint: Option<Addr>,
    /// Whether traffic of no pair belongs to it: with a client or a number given it does not.
    others: bool,
    /// The places of those that are taken, where not all are.
    places: Option<Vec<u32>>,
    stage: Stage,
    /// How many of the stage are written; at 0 its header is to come.
    at: usize,
}

impl Text {
    /// Appends a piece. Whether more are to come.
    ///
    /// # Errors
    /// [`Cut`]: what was written so far is not the whole.
    pub fn write(&mut self, out: &mut String) -> Result<bool, Cut> {
        let frozen = Arc::clone(&self.frozen);
        let copy = frozen.read();
        if copy.cut {
            return Err(Cut);
        }
        let full = out.len() + PIECE;
        while out.len() < full && self.stage != Stage::End {
            if self.at == 0 {
                self.begin(&frozen, out);
            }
            let done = match self.stage {
                Stage::Clients => self.clients(&frozen, &copy, out, full),
                Stage::Bytes => {
                    self.pairs(&frozen, &copy, out, full, &families::LB_RULE_INTERACTION_BYTES, |a| a.bytes)
                }
                Stage::Packets => {
                    let family = &families::LB_RULE_INTERACTION_PACKETS;
                    self.pairs(&frozen, &copy, out, full, family, |amount| amount.packets)
                }
                Stage::Sums | Stage::End => true,
            };
            if done {
                self.at = 0;
                self.stage = match self.stage {
                    Stage::Clients => Stage::Bytes,
                    Stage::Bytes => Stage::Packets,
                    Stage::Packets if self.places.is_none() => Stage::Sums,
                    Stage::Packets | Stage::Sums | Stage::End => Stage::End,
                };
            }
        }
        Ok(self.stage != Stage::End)
    }

    /// Headers, and what belongs to no pair.
    fn begin(&self, frozen: &Frozen, out: &mut String) {
        let (labels, strays) = (&frozen.labels, &frozen.strays);
        let family = match self.stage {
            Stage::Clients => &families::CLIENT_TRAFFIC_PACKETS,
            Stage::Bytes => &families::LB_RULE_INTERACTION_BYTES,
            Stage::Packets => &families::LB_RULE_INTERACTION_PACKETS,
            Stage::Sums => return self.sums(frozen, out),
            Stage::End => return,
        };
        header(out, family);
        if !self.others {
            return;
        }
        if self.stage == Stage::Clients {
            let wanted = |key: usize| self.endpoint.is_none() && self.service.is_none_or(|only| only == key);
            for &(service, packets) in strays.clients.iter().filter(|(key, _)| wanted(*key)) {
                labels.client(out, service, Sip::Other, packets);
            }
            return;
        }
        for &(endpoint, amount) in strays.pairs.iter().filter(|(key, _)| self.takes_endpoint(frozen, *key)) {
            let value = if self.stage == Stage::Bytes { amount.bytes } else { amount.packets };
            labels.pair(out, family, endpoint, Sip::Other, value);
        }
    }

    /// What makes the page's sums come out, where all is on it.
    fn sums(&self, frozen: &Frozen, out: &mut String) {
        for (family, sums) in
            [(&families::FLOWS_RETIRED, &frozen.retired), (&families::FLOWS_PENDING, &frozen.pending)]
        {
            header(out, family);
            for (of, value) in [
                (&families::CLIENT_TRAFFIC_PACKETS, sums.client_packets),
                (&families::LB_RULE_INTERACTION_BYTES, sums.pair_bytes),
                (&families::LB_RULE_INTERACTION_PACKETS, sums.pair_packets),
            ] {
                sample(out, family, &[&of.name], value);
            }
        }
    }

    fn takes_endpoint(&self, frozen: &Frozen, key: usize) -> bool {
        frozen.labels.endpoint(key).is_some_and(|dip| {
            self.service.is_none_or(|service| dip.service == service)
                && self.endpoint.is_none_or(|addr| dip.addr == addr)
        })
    }

    /// The places of the pairs that are taken; of the heaviest where there are more than `top`.
    fn choose(&self, top: Option<usize>) -> Vec<u32> {
        let copy = self.frozen.read();
        let takes = |pair: &Shown| {
            self.client.is_none_or(|addr| copy.clients[pair.client as usize].addr() == addr)
                && self.takes_endpoint(&self.frozen, pair.endpoint as usize)
        };
        let taken = (0_u32..).zip(&copy.pairs).filter(|(_, pair)| takes(pair));
        let mut places: Vec<u32> = taken.map(|(at, _)| at).collect();
        if let Some(top) = top.filter(|top| *top < places.len()) {
            let score = |at: &u32| copy.pairs[*at as usize].score;
            places.select_nth_unstable_by(top, |a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
            places.truncate(top);
            places.sort_unstable();
        }
        places
    }

    /// The place of the next pair that is taken.
    fn next(&self, copy: &Copy) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(self.at).map(|at| *at as usize),
            None => (self.at < copy.pairs.len()).then_some(self.at),
        }
    }

    /// A client is shown, with all of its packets, if one of its pairs is.
    fn clients(&mut self, frozen: &Frozen, copy: &Copy, out: &mut String, full: usize) -> bool {
        while let Some(at) = self.next(copy) {
            let number = copy.pairs[at].client;
            while self.next(copy).is_some_and(|at| copy.pairs[at].client == number) {
                self.at += 1;
            }
            let client = &copy.clients[number as usize];
            let is_new = frozen.snapshots.wrapping_sub(client.born) <= PENDING_TICKS;
            let before = copy.pairs[..at].iter().rev().take_while(|pair| pair.client == number);
            let after = copy.pairs[at..].iter().take_while(|pair| pair.client == number);
            let packets: u64 = before.chain(after).map(|pair| pair.settled.packets).sum();
            let shown = if is_new { 0 } else { packets + client.departed };
            frozen.labels.client(out, client.service as usize, Sip::Client(client.addr()), shown);
            if out.len() >= full {
                return false;
            }
        }
        true
    }

    fn pairs(
        &mut self,
        frozen: &Frozen,
        copy: &Copy,
        out: &mut String,
        full: usize,
        family: &Family,
        value: impl Fn(&Amount) -> u64,
    ) -> bool {
        while let Some(at) = self.next(copy) {
            self.at += 1;
            let pair = &copy.pairs[at];
            let shown = if pair.new { 0 } else { value(&pair.settled) };
            let sip = Sip::Client(copy.clients[pair.client as usize].addr());
            frozen.labels.pair(out, family, pair.endpoint as usize, sip, shown);
            if out.len() >= full {
                return false;
            }
        }
        true
    }
}

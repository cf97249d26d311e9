//! The further paths of multi-homed SCTP associations (RFC 9260 §6.4): pairs of a client's address and a VIP other than the
//! pair by which the association was begun. The association itself, its state and its timer, is one entry of
//! [`Conntrack`](super::Conntrack); a path says which, and how its packets are translated.
//!
//! Memory is taken in [`Paths::new`] and never grows. A table that is full takes no more paths: an association that finds no room
//! has those that fit.

use super::hash::TupleHash;
use super::key::Key;
use super::{Direction, Flow, FlowId, Tuple};
use crate::addr::Addr;
use crate::config::Protocol;
use crate::index::{Index, Search};

const NIL: u32 = u32::MAX;

/// Index of a path; good until its association is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathId(u32);

/// One path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// Its association.
    pub flow: FlowId,
    /// The client's address.
    pub client: Addr,
    /// The address that the client talks to.
    pub vip: Addr,
    /// The endpoint's address.
    pub endpoint: Addr,
    /// Next hop, by [`Direction`]: opaque to the table.
    pub next_hop: [u32; 2],
    /// A packet of the client with the right tag has come by it.
    pub confirmed: bool,
    client_port: u16,
    vip_port: u16,
    endpoint_port: u16,
    /// The next one of the same association, or of the vacant ones.
    next: u32,
}

impl Path {
    const fn tuple(&self, direction: Direction) -> Tuple {
        let (src, sport, dst, dport) = match direction {
            Direction::Original => (self.client, self.client_port, self.vip, self.vip_port),
            Direction::Reply => (self.endpoint, self.endpoint_port, self.client, self.client_port),
        };
        Tuple { src, dst, sport, dport, protocol: Protocol::Sctp }
    }

    /// Its association's entry as it is for packets that take this path; `delta` is the caller's to set.
    #[must_use]
    pub const fn of(&self, flow: &Flow) -> Flow {
        let Self { client, vip, endpoint, next_hop, .. } = *self;
        Flow { client, vip, endpoint, next_hop, ..*flow }
    }
}

/// The paths of one worker's associations. Each association that has any has its first one here, too, as the head of a list.
pub struct Paths {
    hash: TupleHash,
    index: Index<Key>,
    paths: Vec<Path>,
    vacant: u32,
    len: usize,
    capacity: usize,
}

impl Paths {
    /// Room for `capacity` paths. `hash_key` is secret, against hash flooding.
    #[must_use]
    pub fn new(capacity: usize, hash_key: (u64, u64)) -> Self {
        Self {
            hash: TupleHash::new(hash_key),
            index: Index::new(2 * capacity),
            paths: Vec::with_capacity(capacity),
            vacant: NIL,
            len: 0,
            capacity,
        }
    }

    /// Paths in the table.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none: then there is nothing to look up.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The path of packets with this tuple.
    #[must_use]
    pub fn find(&self, tuple: &Tuple) -> Option<(PathId, Direction)> {
        let key = self.index.find(self.hash.of(tuple), |key| self.has_tuple(key, tuple))?;
        Some((PathId(key.id().0), key.direction()))
    }

    fn has_tuple(&self, key: Key, tuple: &Tuple) -> bool {
        self.paths.get(key.id().0 as usize).is_some_and(|path| path.tuple(key.direction()) == *tuple)
    }

    /// A path.
    #[must_use]
    pub fn get(&self, id: PathId) -> &Path {
        &self.paths[id.0 as usize]
    }

    /// A path, writable: for the next hop, and that it is confirmed.
    #[must_use]
    pub fn get_mut(&mut self, id: PathId) -> &mut Path {
        &mut self.paths[id.0 as usize]
    }

    /// Enters a path of an association. `false`, and no change, where there is no room or it is another association's.
    pub fn add(&mut self, id: FlowId, flow: &Flow, client: Addr, vip: Addr, endpoint: Addr) -> bool {
        let (head, _) = match self.find(&flow.tuple(Direction::Original)) {
            Some(head) => head,
            None => match self.enter(id, flow, flow.client, flow.vip, flow.endpoint, NIL) {
                Some(head) => {
                    self.get_mut(head).confirmed = true;
                    (head, Direction::Original)
                }
                None => return false,
            },
        };
        let next = self.get(head).next;
        let Some(new) = self.enter(id, flow, client, vip, endpoint, next) else {
            if next == NIL {
                self.vacate(head);
            }
            return false;
        };
        self.get_mut(head).next = new.0;
        true
    }

    /// Removes a path of an association, which is not its first.
    pub fn remove(&mut self, flow: &Flow, id: PathId) {
        let Some((mut before, _)) = self.find(&flow.tuple(Direction::Original)) else { return };
        while self.get(before).next != id.0 {
            match self.get(before).next {
                NIL => return,
                next => before = PathId(next),
            }
        }
        self.get_mut(before).next = self.get(id).next;
        self.vacate(id);
    }

    /// Removes all paths of an association.
    pub fn remove_all(&mut self, flow: &Flow) {
        if self.is_empty() || flow.protocol != Protocol::Sctp {
            return;
        }
        let Some((head, Direction::Original)) = self.find(&flow.tuple(Direction::Original)) else { return };
        // One that is another association's further path has another flow's number, but no entry of its own in the list.
        let path = self.get(head);
        if (path.client, path.vip, path.endpoint) != (flow.client, flow.vip, flow.endpoint) {
            return;
        }
        let mut at = head.0;
        while at != NIL {
            let next = self.get(PathId(at)).next;
            self.vacate(PathId(at));
            at = next;
        }
    }

    fn enter(
        &mut self,
        id: FlowId,
        flow: &Flow,
        client: Addr,
        vip: Addr,
        endpoint: Addr,
        next: u32,
    ) -> Option<PathId> {
        let path = Path {
            flow: id,
            client,
            vip,
            endpoint,
            next_hop: [NIL; 2],
            confirmed: false,
            client_port: flow.client_port,
            vip_port: flow.vip_port,
            endpoint_port: flow.endpoint_port,
            next,
        };
        let search = |direction| {
            let tuple = path.tuple(direction);
            self.index.search(self.hash.of(&tuple), |key| self.has_tuple(key, &tuple))
        };
        let (Search::Room(original), Search::Room(reply)) =
            (search(Direction::Original), search(Direction::Reply))
        else {
            return None;
        };
        let place = match self.vacant {
            NIL if self.paths.len() < self.capacity => self.paths.len() as u32,
            NIL => return None,
            vacant => vacant,
        };
        let [there, back] = [Direction::Original, Direction::Reply].map(|d| Key::new(FlowId(place), d));
        if !self.index.put_both(original, there, reply, back) {
            return None;
        }
        match self.paths.get_mut(place as usize) {
            Some(vacant) => {
                self.vacant = vacant.next;
                *vacant = path;
            }
            // Within the capacity taken at the start: does not allocate.
            None => self.paths.push(path),
        }
        self.len += 1;
        Some(PathId(place))
    }

    fn vacate(&mut self, id: PathId) {
        for direction in [Direction::Original, Direction::Reply] {
            let hash = self.hash.of(&self.get(id).tuple(direction));
            self.index.remove(hash, Key::new(FlowId(id.0), direction));
        }
        self.get_mut(id).next = self.vacant;
        self.vacant = id.0;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::Form;
    use crate::ids::{EndpointId, PairSlot, PortId, ServiceId, SourceId};

    fn addr(n: u8) -> Addr {
        Addr::v4([10, 0, 0, n])
    }

    fn flow(client: u8, port: u16) -> Flow {
        Flow {
            client: addr(client),
            vip: addr(101),
            endpoint: addr(201),
            client_port: port,
            vip_port: 5000,
            endpoint_port: 6000,
            protocol: Protocol::Sctp,
            ingress: PortId(0),
            service: ServiceId(0),
            endpoint_id: EndpointId(0),
            pair: PairSlot(0),
            delta: [0; 2],
            next_hop: [0; 2],
            epoch: 0,
            idle_timeout_ms: 1000,
            form: Form::Dnat,
            source: SourceId(0),
            source_port: 0,
        }
    }

    fn tuple(src: u8, sport: u16, dst: u8, dport: u16) -> Tuple {
        Tuple { src: addr(src), dst: addr(dst), sport, dport, protocol: Protocol::Sctp }
    }

    #[test]
    fn paths_are_found_both_ways_until_their_association_goes() {
        let mut paths = Paths::new(16, (1, 2));
        let (a, b) = (flow(1, 4000), flow(3, 4000));
        assert!(paths.add(FlowId(7), &a, addr(2), addr(102), addr(202)));
        assert!(paths.add(FlowId(7), &a, addr(2), addr(101), addr(201)));
        assert!(paths.add(FlowId(8), &b, addr(4), addr(102), addr(202)));
        assert_eq!(paths.len(), 5, "two and three, each with its first");
        let there = paths.find(&tuple(2, 4000, 102, 5000)).unwrap();
        let back = paths.find(&tuple(202, 6000, 2, 4000)).unwrap();
        assert_eq!((there.0, there.1, back.1), (back.0, Direction::Original, Direction::Reply));
        let path = *paths.get(there.0);
        assert_eq!((path.flow, path.confirmed), (FlowId(7), false));
        let on = path.of(&a);
        assert_eq!((on.client, on.vip, on.endpoint, on.vip_port), (addr(2), addr(102), addr(202), 5000));
        assert_eq!(paths.find(&tuple(2, 4001, 102, 5000)), None);

        paths.remove(&a, there.0);
        assert_eq!((paths.find(&tuple(2, 4000, 102, 5000)), paths.len()), (None, 4));
        assert!(paths.find(&tuple(2, 4000, 101, 5000)).is_some());
        paths.remove_all(&a);
        assert_eq!((paths.find(&tuple(2, 4000, 101, 5000)), paths.len()), (None, 2));
        assert_eq!(paths.get(paths.find(&tuple(4, 4000, 102, 5000)).unwrap().0).flow, FlowId(8));
        paths.remove_all(&b);
        assert!(paths.is_empty());
        paths.remove_all(&b);
    }

    #[test]
    fn a_path_has_one_association() {
        let mut paths = Paths::new(16, (1, 2));
        let (a, b) = (flow(1, 4000), flow(3, 4000));
        assert!(paths.add(FlowId(7), &a, addr(2), addr(102), addr(202)));
        assert!(!paths.add(FlowId(8), &b, addr(2), addr(102), addr(202)), "another's");
        assert!(!paths.add(FlowId(7), &a, addr(2), addr(102), addr(202)), "there already");
        assert!(!paths.add(FlowId(7), &a, addr(1), addr(101), addr(201)), "its first");
        assert_eq!(paths.len(), 2);
        // Of an association whose own tuple is another's path nothing is taken away.
        paths.remove_all(&Flow { endpoint: addr(203), ..flow(2, 4000) });
        assert_eq!(paths.len(), 2);
    }

    #[test]
    fn a_full_table_takes_no_more_and_leaves_nothing_half_done() {
        let mut paths = Paths::new(3, (1, 2));
        let (a, b) = (flow(1, 4000), flow(3, 4000));
        assert!(paths.add(FlowId(7), &a, addr(2), addr(102), addr(202)));
        assert!(!paths.add(FlowId(8), &b, addr(4), addr(102), addr(202)), "room for its first alone");
        assert_eq!((paths.len(), paths.find(&tuple(3, 4000, 101, 5000))), (2, None));
        assert!(paths.add(FlowId(7), &a, addr(2), addr(101), addr(201)));
        assert!(!paths.add(FlowId(7), &a, addr(5), addr(101), addr(201)));
        paths.remove_all(&a);
        assert!(paths.is_empty());
        assert!(paths.add(FlowId(8), &b, addr(4), addr(102), addr(202)), "room again");
    }
}

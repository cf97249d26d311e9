//! What is measured: the cases of the contract, and the standard list of them.

use crate::config::Protocol;

/// What a case does with its connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
    /// Packets of established connections, in a few buffers that stay in the L1 cache.
    EstablishedHot,
    /// Packets of established connections out of memory, the connections in random order.
    EstablishedCold,
    /// Every packet opens a connection; a client opens its eight soon after each other.
    NewConnections,
    /// Every packet opens a connection, and as many expire.
    NewAndExpire,
    /// Every packet opens a connection of a client that was never seen.
    NewClients,
    /// Every packet comes in at a worker that has to hand it to another.
    Handoff,
}

impl Case {
    /// All: the contract's, in the order in which they are shown, and those that are only run when they are asked for.
    pub const ALL: [Self; 6] = [
        Self::EstablishedHot,
        Self::EstablishedCold,
        Self::NewConnections,
        Self::NewAndExpire,
        Self::Handoff,
        Self::NewClients,
    ];

    /// Whether it is one of the contract's.
    #[must_use]
    pub const fn is_usual(self) -> bool {
        !matches!(self, Self::NewClients)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EstablishedHot => "established-hot",
            Self::EstablishedCold => "established-cold",
            Self::NewConnections => "new-connections",
            Self::NewAndExpire => "new-and-expire",
            Self::NewClients => "new-clients",
            Self::Handoff => "handoff",
        }
    }

    /// Whether the packets are of connections that are there already.
    #[must_use]
    pub const fn is_established(self) -> bool {
        matches!(self, Self::EstablishedHot | Self::EstablishedCold | Self::Handoff)
    }
}

/// A way of forwarding, as the service under test is configured.
#[derive(PartialEq, Eq, Debug)]
pub struct Mode {
    /// Its name in the contract, the value of `service.mode`.
    pub name: &'static str,
    /// Further lines of the configuration's `[[service]]`.
    pub service: &'static str,
    /// Whether it takes SNAT addresses.
    pub snat: bool,
    /// Whether the endpoints' answers come back through the engine.
    pub replies: bool,
}

/// The modes there are.
pub static MODES: &[Mode] = &[
    Mode { name: "dnat", service: "", snat: false, replies: true },
    Mode { name: "full-nat", service: "", snat: true, replies: true },
    Mode { name: "dsr-l2", service: "", snat: false, replies: false },
    Mode { name: "dsr-ipip", service: "", snat: false, replies: false },
    Mode { name: "dsr-gue", service: "", snat: false, replies: false },
];

/// One line of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spec {
    /// What is done.
    pub case: Case,
    /// How packets are forwarded.
    pub mode: &'static Mode,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// IPv4, else IPv6.
    pub ipv4: bool,
    /// Connections in the table; at most so many where they come and go.
    pub connections: usize,
    /// Workers.
    pub workers: usize,
    /// Whether client–endpoint pairs have counters of their own; without, a packet counts for its endpoint alone.
    pub accounting: bool,
}

impl Spec {
    const fn new(case: Case, connections: usize) -> Self {
        Self {
            case,
            mode: &MODES[0],
            protocol: Protocol::Tcp,
            ipv4: true,
            connections,
            workers: if matches!(case, Case::Handoff) { 2 } else { 1 },
            accounting: true,
        }
    }

    const fn two(mut self) -> Self {
        self.workers = 2;
        self
    }

    const fn udp(mut self) -> Self {
        self.protocol = Protocol::Udp;
        self
    }

    const fn ipv6(mut self) -> Self {
        self.ipv4 = false;
        self
    }

    const fn uncounted(mut self) -> Self {
        self.accounting = false;
        self
    }

    /// `ipv4` or `ipv6`.
    #[must_use]
    pub const fn family(&self) -> &'static str {
        if self.ipv4 { "ipv4" } else { "ipv6" }
    }
}

/// What is run where nothing else is asked for, the contract's cases: `most` connections at most.
#[must_use]
pub fn standard(most: usize) -> Vec<Spec> {
    use Case::{EstablishedCold as Cold, EstablishedHot as Hot, NewAndExpire, NewConnections};
    let mut specs = vec![
        Spec::new(Hot, 1),
        Spec::new(Hot, 1).uncounted(),
        Spec::new(Hot, 1).udp(),
        Spec::new(Hot, 1).ipv6(),
        Spec::new(Hot, 100_000),
        Spec::new(Cold, 1),
        Spec::new(Cold, 10_000),
        Spec::new(Cold, 100_000),
        Spec::new(Cold, 100_000).uncounted(),
        Spec::new(Cold, 100_000).udp(),
        Spec::new(Cold, 100_000).ipv6(),
        Spec::new(Cold, 1_000_000),
        Spec::new(Cold, 1_000_000).uncounted(),
        Spec::new(Cold, 1_000_000).ipv6(),
        Spec::new(Cold, 10_000_000),
        Spec::new(NewConnections, 1_000_000),
        Spec::new(NewConnections, 1_000_000).ipv6(),
        Spec::new(NewAndExpire, 1_000_000),
        Spec::new(Cold, 100_000).two(),
        Spec::new(Case::Handoff, 100_000),
    ];
    for mode in &MODES[1..] {
        specs.push(Spec { mode, ..Spec::new(Hot, 1) });
        specs.push(Spec { mode, ..Spec::new(Cold, 100_000) });
    }
    specs.retain(|spec| spec.connections <= most);
    specs
}

/// One case with so many connections.
#[must_use]
pub fn single(case: Case, connections: usize) -> Vec<Spec> {
    MODES.iter().map(|mode| Spec { mode, ..Spec::new(case, connections) }).collect()
}

/// With how many connections a tick is measured: none where another case alone is asked for.
#[must_use]
pub fn ticking(case: Option<Case>, connections: Option<usize>) -> Option<Spec> {
    case.is_none().then(|| Spec::new(Case::EstablishedCold, connections.unwrap_or(1_000_000)))
}

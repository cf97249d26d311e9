//! Newtypes for the indices that the stages pass to each other.
//!
//! Services, endpoints and firewall rules have *stable* ids: the number of a slot that outlives a reload, so that a
//! counter is never reset or mixed with another's by a change of the configuration.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $repr);

        impl $name {
            /// The id as an index into a slice.
            #[inline]
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A configured port, in file order.
    PortId(u8)
);
id!(
    /// A worker, in the order of `engine.workers`.
    WorkerId(u8)
);
id!(
    /// The stable slot of a service.
    ServiceId(u32)
);
id!(
    /// The stable slot of an endpoint of one service: the same address in two services has two.
    EndpointId(u32)
);
id!(
    /// The stable slot of an address that the engine sends from in its own name: SNAT's, a tunnel's. 0: none of them.
    SourceId(u8)
);
id!(
    /// The stable slot of a firewall rule.
    RuleId(u32)
);
id!(
    /// The slot of a client–endpoint pair in one worker's counters; or of all clients of an endpoint that have none.
    PairSlot(u32)
);

impl PairSlot {
    /// Set in the slots of endpoints.
    const OTHER: u32 = 1 << 31;

    /// The slot of an endpoint's clients that have none of their own.
    #[must_use]
    pub const fn other(endpoint: EndpointId) -> Self {
        Self(Self::OTHER | endpoint.0)
    }

    /// Whose slot it is, where it is an endpoint's.
    #[inline]
    #[must_use]
    pub const fn endpoint(self) -> Option<EndpointId> {
        if self.0 & Self::OTHER == 0 { None } else { Some(EndpointId(self.0 & !Self::OTHER)) }
    }
}

impl PortId {
    /// The id of the port at this position of the file. Configurations have at most 256 ports; the last id stands for all
    /// beyond.
    #[must_use]
    pub fn at(index: usize) -> Self {
        Self(u8::try_from(index).unwrap_or(u8::MAX))
    }
}

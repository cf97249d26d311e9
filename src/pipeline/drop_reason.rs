//! Every way a packet can die, one variant each.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $label:literal,)+) => {
        /// Why a received packet was dropped. The label is the value of `reason` in `pollux_dropped_packets_total` and in
        /// the ledger of `pollux replay`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// All of them, in the order of their index.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name that metrics, ledgers and captures show.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+)),+ }
            }

            /// Position in [`DropReason::ALL`].
            #[inline]
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

drop_reasons! {
    // --- Ethernet
    /// Shorter than an Ethernet header, or cut off within a VLAN tag.
    FrameTooShort = "frame_too_short",
    /// Addressed to another station's MAC.
    NotOurMac = "not_our_mac",
    /// 802.1Q tag missing, unexpected, or of another VLAN than the port's.
    VlanMismatch = "vlan_mismatch",
    /// An EtherType that is neither IPv4, IPv6 nor ARP.
    UnknownEthertype = "unknown_ethertype",
    /// ARP that is truncated or not for IPv4 over Ethernet (RFC 826).
    ArpMalformed = "arp_malformed",
    /// The mbuf had several segments and could not be made one.
    Segmented = "segmented",

    // --- IP
    /// IPv4 header with a wrong version, header length or total length (RFC 791 §3.1).
    Ipv4Header = "ipv4_header",
    /// IPv4 total length beyond the end of the frame.
    Ipv4Truncated = "ipv4_truncated",
    /// IPv4 header checksum wrong.
    Ipv4Checksum = "ipv4_checksum",
    /// Malformed IPv4 options, or source routing (RFC 7126 §4.3, §4.4).
    Ipv4Options = "ipv4_options",
    /// IPv6 fixed header truncated or of another version (RFC 8200 §3).
    Ipv6Header = "ipv6_header",
    /// IPv6 payload length beyond the end of the frame.
    Ipv6Truncated = "ipv6_truncated",
    /// IPv6 extension header chain malformed, too long, or with a routing header of type 0 (RFC 5095) or with segments
    /// left.
    Ipv6Extension = "ipv6_extension",
    /// A fragment of what has no ports: ICMP, or a protocol that the engine does not balance.
    Fragment = "fragment",
    /// A fragment that is empty, reaches beyond 65 535 bytes, or is not the last one and no multiple of eight bytes long
    /// (RFC 791 §3.2, RFC 8200 §4.5).
    FragmentMalformed = "fragment_malformed",
    /// A first fragment without a whole L4 header, or a later one that would write over it (RFC 1858, RFC 3128, RFC 7112).
    FragmentTiny = "fragment_tiny",
    /// A fragment with bytes that an earlier one of its datagram had, and all that come after it (RFC 5722).
    FragmentOverlap = "fragment_overlap",
    /// A fragment whose datagram's first one did not come in time.
    FragmentTimeout = "fragment_timeout",
    /// More fragments wait for their datagram's first one than are kept, or its pieces leave too many gaps.
    FragmentFull = "fragment_full",
    /// A later fragment of a datagram that is of no connection: the first one was dropped.
    FragmentOrphan = "fragment_orphan",
    /// A fragment of an SCTP packet whose port has to be changed: its CRC32c covers all fragments together.
    FragmentSctp = "fragment_sctp",
    /// A source address that no host may have: multicast, broadcast, loopback, unspecified, IPv4-mapped (RFC 6890).
    MartianSource = "martian_source",
    /// A destination that is never forwarded: loopback, unspecified, IPv4-mapped (RFC 6890).
    MartianDestination = "martian_destination",
    /// Multicast or broadcast that the engine does not speak.
    Multicast = "multicast",

    // --- L4
    /// TCP header truncated or with a wrong data offset (RFC 9293 §3.1).
    TcpHeader = "tcp_header",
    /// A combination of TCP flags that no stack sends: none, SYN with FIN, SYN with RST, FIN without ACK.
    TcpFlags = "tcp_flags",
    /// UDP header truncated or with a wrong length (RFC 768).
    UdpHeader = "udp_header",
    /// SCTP common header or first chunk truncated (RFC 9260 §3).
    SctpHeader = "sctp_header",
    /// INIT, INIT ACK or SHUTDOWN COMPLETE bundled with other chunks, INIT with a verification tag, or no initiate tag
    /// (RFC 9260 §6.10, §8.5.1, §3.3.2).
    SctpChunk = "sctp_chunk",
    /// SCTP CRC32c wrong, where it has to be computed anew because a port changes.
    SctpChecksum = "sctp_checksum",
    /// ICMP header truncated.
    IcmpHeader = "icmp_header",
    /// ICMP checksum wrong.
    IcmpChecksum = "icmp_checksum",
    /// TCP, UDP or SCTP port 0.
    PortZero = "port_zero",
    /// An IP protocol that the engine does not balance.
    UnknownProtocol = "unknown_protocol",

    // --- policy and connections
    /// A firewall rule with action drop.
    Firewall = "firewall",
    /// For a VIP or an own address, but no service and nothing that the engine answers.
    NoService = "no_service",
    /// Neither for a service nor of a connection: traffic between ports (`engine.transit`).
    Transit = "transit",
    /// Mid-stream packet of a connection that is not known (`engine.on_unknown`).
    UnknownConnection = "unknown_connection",
    /// The service has no endpoint that takes new connections.
    NoEndpoint = "no_endpoint",
    /// Full NAT has no port left towards the endpoint: all are in use or rest.
    SnatExhausted = "snat_exhausted",
    /// From an endpoint's own address and port, but of no connection: the kernel would forward it with that address.
    EndpointReply = "endpoint_reply",
    /// A UDP fragment without a checksum, from IPv4 to IPv6, where it must have one (RFC 7915 §4.5).
    FragmentNoChecksum = "fragment_no_checksum",
    /// An ICMP error that has no counterpart in the other family (RFC 7915 §4.2, §5.2).
    IcmpUntranslatable = "icmp_untranslatable",
    /// The connection's endpoint is down or no longer configured, and its connections are reset (`on_endpoint_down`,
    /// `on_endpoint_removed`).
    EndpointGone = "endpoint_gone",
    /// The connection table is full.
    ConntrackFull = "conntrack_full",
    /// The chosen endpoint already has a connection with this client's address and port through another service.
    TupleInUse = "tuple_in_use",
    /// A TCP segment that the connection's state forbids: payload from a server that has not answered the SYN.
    TcpState = "tcp_state",
    /// An SCTP packet with a verification tag that is not the association's (RFC 9260 §8.5).
    SctpVerificationTag = "sctp_verification_tag",
    /// An SCTP chunk that the association's state forbids.
    SctpState = "sctp_state",
    /// An ICMP error about a packet of no known connection.
    IcmpUnrelated = "icmp_unrelated",
    /// An ICMP message that is neither an error nor an echo to an own address.
    IcmpUnsupported = "icmp_unsupported",

    // --- next hop
    /// TTL or hop limit would become 0.
    TtlExpired = "ttl_expired",
    /// Larger than the egress MTU, and may not be fragmented.
    MtuExceeded = "mtu_exceeded",
    /// No route to the destination.
    NoRoute = "no_route",
    /// The next hop did not answer ARP or neighbour discovery.
    NeighborUnresolved = "neighbor_unresolved",
    /// More packets wait for the next hop's MAC than are queued.
    HoldFull = "hold_full",

    // --- engine
    /// The ring to the connection's worker was full.
    HandoffFull = "handoff_full",
    /// ARP or neighbour discovery for the kernel, above the rate that is let through to it.
    PuntNeighborRate = "punt_neighbor_rate",
    /// Anything else for the kernel, above the rate that is let through to it.
    PuntRate = "punt_rate",
    /// The ring to the kernel's interface was full.
    PuntFull = "punt_full",
    /// The frame had no headroom for a header that the engine must add.
    NoHeadroom = "no_headroom",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_are_distinct_label_values() {
        let labels: HashSet<_> = DropReason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), DropReason::COUNT);
        for (i, r) in DropReason::ALL.iter().enumerate() {
            assert_eq!(r.index(), i);
            assert!(r.label().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        }
    }
}

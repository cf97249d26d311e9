//! Link types: which are taken, and what the others are called.

use crate::addr::Mac;

/// What a record's bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header, FCS stripped.
    Ethernet,
    /// An IPv4 or IPv6 header, as its version says.
    RawIp,
    /// An IPv4 header.
    Ipv4,
    /// An IPv6 header.
    Ipv6,
}

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];

/// The source of frames that had no Ethernet header: locally administered, and no neighbour's.
const SOURCE: Mac = Mac([0x02, 0, 0, 0, 0, 0]);

impl Link {
    /// By number of the LINKTYPE registry. 12 and 14 are `DLT_RAW` of systems that wrote their own numbers into files.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            12 | 14 | 101 => Some(Self::RawIp),
            228 => Some(Self::Ipv4),
            229 => Some(Self::Ipv6),
            _ => None,
        }
    }

    /// The packet as an Ethernet frame into `frame`, which is cleared before. Raw IP gets a header to `dst`, with a tag where
    /// `vlan` is not 0; Ethernet is copied as it is.
    pub fn frame(self, data: &[u8], dst: Mac, vlan: u16, frame: &mut Vec<u8>) {
        frame.clear();
        let ethertype = match self {
            Self::Ethernet => {
                frame.extend_from_slice(data);
                return;
            }
            Self::Ipv4 => ETHERTYPE_IPV4,
            Self::Ipv6 => ETHERTYPE_IPV6,
            Self::RawIp if data.first().is_some_and(|b| b >> 4 == 6) => ETHERTYPE_IPV6,
            // Of any other version: the parser finds fault with it.
            Self::RawIp => ETHERTYPE_IPV4,
        };
        frame.extend_from_slice(&dst.0);
        frame.extend_from_slice(&SOURCE.0);
        if vlan != 0 {
            frame.extend_from_slice(&ETHERTYPE_VLAN);
            frame.extend_from_slice(&vlan.to_be_bytes());
        }
        frame.extend_from_slice(&ethertype);
        frame.extend_from_slice(data);
    }

    /// The registry's name of a link type, of those that are met most.
    #[must_use]
    pub fn name(number: u16) -> Option<&'static str> {
        NAMES.binary_search_by_key(&number, |&(n, _)| n).ok().map(|i| NAMES[i].1)
    }
}

/// Sorted by number.
const NAMES: &[(u16, &str)] = &[
    (0, "NULL"),
    (1, "ETHERNET"),
    (3, "AX25"),
    (6, "IEEE802_5"),
    (7, "ARCNET_BSD"),
    (8, "SLIP"),
    (9, "PPP"),
    (10, "FDDI"),
    (12, "RAW"),
    (14, "RAW"),
    (50, "PPP_HDLC"),
    (51, "PPP_ETHER"),
    (99, "SYMANTEC_FIREWALL"),
    (100, "ATM_RFC1483"),
    (101, "RAW"),
    (104, "C_HDLC"),
    (105, "IEEE802_11"),
    (106, "ATM_CLIP"),
    (107, "FRELAY"),
    (108, "LOOP"),
    (113, "LINUX_SLL"),
    (114, "LTALK"),
    (117, "PFLOG"),
    (119, "IEEE802_11_PRISM"),
    (122, "IP_OVER_FC"),
    (123, "SUNATM"),
    (127, "IEEE802_11_RADIOTAP"),
    (129, "ARCNET_LINUX"),
    (130, "JUNIPER_MLPPP"),
    (131, "JUNIPER_MLFR"),
    (132, "JUNIPER_ES"),
    (133, "JUNIPER_GGSN"),
    (134, "JUNIPER_MFR"),
    (135, "JUNIPER_ATM2"),
    (136, "JUNIPER_SERVICES"),
    (137, "JUNIPER_ATM1"),
    (138, "APPLE_IP_OVER_IEEE1394"),
    (143, "DOCSIS"),
    (144, "LINUX_IRDA"),
    (149, "USER2"),
    (160, "USER13"),
    (163, "IEEE802_11_AVS"),
    (164, "JUNIPER_MONITOR"),
    (177, "LINUX_LAPD"),
    (178, "JUNIPER_ETHER"),
    (179, "JUNIPER_PPP"),
    (180, "JUNIPER_FRELAY"),
    (181, "JUNIPER_CHDLC"),
    (182, "MFR"),
    (187, "BLUETOOTH_HCI_H4"),
    (189, "USB_LINUX"),
    (192, "PPI"),
    (195, "IEEE802_15_4_WITHFCS"),
    (201, "BLUETOOTH_HCI_H4_WITH_PHDR"),
    (220, "USB_LINUX_MMAPPED"),
    (226, "IPNET"),
    (228, "IPV4"),
    (229, "IPV6"),
    (230, "IEEE802_15_4_NOFCS"),
    (231, "DBUS"),
    (239, "NFLOG"),
    (240, "NETANALYZER"),
    (242, "IPOIB"),
    (249, "USBPCAP"),
    (251, "BLUETOOTH_LE_LL"),
    (253, "NETLINK"),
    (256, "BLUETOOTH_LE_LL_WITH_PHDR"),
    (258, "PKTAP"),
    (271, "VSOCK"),
    (272, "NORDIC_BLE"),
    (276, "LINUX_SLL2"),
    (281, "DSA_TAG_BRCM"),
    (282, "DSA_TAG_BRCM_PREPEND"),
    (283, "IEEE802_15_4_TAP"),
    (284, "DSA_TAG_DSA"),
    (285, "DSA_TAG_EDSA"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted() {
        assert!(NAMES.is_sorted_by_key(|&(n, _)| n));
        assert_eq!(Link::name(113), Some("LINUX_SLL"));
        assert_eq!(Link::name(2), None);
    }

    #[test]
    fn raw_ip_gets_a_header() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let mut frame = vec![9; 3];
        Link::RawIp.frame(&[0x60, 1], mac, 0, &mut frame);
        assert_eq!(frame, [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0x86, 0xdd, 0x60, 1]);
        Link::RawIp.frame(&[0x45], mac, 0x123, &mut frame);
        assert_eq!(frame, [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0x81, 0, 1, 0x23, 8, 0, 0x45]);
        Link::Ipv6.frame(&[], mac, 0, &mut frame);
        assert_eq!(frame[12..], [0x86, 0xdd]);
        Link::Ethernet.frame(&[1, 2, 3], mac, 7, &mut frame);
        assert_eq!(frame, [1, 2, 3]);
    }
}

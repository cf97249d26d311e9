use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;

use super::ng::Resolution;
use super::*;

type Got = (Option<u64>, u32, Link, Vec<u8>);

fn read(bytes: &[u8]) -> (Vec<Got>, Result<Option<u64>, Error>) {
    let mut packets = Vec::new();
    let mut reader = match Reader::new(Path::new("x.pcap"), Cursor::new(bytes.to_vec())) {
        Ok(reader) => reader,
        Err(e) => return (packets, Err(e)),
    };
    loop {
        match reader.next_packet() {
            Ok(Some(r)) => packets.push((r.time, r.original_len, r.link, r.data.to_vec())),
            Ok(None) => return (packets, Ok(reader.cut_off())),
            Err(e) => {
                assert!(matches!(reader.next_packet(), Ok(None)), "no packets after an error");
                return (packets, Err(e));
            }
        }
    }
}

fn whole(bytes: &[u8]) -> Vec<Got> {
    let (packets, end) = read(bytes);
    assert_eq!(end.unwrap(), None);
    packets
}

fn error(bytes: &[u8]) -> String {
    read(bytes).1.unwrap_err().to_string()
}

/// Numbers of either byte order, put together.
struct Bytes(Order, Vec<u8>);

impl Bytes {
    fn u16(mut self, n: u16) -> Self {
        self.1.extend(if self.0 == Order::Big { n.to_be_bytes() } else { n.to_le_bytes() });
        self
    }
    fn u32(mut self, n: u32) -> Self {
        self.1.extend(if self.0 == Order::Big { n.to_be_bytes() } else { n.to_le_bytes() });
        self
    }
    fn raw(mut self, b: &[u8]) -> Self {
        self.1.extend_from_slice(b);
        self
    }
    fn pad(mut self) -> Self {
        self.1.resize(self.1.len().next_multiple_of(4), 0);
        self
    }
    fn option(self, code: u16, value: &[u8]) -> Self {
        self.u16(code).u16(value.len() as u16).raw(value).pad()
    }
    /// A pcapng block with this body.
    fn block(self, kind: u32, body: impl FnOnce(Self) -> Self) -> Self {
        let order = self.0;
        let body = body(Self(order, Vec::new())).1;
        let len = body.len() as u32 + 12;
        self.u32(kind).u32(len).raw(&body).u32(len)
    }
    fn section(self) -> Self {
        self.block(0x0a0d_0d0a, |b| b.u32(0x1a2b_3c4d).u16(1).u16(0).raw(&[0xff; 8]))
    }
    fn interface(self, link: u16, snaplen: u32, options: impl FnOnce(Self) -> Self) -> Self {
        self.block(1, |b| options(b.u16(link).u16(0).u32(snaplen)))
    }
    fn enhanced(self, interface: u32, ticks: u64, original: u32, data: &[u8]) -> Self {
        self.block(6, |b| {
            let b = b.u32(interface).u32((ticks >> 32) as u32).u32(ticks as u32);
            b.u32(data.len() as u32).u32(original).raw(data).pad()
        })
    }
    fn pcap(order: Order, nanos: bool, link: u32) -> Self {
        let magic = if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        Self(order, Vec::new()).u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65535).u32(link)
    }
    fn record(self, seconds: u32, ticks: u32, original: u32, data: &[u8]) -> Self {
        self.u32(seconds).u32(ticks).u32(data.len() as u32).u32(original).raw(data)
    }
}

const ORDERS: [Order; 2] = [Order::Little, Order::Big];

#[test]
fn pcap_of_both_orders_and_resolutions() {
    for order in ORDERS {
        for (nanos, unit) in [(false, 1_000), (true, 1)] {
            let file = Bytes::pcap(order, nanos, 1).record(7, 9, 60, &[1; 60]).record(8, 0, 1500, &[2; 5]).1;
            assert_eq!(
                whole(&file),
                [
                    (Some(7_000_000_000 + 9 * unit), 60, Link::Ethernet, vec![1; 60]),
                    (Some(8_000_000_000), 1500, Link::Ethernet, vec![2; 5]),
                ]
            );
        }
    }
}

#[test]
fn latest_time_stamp_does_not_overflow() {
    let file = Bytes::pcap(Order::Big, false, 1).record(u32::MAX, u32::MAX, 0, &[]).1;
    assert_eq!(whole(&file)[0].0, Some(u64::from(u32::MAX) * 1_000_001_000));
}

#[test]
fn link_types() {
    for (number, link) in [
        (1, Link::Ethernet),
        (12, Link::RawIp),
        (14, Link::RawIp),
        (101, Link::RawIp),
        (228, Link::Ipv4),
        (229, Link::Ipv6),
    ] {
        let file = Bytes::pcap(Order::Little, false, number).record(0, 0, 4, &[0x45; 4]).1;
        assert_eq!(whole(&file)[0].2, link);
        let file =
            Bytes(Order::Big, vec![]).section().interface(number as u16, 0, |b| b).enhanced(0, 0, 1, &[1]).1;
        assert_eq!(whole(&file)[0].2, link);
    }
    for (number, text) in
        [(127, "link type 127 (IEEE802_11_RADIOTAP) is not"), (4000, "link type 4000 is not")]
    {
        let file = Bytes::pcap(Order::Little, false, number).1;
        assert!(error(&file).contains(text), "{}", error(&file));
        assert!(error(&file).starts_with("x.pcap: "));
        let file = Bytes(Order::Big, vec![]).section().interface(number as u16, 0, |b| b);
        assert!(whole(&file.1).is_empty(), "an interface without packets is no reason to refuse");
        assert!(error(&file.enhanced(0, 0, 1, &[1]).1).contains(text));
    }
}

#[test]
fn fcs_is_stripped_where_it_is_announced() {
    let packet: Vec<u8> = (0..64).collect();
    let left = |link, captured: usize, original| {
        let file = Bytes::pcap(Order::Little, false, link).record(0, 0, original, &packet[..captured]).1;
        let got = whole(&file).remove(0).3;
        assert_eq!(got, packet[..got.len()]);
        got.len()
    };
    assert_eq!(left(0x2400_0001, 64, 64), 60);
    assert_eq!(left(0x2400_0001, 64, 1518), 64, "cut before the FCS");
    assert_eq!(left(0x2400_0001, 62, 64), 60, "cut within the FCS");
    assert_eq!(left(0x2400_0001, 3, 3), 0);
    assert_eq!(left(0x2400_0001, 64, 3), 60, "a length that is less than what is there");
    assert_eq!(left(0x3000_0001, 64, 64), 64, "a length without the bit that announces it");
    assert_eq!(left(0x0400_0001, 64, 64), 64);
    assert_eq!(left(0x2400_0065, 64, 64), 64, "raw IP has no FCS");

    for (length, want) in [(0, 64), (4, 60), (32, 60), (16, 62)] {
        let file = Bytes(Order::Little, vec![]).section().interface(1, 0, |b| b.option(13, &[length]));
        assert_eq!(whole(&file.enhanced(0, 0, 64, &packet).1)[0].3.len(), want);
    }
    let file = Bytes(Order::Big, vec![]).section().interface(1, 0, |b| b).block(6, |b| {
        b.u32(0).u32(0).u32(0).u32(64).u32(64).raw(&packet).option(2, &(4u32 << 5).to_be_bytes()).u32(0)
    });
    assert_eq!(whole(&file.1)[0].3, packet[..60], "epb_flags");
}

#[test]
fn pcapng_of_several_interfaces_and_sections() {
    for order in ORDERS {
        let other = if order == Order::Big { Order::Little } else { Order::Big };
        let file = Bytes(order, vec![])
            .section()
            .interface(1, 0, |b| b.option(2, b"eth0").option(9, &[9]).u16(0).u16(0).raw(b"junk"))
            .interface(101, 0, |b| b.option(9, &[0x8a]).option(14, &[0; 8]))
            .block(0x7fff_0001, |b| b.raw(&[1; 40]))
            .enhanced(0, 5_000_000_007, 60, &[1, 2, 3])
            .enhanced(1, 5 << 10 | 512, 40, &[0x45, 0])
            .block(5, |b| b.u32(0).u32(0).u32(0))
            .block(2, |b| b.u16(0).u16(3).u32(1).u32(2).u32(5).u32(6).raw(&[9; 5]).pad());
        let second = Bytes(other, vec![])
            .section()
            .interface(229, 3, |b| b)
            .block(3, |b| b.u32(6).raw(&[6, 5, 4]).pad())
            .enhanced(0, 1_500_000, 4, &[6]);
        let file = [file.1, second.1].concat();
        assert_eq!(
            whole(&file),
            [
                (Some(5_000_000_007), 60, Link::Ethernet, vec![1, 2, 3]),
                (Some(5_500_000_000), 40, Link::RawIp, vec![0x45, 0]),
                (Some((1 << 32) + 2), 6, Link::Ethernet, vec![9; 5]),
                (None, 6, Link::Ipv6, vec![6, 5, 4]),
                (Some(1_500_000_000), 4, Link::Ipv6, vec![6]),
            ]
        );
    }
}

#[test]
fn time_resolutions_and_offsets() {
    assert_eq!(Resolution::Decimal(0).nanos(3), 3_000_000_000);
    assert_eq!(Resolution::Decimal(6).nanos(3), 3_000);
    assert_eq!(Resolution::Decimal(12).nanos(5_999), 5);
    assert_eq!(Resolution::Decimal(127).nanos(u64::MAX), 0);
    assert_eq!(Resolution::Decimal(0).nanos(u64::MAX), u64::MAX);
    assert_eq!(Resolution::Binary(0).nanos(2), 2_000_000_000);
    assert_eq!(Resolution::Binary(32).nanos(1 << 31), 500_000_000);
    assert_eq!(Resolution::Binary(0).nanos(u64::MAX), u64::MAX);
    assert_eq!(Resolution::Binary(127).nanos(u64::MAX), 0);
    for (offset, want) in
        [(10, 12_000_000_000), (-1, 1_000_000_000), (-10, 0), (i64::MAX, u64::MAX), (i64::MIN, 0)]
    {
        let file = Bytes(Order::Big, vec![])
            .section()
            .interface(1, 0, |b| b.option(14, &i64::to_be_bytes(offset)))
            .enhanced(0, 2_000_000, 1, &[1]);
        assert_eq!(whole(&file.1)[0].0, Some(want));
    }
}

#[test]
fn what_is_no_capture() {
    assert!(error(b"").contains("it is empty"));
    assert!(error(b"abc").contains("less than 4 bytes"));
    assert!(error(b"GIF89a").contains("begins with 47 49 46 38"));
    let file = Bytes::pcap(Order::Little, false, 1).1;
    assert!(error(&file[..23]).contains("the file header is cut off"));
    assert!(error(&[&file[..4], &[3, 0], &file[6..]].concat()).contains("broken at byte 4: pcap version 3"));
    let file = Bytes(Order::Little, vec![]).section().1;
    assert!(error(&file[..file.len() - 1]).contains("the section header is cut off"));
    assert!(error(&[&file[..8], b"nono", &file[12..]].concat()).contains("byte-order magic"));
    let error = Reader::open(Path::new("/nonexistent/x.pcap")).err().unwrap();
    assert!(error.to_string().starts_with("/nonexistent/x.pcap: cannot open: "));
}

#[test]
fn a_cut_file_is_read_to_its_last_whole_packet() {
    let pcap = Bytes::pcap(Order::Little, false, 1).record(1, 0, 10, &[1; 10]);
    let ng = Bytes(Order::Big, vec![]).section().interface(1, 0, |b| b).enhanced(0, 0, 10, &[1; 10]);
    let (pcap_end, ng_end) = (pcap.1.len(), ng.1.len());
    let pcap = pcap.record(2, 0, 10, &[2; 10]).1;
    let ng = ng.enhanced(0, 0, 10, &[2; 10]).1;
    for (file, end) in [(pcap, pcap_end), (ng, ng_end)] {
        assert_eq!(whole(&file).len(), 2);
        assert_eq!(whole(&file[..end]).len(), 1);
        for cut in end + 1..file.len() {
            let (packets, cut_off) = read(&file[..cut]);
            assert_eq!((packets.len(), cut_off.unwrap()), (1, Some(end as u64)));
        }
    }
}

#[test]
fn absurd_lengths_are_errors_that_say_where() {
    let pcap =
        Bytes::pcap(Order::Little, false, 1).record(1, 0, 4, &[1; 4]).u32(0).u32(0).u32(u32::MAX).u32(60);
    assert!(
        error(&pcap.1).contains("x.pcap: broken at byte 44: a packet of 4294967295 bytes"),
        "{}",
        error(&pcap.1)
    );

    let ng = || Bytes(Order::Little, vec![]).section().interface(1, 0, |b| b);
    let at = ng().1.len();
    for (broken, text) in [
        (ng().u32(9).u32(8), "a block of 8 bytes"),
        (ng().u32(9).u32(13).raw(&[0; 40]), "a block of 13 bytes"),
        (ng().u32(6).u32(u32::MAX - 3), "a block of 4294967292 bytes, of which"),
        (ng().u32(9).u32(16).u32(0).u32(20), "a block of 16 bytes that ends with 20"),
        (ng().enhanced(1, 0, 0, &[]), "a packet of interface 1, of which 1 are described"),
        (ng().block(6, |b| b.u32(0)), "a packet block that is too short"),
        (
            ng().block(6, |b| b.u32(0).u32(0).u32(0).u32(5).u32(5).u32(0)),
            "a packet of 5 bytes in a block of 24",
        ),
        (ng().block(3, |b| b.u32(5).u32(0)), "a packet of 5 bytes in a block of 4"),
        (ng().block(1, |b| b.u32(5)), "an interface description that is too short"),
        (ng().interface(1, 0, |b| b.u16(9).u16(50)), "option 9 of 50 bytes ends behind its block"),
        (ng().interface(1, 0, |b| b.raw(&[1, 0]).pad().raw(&[7, 0, 1, 0])), "ends behind its block"),
        (ng().u32(0x0a0d_0d0a).u32(16).u32(0x1a2b_3c4d).u32(1), "a block of 16 bytes"),
    ] {
        let error = error(&broken.1);
        assert!(error.starts_with(&format!("x.pcap: broken at byte {at}: ")), "{error}");
        assert!(error.contains(text), "{error}");
    }
    // A block that is not looked into may be as long as it likes, if only it is there.
    let (packets, end) = read(&ng().u32(9).u32(u32::MAX - 3).raw(&[0; 50]).1);
    assert_eq!((packets.len(), end.unwrap()), (0, Some(at as u64)));
}

#[test]
fn what_is_written_is_read() {
    let packets = [(0, 4, vec![1; 4]), (1_700_000_000_123_456_789, 1500, vec![2; 61]), (5, 0, vec![])];
    let mut pcap = PcapWriter::new(Vec::new()).unwrap();
    let mut ng = PcapngWriter::new(Vec::new(), "test").unwrap();
    ng.interface("wan").unwrap();
    ng.interface("län").unwrap();
    for (time, len, data) in &packets {
        pcap.write(*time, *len, data).unwrap();
        ng.write(1, *time, *len, data, Direction::Inbound, (*len == 4).then_some("no_service")).unwrap();
    }
    let ng = ng.finish().unwrap();
    assert!(ng.windows(10).any(|w| w == b"no_service"));
    for file in [pcap.finish().unwrap(), ng] {
        let got: Vec<_> = whole(&file).into_iter().map(|(t, n, _, data)| (t.unwrap(), n, data)).collect();
        assert_eq!(got, packets);
    }
}

#[test]
fn what_the_formats_cannot_hold_is_cut() {
    let mut pcap = PcapWriter::new(Vec::new()).unwrap();
    pcap.write(u64::MAX, 300_000, &vec![7; 300_000]).unwrap();
    let got = whole(&pcap.finish().unwrap()).remove(0);
    assert_eq!(
        (got.0, got.1, got.3.len()),
        (Some(u64::from(u32::MAX) * 1_000_000_000 + 709_551_615), 300_000, 262_144)
    );
}

fn some_capture() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Bytes::pcap(Order::Little, false, 1).record(1, 0, 9, &[1; 9]).record(2, 0, 9, &[1; 9]).1),
        Just(Bytes::pcap(Order::Big, true, 0x2400_0001).record(1, 0, 9, &[1; 9]).1),
        Just(
            Bytes(Order::Little, vec![])
                .section()
                .interface(1, 0, |b| b.option(9, &[9]).option(13, &[4]).option(14, &[1; 8]).u32(0))
                .enhanced(0, 1, 9, &[1; 9])
                .block(3, |b| b.u32(4).u32(0))
                .block(2, |b| b.u32(0).u32(1).u32(2).u32(4).u32(4).u32(9))
                .1
        ),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn no_change_makes_it_panic(
        mut file in some_capture(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
    ) {
        for (at, to) in changes {
            let at = at.index(file.len());
            file[at] = to;
        }
        let (packets, _) = read(&file);
        prop_assert!(packets.len() < 10);
    }
}

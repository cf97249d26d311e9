//! What fuzzing begins with: small inputs that reach each part of the code. The files in `seeds/` are these;
//! `POLLUX_UPDATE_SEEDS=1 cargo test --test fuzz_cases` writes them anew.

use pollux::addr::Addr;
use pollux::pcap::{Direction, PcapWriter, PcapngWriter};
use pollux::wire::build::{self, ip};
use pollux::wire::tcp::flag::{ACK, FIN, PSH, RST, SYN};

use super::packet::{self, how, kind, who};
use super::pipeline::op;

const A: &str = "192.0.2.1";
const B: &str = "203.0.113.100";
const A6: &str = "2001:db8:c::1";
const B6: &str = "2001:db8:1::100";

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

/// Target, file, content.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// All seeds.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, frame) in frames() {
        seeds.push(("parse", name, [&[0], &frame[..]].concat()));
    }
    pipeline(&mut seeds);
    rewrite(&mut seeds);
    config(&mut seeds);
    pcap(&mut seeds);
    pcapng(&mut seeds);
    seeds
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let quoted = ip(B, A).tcp(80, 4000).ack(1).l3();
    let quoted6 = ip(B6, A6).hop_by_hop().udp(53, 4000).payload(b"x").l3();
    let mac = build::SRC_MAC;
    vec![
        ("tcp", ip(A, B).tcp(4000, 80).syn().options([2, 4, 5, 180]).payload(b"x").frame()),
        ("tcp6", ip(A6, B6).destination_options().tcp(4000, 80).ack(1).frame()),
        ("udp", ip(A, B).options([1, 7, 7, 4, 0, 0, 0]).udp(4000, 53).payload(b"x").padded()),
        ("udp6", ip(A6, B6).hop_by_hop().routing(2, 0).udp(4000, 53).payload(b"x").frame()),
        ("quic", ip(A, B).udp(4000, 443).payload([0x41, 0x0b, 0xa1, 1, 2, 3, 4, 5, 6, 7, 8, 9]).frame()),
        ("quic6", ip(A6, B6).udp(4000, 443).payload([&[0xc3, 0, 0, 0, 1, 8], &[7; 17][..]].concat()).frame()),
        ("sctp", ip(A, B).sctp(4000, 2905).init(7).frame()),
        (
            "sctp_addresses",
            ip(A, B).sctp(2905, 4000).tag(7).init_ack_from(7, &[A, A6].map(addr), [9; 5]).frame(),
        ),
        (
            "sctp6",
            ip(A6, B6).authentication().sctp(4000, 2905).tag(7).cookie_echo([1]).data(1, 2, [3]).frame(),
        ),
        ("echo", ip(A, B).echo_request(1, 2).payload(b"x").frame()),
        ("echo6", ip(A6, B6).echo_reply(1, 2).payload(b"x").frame()),
        ("error", ip(A, B).too_big(1400, &quoted).frame()),
        ("error6", ip(A6, B6).port_unreachable(&quoted6).frame()),
        ("fragment", ip(A, B).fragment(8, true).protocol(17, [0; 16]).frame()),
        ("fragment6", ip(A6, B6).fragment(8, true).protocol(17, [0; 16]).frame()),
        ("solicitation", ip(A6, B6).neighbor_solicitation(B6).frame()),
        ("advertisement", ip(A6, B6).neighbor_advertisement(A6, 0x60).frame()),
        ("arp", build::eth(mac, build::DST_MAC).arp_request(A, B).padded()),
        ("vlan", build::eth(mac, build::DST_MAC).vlan(7).ip(A, B).udp(4000, 53).frame()),
        ("gre", ip(A, B).protocol(47, [0; 4]).frame()),
    ]
}

/// A described packet, as a burst of its own.
fn one(who: u8, kind: u8, service: u8, [a, b, c]: [u8; 3]) -> Vec<u8> {
    let described: [u8; packet::LEN] = [who, kind, service, a, b, c];
    [&[op::FLUSH], &described[..]].concat()
}

const SERVER: u8 = who::FROM_SERVER;
/// 16 ms and 17 s.
const SHORT: [u8; 3] = [op::TIME, 24, 1];
const LONG: [u8; 3] = [op::TIME, 34, 1];

fn pipeline(seeds: &mut Vec<Seed>) {
    let tcp = |who, service, flags, seq_ack, len| one(who, kind::TCP, service, [flags, seq_ack, len]);
    let udp = |who, service, len| one(who, kind::UDP, service, [0, 0, len]);
    let sctp = |who, service, chunk, tags| one(who, kind::SCTP, service, [chunk, tags, 1]);
    let error = |who, service, protocol, words| one(who, kind::ERROR, service, [protocol, words, 1]);
    let neighbor = |who, what| one(who, kind::NEIGHBOR, 0, [what, 0, 0]);
    let mut add = |name, world: u8, steps: &[Vec<u8>]| {
        seeds.push(("pipeline", name, [&[world], &steps.concat()[..]].concat()));
    };
    let talk = |v6: u8, close: u8| {
        vec![
            tcp(v6, 0, SYN, 1, 0),
            tcp(v6 | SERVER, 0, SYN | ACK, 0x21, 0),
            tcp(v6, 0, ACK, 0x22, 0),
            tcp(v6, 0, ACK | PSH, 0x22, 9),
            tcp(v6 | SERVER, 0, ACK, 0x32, 200),
            tcp(v6, 0, close, 0x22, 0),
            tcp(v6 | SERVER, 0, FIN | ACK, 0x33, 0),
            tcp(v6, 0, ACK, 0x34, 0),
            LONG.to_vec(),
        ]
    };
    add("tcp", 0, &talk(0, FIN | ACK));
    add("tcp6", 0, &talk(who::V6, RST));
    add(
        "udp",
        0,
        &[udp(0, 1, 1), udp(SERVER, 1, 9), SHORT.to_vec(), udp(0, 2, 1), udp(SERVER, 2, 0), udp(0, 6, 2)],
    );
    // Of the range, whose server ids are 1 and 2: a payload is one byte, again and again.
    add(
        "quic",
        0,
        &[
            udp(0, 2, 1),
            udp(SERVER, 2, 9),
            udp(0, 2, 2),
            udp(SERVER | who::SECOND, 2, 9),
            udp(0, 0x12, 1),
            udp(0, 0x22, 3),
            udp(who::V6, 2, 2),
            udp(who::V6, 2, 1),
        ],
    );
    let associate = |s| {
        [
            sctp(0, s, 0, 0x08),
            sctp(SERVER, s, 1, 0x11),
            sctp(0, s, 2, 2),
            sctp(SERVER, s, 3, 1),
            sctp(0, s, 4, 2),
        ]
        .concat()
    };
    let shut = |s| [sctp(0, s, 10, 2), sctp(SERVER, s, 11, 1), sctp(0, s, 12, 2)].concat();
    add("sctp", 0, &[associate(3), shut(3), associate(4), sctp(SERVER, 4, 8, 1)]);
    add(
        "errors",
        0,
        &[
            udp(0, 1, 1),
            error(0, 1, 1, 7),
            error(SERVER, 1, 1, 9),
            tcp(who::V6, 0, SYN, 0, 0),
            error(who::V6 | SERVER, 0, 8, 60),
            sctp(0, 4, 0, 8),
            error(SERVER, 4, 2, 60),
        ],
    );
    add(
        "neighbours",
        1,
        &[
            udp(who::TAGGED, 1, 1),
            udp(who::TAGGED | who::V6, 1, 1),
            neighbor(SERVER, 1),
            neighbor(SERVER | who::SECOND, 1),
            neighbor(SERVER | who::V6, 0x61),
            udp(SERVER, 1, 1),
            neighbor(who::TAGGED, 0),
            udp(who::TAGGED, 6, 1),
            LONG.to_vec(),
        ],
    );
    add(
        "narrow",
        2,
        &[
            one(0, kind::UDP | 128, 1, [0, 0, 200]),
            one(1, kind::UDP | 128, 1, [0, 0, 200]),
            udp(0, 1, 200),
            tcp(0, 5, SYN, 0, 0),
            tcp(0, 0, ACK, 0, 0),
            one(0, kind::TCP | 8, 0, [SYN, 0, 1]),
            sctp(0, 3, 4, 1),
        ],
    );
    let flood: Vec<u8> = (0..24).flat_map(|n| udp(n & 6 | n & who::V6, n << 4 | 1, 1)).collect();
    add("full", 3, &[flood.clone(), SHORT.to_vec(), SHORT.to_vec(), flood]);
    add(
        "reload",
        0,
        &[
            udp(0, 0x11, 1),
            vec![op::SWITCH, op::TICK],
            udp(0, 0x11, 1),
            vec![op::SWITCH | 8, op::TICK],
            udp(0, 0x11, 1),
            vec![op::SWITCH | 16],
            udp(0, 0x11, 1),
        ],
    );
    // In every mode: a talk of every service, answers to wherever its packets went, and errors about those.
    for (name, world) in [("full_nat", 4), ("other_family", 5), ("tunnels", 6)] {
        let answer = |kind, bytes| one(SERVER, kind | how::ANSWER << 3, 0, bytes);
        let mut steps = Vec::new();
        for v6 in [0, who::V6] {
            for service in [0, 5] {
                steps.extend([
                    tcp(v6, service, SYN, 1, 0),
                    answer(kind::TCP, [SYN | ACK, 0x21, 0]),
                    tcp(v6, service, ACK, 0x22, 0),
                    tcp(v6, service, ACK | PSH, 0x22, 9),
                    answer(kind::TCP, [ACK, 0x32, 200]),
                    answer(kind::ERROR, [174, 60, 0]),
                ]);
            }
            for service in [1, 2, 6] {
                steps.extend([
                    udp(v6, service, 1),
                    answer(kind::UDP, [0, 0, 9]),
                    answer(kind::ERROR, [174, 60, 0]),
                ]);
                steps.push(one(v6, kind::UDP | 128, service, [0, 0, 170]));
            }
            for service in [3, 4] {
                steps.extend([
                    sctp(v6, service, 0, 0x08),
                    answer(kind::SCTP, [1, 0x11, 1]),
                    sctp(v6, service, 2, 2),
                    answer(kind::SCTP, [3, 1, 1]),
                    one(v6, kind::SCTP | how::SECOND_PATH << 3, service, [6, 2, 1]),
                    answer(kind::ERROR, [172, 60, 0]),
                ]);
            }
        }
        let again: Vec<_> = steps.iter().step_by(4).cloned().collect();
        steps.extend([
            vec![op::SWITCH, op::TICK],
            again.concat(),
            vec![op::SWITCH | 8, op::TICK],
            again.concat(),
        ]);
        steps.push(LONG.to_vec());
        add(name, world, &steps);
    }
    let local = |who, word| one(who, kind::ECHO, 0, [word, 0, 9]);
    add(
        "local",
        0,
        &[local(0, 0), local(who::SECOND, 0), local(who::V6, 0), one(0, kind::OTHER, 0, [47, 0, 1])],
    );
    let raw = ip(A, B).udp(4000, 53).frame();
    let raw = [&[op::RAW | op::MUTATE | op::REPAIR, 0, raw.len() as u8], &raw[..], &[1, 30, 1]].concat();
    add("raw", 0, &[raw]);
}

fn rewrite(seeds: &mut Vec<Seed>) {
    for (how, name) in
        [(0, "tcp"), (2, "udp"), (4, "sctp"), (1, "tcp6"), (3, "udp6"), (5, "sctp6"), (8, "wrong")]
    {
        let addresses: &[u8] =
            if how & 1 == 0 { &[192, 0, 2, 1, 203, 0, 113, 100, 10, 1, 0, 10] } else { &[1, 2, 3, 4, 5, 6] };
        // Ports, TTL, MTU, how much an error quotes, payload.
        let rest = [15, 160, 0, 80, 31, 144, 64, 0, 100, 9];
        seeds.push(("rewrite", name, [&[how][..], addresses, &rest, &[7; 120]].concat()));
    }
}

fn config(seeds: &mut Vec<Seed>) {
    let port = "[[port]]\nname = \"wan\"\ndevice = \"net_null0\"\naddresses = [\"192.0.2.1/24\", \"2001:db8::1/64\"]\n";
    let texts = [
        ("port", port.to_owned()),
        (
            "service",
            format!(
                "{port}[[service]]\nname = \"a\"\nvip = \"192.0.2.9:1-9\"\nprotocol = \"udp\"\nmaglev_size = 13\n\
                 [[service.endpoint]]\naddress = \"192.0.2.10\"\nweight = 2\nstate = \"drain\"\n"
            ),
        ),
        (
            "firewall",
            format!(
                "{port}[[firewall]]\nname = \"x\"\naction = \"drop\"\nprotocol = \"icmp\"\nsource = [\"::/0\"]\n\
                 [[neighbor]]\naddress = \"192.0.2.2\"\nmac = \"02:00:00:00:00:01\"\nport = \"wan\"\n\
                 [[route]]\nprefix = \"0.0.0.0/0\"\nvia = \"192.0.2.2\"\n"
            ),
        ),
        (
            "engine",
            format!(
                "[engine]\nworkers = [1]\nburst = 8\nshutdown_delay = \"1s\"\n{port}[metrics]\ntick = \"1s\"\n"
            ),
        ),
        (
            "wrong",
            "[engine]\nwrokers = [1, 1]\nburst = 65\n[[port]\nname = 3\n[metrics]\ntick = \"1\"\n".to_owned(),
        ),
    ];
    seeds.extend(texts.map(|(name, text)| ("config", name, text.into_bytes())));
}

fn pcap(seeds: &mut Vec<Seed>) {
    let frame = ip(A, B).udp(4000, 53).payload(b"x").frame();
    let mut file = PcapWriter::new(Vec::new()).unwrap();
    for n in 0..2 {
        file.write(n * 1_500_000_000, 60, &frame).unwrap();
    }
    let nanos = file.finish().unwrap();
    seeds.push(("pcap", "cut", nanos[..nanos.len() - 5].to_vec()));
    seeds.push(("pcap", "nanos", nanos));
    // Big-endian, microseconds; 4 bytes of FCS.
    for (name, link, packet) in
        [("big", 0x2400_0001_u32, &frame[..]), ("raw", 101, &frame[14..]), ("unknown", 113, &frame)]
    {
        let mut file = vec![0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0];
        file.extend(link.to_be_bytes());
        for field in [1, 999_999, packet.len() as u32, packet.len() as u32] {
            file.extend(field.to_be_bytes());
        }
        file.extend(packet);
        seeds.push(("pcap", name, file));
    }
}

fn pcapng(seeds: &mut Vec<Seed>) {
    let frame = ip(A, B).udp(4000, 53).payload(b"x").frame();
    let mut file = PcapngWriter::new(Vec::new(), "fuzz").unwrap();
    file.interface("one").unwrap();
    file.write(0, 1_500_000_000, 60, &frame, Direction::Inbound, None).unwrap();
    file.write(0, 1_600_000_000, 60, &frame, Direction::Outbound, Some("ttl_expired")).unwrap();
    seeds.push(("pcapng", "little", file.finish().unwrap()));

    // Big-endian, with what our own writer does not write.
    let block = |kind: u32, body: &[u8]| {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = (body.len() as u32 + 12).to_be_bytes();
        [&kind.to_be_bytes()[..], &len, &body, &len].concat()
    };
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
    let section = block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 0x0001_0000, u32::MAX, u32::MAX]));
    let len = frame.len() as u32;
    // Ethernet; if_tsresol 2^-10, if_fcslen 4, if_tsoffset -1.
    let options =
        words(&[0x0009_0001, 0x8a00_0000, 0x000d_0001, 0x0400_0000, 0x000e_0008, u32::MAX, u32::MAX, 0]);
    let ethernet = block(1, &[words(&[0x0001_0000, 64]), options].concat());
    let enhanced = block(6, &[&words(&[0, 0, 1 << 20, len, len])[..], &frame].concat());
    let simple = block(3, &[&words(&[len])[..], &frame].concat());
    let obsolete = block(2, &[&words(&[0, 0, 1 << 20, len, len])[..], &frame].concat());
    let names = block(4, &words(&[0]));
    seeds.push(("pcapng", "big", [section.clone(), ethernet, enhanced, simple, obsolete, names].concat()));
    let raw = block(1, &words(&[101 << 16, 0]));
    let simple = block(3, &[&words(&[len - 14])[..], &frame[14..]].concat());
    seeds.push(("pcapng", "sections", [section.clone(), raw.clone(), simple, section, raw].concat()));
}

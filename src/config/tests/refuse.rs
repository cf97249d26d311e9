//! What is refused: where, and with which words.

use super::*;

#[test]
fn unknown_keys_name_the_nearest_in_every_table() {
    let tables = [
        "[engine]",
        "[[port]]",
        "[[route]]",
        "[[neighbor]]",
        "[[service]]",
        "[service.health_check]",
        "[[service.endpoint]]",
        "[snat]",
        "[[firewall]]",
        "[limits]",
        "[metrics]",
        "[history]",
        "[control]",
    ];
    for table in tables {
        let (before, after) = WHOLE.split_once(table).unwrap();
        let known = after.trim_start().split([' ', '=']).next().unwrap();
        let wrong = format!("{known}x");
        let text = format!("{before}{table}\n{wrong} = 1{after}");
        let found = bad(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        let start = format!("{}:1: unknown key `{wrong}`", line_of(&text, &wrong));
        assert!(found[0].starts_with(&start), "{start}: {found:?}");
        assert!(found[0].ends_with(&format!("did you mean `{known}`?")), "{found:?}");
    }
    let found = bad(&format!("{LEAST}[metric]\n[\"a \\u0007b\"]\n"));
    assert_eq!(found.len(), 3, "with the warning of no service: {found:?}");
    assert!(found.iter().any(|l| l == "5:2: unknown key `metric`; did you mean `metrics`?"), "{found:?}");
    assert!(
        found.iter().any(|l| l.contains("unknown key \"a \\u{7}b\"; the nearest known key is")),
        "{found:?}"
    );
}

#[test]
fn what_is_not_supported_yet_is_refused() {
    let refusals = [
        ("syn_rate          = 0", "syn_rate = 1"),
        ("connection_rate   = 0", "connection_rate = 1"),
        ("connections       = 0", "connections = 1"),
        ("udp_packet_rate   = 0", "udp_packet_rate = 1"),
        ("udp_byte_rate     = 0", "udp_byte_rate = 1"),
        ("deny              = []", "deny = [\"10.0.0.0/8\"]"),
        ("allow             = []", "allow = [\"::/0\"]"),
        ("path       = \"\"", "path = \"/var/lib/pollux/history\""),
    ];
    for (from, to) in refusals {
        refused(from, to, to.lines().last().unwrap_or(to), &["not supported yet"]);
    }
    refused(
        "[control]",
        "[[history.remote_write]]\nurl = \"u\"\n[control]",
        "[[history.remote",
        &["`remote_write`", "not supported yet"],
    );
    refused(
        "path       = \"\"",
        "",
        "[history]",
        &["`path` of [history] is not supported yet", "remove the table"],
    );
}

#[test]
fn the_form_of_what_is_not_supported_yet_is_checked() {
    refused_line(
        "expect   = \"200-399\"",
        "expect = \"ok\"",
        &["`expect` of health_check of service \"web\"", "status codes"],
    );
    refused_line("target   = \"endpoint\"", "target = \"vipp\"", &["did you mean \"vip\"?"]);
    refused_line("interval = \"5s\"", "interval = 5", &["must be a text, but is an integer"]);
    refused_line("send     = \"\"", "send = \"hex:0\"", &["hexadecimal"]);
    refused_line("max_bytes  = 4_000_000_000", "max_bytes = -1", &["is -1"]);
    refused_line("\"10s\" = \"7d\"", "\"10s\" = \"7 days\"", &["`retention` of [history]", "7 days"]);
    refused_line("gue_port      = 6080", "gue_port = 0", &["is 0, not 1 to 65535"]);
    refused_line(
        "external_labels = { job = \"pollux\" }",
        "external_labels = { job = 1 }",
        &["must be a text"],
    );
    refused_line("verify   = true", "verify = \"yes\"", &["must be true or false"]);
    refused("ports     = \"1024-65535\"", "ports = \"0-10\"", "ports = \"0-10\"", &["`ports` of [snat]"]);
}

#[test]
fn values_are_refused_with_name_value_and_cure() {
    refused_line("memory_mb      = 1024", "memory_mb = 1", &["`memory_mb` of [engine] is 1, not 16 to"]);
    refused_line("burst          = 32", "burst = 65", &["is 65, not 1 to 64"]);
    refused_line("burst          = 32", "burst = 0", &["is 0"]);
    refused_line(
        "burst          = 32",
        "burst = \"32\"",
        &["must be an integer, but is a string", "leave out the quotes"],
    );
    refused_line("burst          = 32", "burst = 3.2", &["must be an integer, but is a float"]);
    refused_line(
        "burst          = 32",
        "burst = 99999999999999999999999999999999999999999",
        &["beyond all bounds"],
    );
    refused_line("max_flows      = 4_000_000", "max_flows = 0", &["`max_flows` of [engine] is 0"]);
    refused_line("idle           = \"poll\"", "idle = \"pol\"", &["did you mean \"poll\"?"]);
    refused_line("shutdown_delay = \"0s\"", "shutdown_delay = \"2h\"", &["is 2h, not 0s to 1h"]);
    refused_line("shutdown_delay = \"0s\"", "shutdown_delay = \"5\"", &["without a unit", "ms, s, m, h, d"]);
    refused_line("workers        = [2, 3, 4, 5]", "workers = [2, -3]", &["`workers` of [engine] is -3"]);
    refused_line("workers        = [2, 3, 4, 5]", "workers = 2", &["must be a list, but is an integer"]);
    refused_line("hugepages      = true", "hugepages = 1", &["must be true or false"]);
}

#[test]
fn shared_cpus_are_warned_of() {
    warned("workers        = [2, 3, 4, 5]", "workers = [2, 2]", "CPU 2 has several workers");
    warned("main_cpu       = 0", "main_cpu = 3", "the CPU of a worker too");
    let many = format!("workers = [{}]", "1,".repeat(128));
    refused("workers        = [2, 3, 4, 5]", &many, "workers = [", &["names 128 workers; at most 127"]);
}

#[test]
fn ports_are_checked() {
    refused_line(
        "device    = \"0000:3b:00.0\"",
        "device = \"eth1\"",
        &["neither a PCI address nor a DPDK vdev", "net_af_packet0,iface=eth1"],
    );
    refused_line("device    = \"0000:3b:00.0\"", "device = \"\"", &["is empty"]);
    refused_line("device    = \"0000:3b:00.0\"", "device = \"net_tap0 \"", &["white space"]);
    refused(
        "device    = \"0000:3b:00.0\"\n",
        "",
        "[[port]]",
        &["port \"wan\" has no `device`", "net_af_packet0"],
    );
    refused_line("role      = \"client\"", "role = \"clients\"", &["did you mean \"client\"?"]);
    refused_line(
        "\"203.0.113.2/24\", ",
        "\"203.0.113.2\", ",
        &["not an address with a prefix length", "\"203.0.113.2/24\""],
    );
    refused_line("mtu       = 1500", "mtu = 67", &["is 67, not 68 to 9600"]);
    refused_line("mtu       = 1500", "mtu = 1279", &["too small for its IPv6 address", "1280"]);
    refused_line("vlan      = 0", "vlan = 4095", &["is 4095"]);
    refused_line("rx_descriptors = 1024", "rx_descriptors = 16", &["is 16"]);
    warned("rx_descriptors = 1024", "rx_descriptors = 1000", "not a power of two");
    refused_line("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"10.1.0.0/24\"", &["the network's address"]);
    refused_line("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"10.1.0.255/24\"", &["broadcast"]);
    refused_line("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"127.0.0.1/8\"", &["a loopback address"]);
    refused_line("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"10.1.0.1/24\"", &["has 10.1.0.1 twice"]);
    refused_line(
        "\"10.1.0.1/24\"",
        "\"10.1.0.1/24\", \"203.0.113.129/25\"",
        &["network 203.0.113.128/25 of port \"lan\" overlaps network 203.0.113.0/24 of port \"wan\""],
    );
    good(
        &WHOLE
            .replace("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"fe80::1/64\"")
            .replace("2001:db8:1::2/64", "fe80::2/64"),
    );
}

#[test]
fn one_device_is_one_port_or_one_vlan_each() {
    refused_line(
        "device    = \"0000:3b:00.1\"",
        "device = \"3b:00.0\"",
        &["device \"3b:00.0\" with vlan 0 has two ports"],
    );
    good(&WHOLE.replace("device    = \"0000:3b:00.1\"", "device = \"0000:3B:00.0\"\nvlan = 7"));
    let text = WHOLE
        .replace("\"0000:3b:00.0\"", "\"net_af_packet0,iface=a\"")
        .replace("\"0000:3b:00.1\"", "\"net_af_packet0,iface=b\"");
    assert!(bad(&text)[0].contains("vdev net_af_packet0 is there with two sets of arguments"));
}

#[test]
fn names_are_there_plain_and_unique() {
    let port = |name: &str| LEAST.replace("\"p\"", name);
    assert!(errors(&port("\"w n\""))[0].contains("is \"w n\"; use letters, digits"));
    assert!(errors(&port("\"\""))[0].contains("`name` of port 1 is empty"));
    assert!(
        errors(&format!("[[port]]\n{}", port("\"q\"").replace("[[port]]\nname = \"q\"", "")))[0]
            .contains("has no `name`")
    );
    let twice = format!("{LEAST}{}", LEAST.replace("net_null0", "net_null1").replace("10.0.0", "10.0.1"));
    assert!(errors(&twice)[0].starts_with("6:8: there are two ports with the name \"p\""));
    refused_line(
        "name        = \"block_scanners\"",
        "name = \"block_icmp\"",
        &["two firewall rules with the name \"block_icmp\""],
    );
    let service = "[[service]]\nname = \"web\"\nvip = \"203.0.113.100:81\"\n[[service.endpoint]]\naddress = \"10.1.0.10:81\"\n[snat]";
    refused("[snat]", service, "name = \"web\"", &["two services with the name \"web\""]);
    refused_line("name        = \"web\"", "name = \"a\\u0007\"", &["control character"]);
}

#[test]
fn routes_and_neighbors_are_checked() {
    refused_line(
        "via    = \"203.0.113.1\"",
        "via = \"203.0.114.1\"",
        &["`via` of route \"0.0.0.0/0\" is 203.0.114.1, which is on no port's network"],
    );
    refused_line("via    = \"203.0.113.1\"", "via = \"2001:db8:1::1\"", &["of the other address family"]);
    refused_line("via    = \"203.0.113.1\"", "via = \"203.0.113.2\"", &["an address of port \"wan\" itself"]);
    refused("via    = \"203.0.113.1\"", "", "[[route]]", &["route \"0.0.0.0/0\" has no `via`"]);
    refused_line("prefix = \"0.0.0.0/0\"", "prefix = \"10.9.8.7/8\"", &["the prefix is \"10.0.0.0/8\""]);
    refused(
        "[[neighbor]]",
        "[[route]]\nprefix = \"0.0.0.0/0\" # 2\nvia = \"203.0.113.9\"\n[[neighbor]]",
        "prefix = \"0.0.0.0/0\" # 2",
        &["two routes to 0.0.0.0/0"],
    );
    refused_line(
        "mac     = \"02:00:00:00:00:10\"",
        "mac = \"03:00:00:00:00:10\"",
        &["multicast or broadcast"],
    );
    refused_line("mac     = \"02:00:00:00:00:10\"", "mac = \"02:00:00:00:10\"", &["not a MAC address"]);
    refused_line(
        "port    = \"lan\"",
        "port = \"lam\"",
        &["is \"lam\", a port that does not exist", "did you mean \"lan\"?"],
    );
    refused(
        "address = \"10.1.0.10\"",
        "address = \"10.1.0.1\"",
        "address = \"10.1.0.1\"",
        &["is an address of port \"lan\" itself"],
    );
}

#[test]
fn services_are_checked() {
    let vip = "vip         = \"203.0.113.100:80\"";
    refused_line(vip, "vip = \"203.0.113.100\"", &["has no port", "\"203.0.113.100:80\""]);
    refused_line(vip, "vip = \"224.0.0.1:80\"", &["a multicast address"]);
    refused_line(vip, "vip = \"0.0.0.0:80\"", &["the unspecified address"]);
    refused_line(vip, "vip = \"[::1]:80\"", &["loopback"]);
    refused_line(vip, "vip = \"203.0.113.100:0\"", &["from 1 to 65535"]);
    refused_line(vip, "vip = \"203.0.113.100:90-80\"", &["ends before it begins"]);
    refused("vip         = \"203.0.113.100:80\"", "", "[[service]]", &["service \"web\" has no `vip`"]);
    refused_line(
        "protocol    = \"tcp\"",
        "protocol = \"icmp\"",
        &["`protocol` of service \"web\" is \"icmp\", which is unknown"],
    );
    refused_line("algorithm   = \"maglev\"", "algorithm = \"maglef\"", &["did you mean \"maglev\"?"]);
    refused_line("algorithm   = \"maglev\"", "algorithm = \"random\"", &["is \"random\", which is unknown"]);
    refused_line("persistence = \"0s\"", "persistence = \"31d\"", &["is 31d, not 0s to 30d"]);
    refused_line(
        "maglev_size = 65_537",
        "maglev_size = 65_536",
        &["is 65536, which is not a prime", "65537"],
    );
    refused_line("maglev_size = 65_537", "maglev_size = 2", &["too small for its 2 endpoints", "211"]);
    warned("maglev_size = 65_537", "maglev_size = 101", "coarse with 2 endpoints");
    refused_line("idle_timeout = \"4m\"", "idle_timeout = \"0s\"", &["is 0s, not 100ms to 30d"]);
    refused_line(
        "on_no_endpoint      = \"drop\"",
        "on_no_endpoint = \"rejekt\"",
        &["did you mean \"reject\"?"],
    );
}

#[test]
fn endpoints_are_checked() {
    let second = "address = \"10.1.0.11:8080\"";
    refused_line(second, "address = \"[2001:db8:1::9]:80\"", &["is IPv6, but the service's VIP is IPv4"]);
    refused_line(second, "address = \"10.1.0.11\"", &["has no port", "\"10.1.0.11:80\""]);
    refused_line(second, "address = \"10.1.0.11:80-90\"", &["with a range of ports"]);
    refused_line(second, "address = \"10.1.0.1:80\"", &["an address of port \"lan\" itself"]);
    refused_line(second, "address = \"203.0.113.100:81\"", &["is the VIP of service \"web\""]);
    refused(
        "address = \"10.1.0.11:8080\"",
        "address = \"10.1.0.10:8080\" # 2",
        "\"10.1.0.10:8080\" # 2",
        &["is there twice", "weight"],
    );
    refused_line("weight  = 2", "weight = 65536", &["is 65536, not 0 to 65535"]);
    refused_line("weight  = 2", "state = \"upp\"", &["did you mean \"up\"?"]);
    let unreachable =
        WHOLE.replace(second, "address = \"10.9.0.11:80\"").replace("\"0.0.0.0/0\"", "\"10.8.0.0/16\"");
    assert!(good(&unreachable).1[0].contains("no route leads to it"));
    warned(
        "weight  = 1\nstate   = \"up\"\nserver_id = \"\"\n[[service.endpoint]]\naddress = \"10.1.0.11:8080\"\nweight  = 2",
        "state = \"down\"\n",
        "no endpoint that is up",
    );
}

#[test]
fn server_ids_are_checked() {
    refused_line("server_id = \"\"", "server_id = \"xyz\"", &["hexadecimal"]);
    refused_line("server_id = \"\"", "server_id = \"0a0\"", &["hexadecimal", "two digits"]);
    refused_line(
        "server_id = \"\"",
        "server_id = \"0a0b\"",
        &["its service does not look at", "quic_server_id_bytes = 2"],
    );
    refused_line("quic_server_id_bytes = 0", "quic_server_id_bytes = 16", &["is 16, not 0 to 15"]);
    refused_line(
        "quic_server_id_bytes = 0",
        "quic_server_id_bytes = 4",
        &["its protocol is tcp", "QUIC is UDP"],
    );
    let quic = WHOLE.replace("protocol    = \"tcp\"", "protocol = \"udp\"");
    let text = |first: &str, second: &str| {
        quic.replace("quic_server_id_bytes = 0", "quic_server_id_bytes = 2")
            .replace("server_id = \"\"", first)
            .replace("weight  = 2", second)
    };
    let found = bad(&text("server_id = \"0a0b0c\"", "server_id = \"0a\""));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("has 3 bytes, not 2") && found[0].contains("4 hexadecimal digits"),
        "{found:?}"
    );
    assert!(found[1].contains("has 1 byte, not 2"), "{found:?}");
    let found = bad(&text("server_id = \"0A0b\"", "server_id = \"0a0B\""));
    assert!(found.len() == 1 && found[0].contains("is another endpoint's, too"), "{found:?}");
    let (config, warnings) = good(&text("server_id = \"0A0b\"", "server_id = \"0000\""));
    assert_eq!(warnings.len(), 0, "{warnings:?}");
    let service = &config.services[0];
    assert_eq!(service.quic_server_id_bytes, 2);
    assert_eq!([&service.endpoints[0].server_id, &service.endpoints[1].server_id], [&[10, 11], &[0, 0]]);
    let (_, warnings) = good(&text("server_id = \"0A0b\"", ""));
    assert!(warnings.len() == 1 && warnings[0].contains("has no `server_id`"), "{warnings:?}");
}

#[test]
fn further_addresses_are_checked() {
    refused_line(
        "secondary_vips = []",
        "secondary_vips = [\"10.0.0.1\"]",
        &["its protocol is tcp", "only SCTP"],
    );
    refused_line(
        "secondary_addresses = []",
        "secondary_addresses = [\"10.1.0.20\"]",
        &["has 1 `secondary_addresses`, and its service has 0 `secondary_vips`"],
    );
    refused_line("secondary_vips = []", "secondary_vips = [\"10.0.0.1:80\"]", &["leave out the port"]);
    refused_line("secondary_vips = []", "secondary_vips = [\"224.0.0.1\"]", &["multicast"]);
    let text = |vips: &str, first: &str, second: &str| {
        WHOLE
            .replace("protocol    = \"tcp\"", "protocol = \"sctp\"")
            .replace("secondary_vips = []", &format!("secondary_vips = [{vips}]"))
            .replace("secondary_addresses = []", &format!("secondary_addresses = [{first}]"))
            .replace("weight  = 2", &format!("secondary_addresses = [{second}]"))
    };
    let found = |vips: &str, first: &str, second: &str| errors(&text(vips, first, second));
    let one = |vips: &str, first: &str, second: &str, says: &[&str]| {
        let found = found(vips, first, second);
        assert_eq!(found.len(), 1, "{found:?}");
        says.iter().for_each(|say| assert!(found[0].contains(say), "{say}: {found:?}"));
    };
    let (vip, a, b) = ("\"203.0.113.101\"", "\"10.1.0.20\"", "\"10.1.0.21\"");
    one(vip, a, "", &["has 0 `secondary_addresses`, and its service has 1", "in the same order"]);
    one(
        vip,
        "\"2001:db8::1\"",
        b,
        &["2001:db8::1 of endpoint", "not of the family of its VIP 203.0.113.101"],
    );
    one(vip, "\"10.1.0.10\"", b, &["have 10.1.0.10, which it has already"]);
    one(vip, "\"10.1.0.1\"", b, &["an address of port \"lan\" itself"]);
    one(vip, vip, b, &["endpoint 203.0.113.101 of service \"web\" is the VIP of service \"web\""]);
    let other = format!(
        "{}[[service]]\nname = \"x\"\nprotocol = \"sctp\"\nvip = \"203.0.113.101:80\"\n\
         [[service.endpoint]]\naddress = \"10.1.0.9:80\"\n",
        text(vip, a, b)
    );
    let found = errors(&other);
    assert!(found.len() == 1 && found[0].contains("both have sctp port 80 of 203.0.113.101"), "{found:?}");
    let found = errors(&text(vip, a, b).replace("mode        = \"dnat\"", "mode = \"dsr-l2\""));
    assert!(found.iter().any(|f| f.contains("but its mode is dsr-l2")), "{found:?}");
    let most = (1..=8).map(|n| format!("\"203.0.113.20{n}\"")).collect::<Vec<_>>().join(", ");
    assert!(errors(&text(&most, a, b))[0].contains("are 8, more than 7"));
    let both = format!("{vip}, \"2001:db8::100\"");
    let (config, warnings) =
        good(&text(&both, "\"10.1.0.20\", \"2001:db8::1\"", "\"10.1.0.21\", \"2001:db8::2\""));
    assert!(warnings.iter().all(|w| w.contains("no route leads to it")), "{warnings:?}");
    let service = &config.services[0];
    assert_eq!(service.vips().count(), 3);
    assert_eq!(service.endpoints[1].secondary_addresses[0], v4([10, 1, 0, 21]));
}

#[test]
fn overlapping_services_are_found_whatever_their_order() {
    let service = |name: &str, vip: &str, protocol: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nprotocol = \"{protocol}\"\n\
             [[service.endpoint]]\naddress = \"10.0.0.5:80\"\n"
        )
    };
    let text = |vips: &[(&str, &str)]| {
        let services: String =
            vips.iter().enumerate().map(|(i, (vip, p))| service(&format!("s{i}"), vip, p)).collect();
        format!("{LEAST}{services}")
    };
    let found =
        bad(&text(&[("10.0.0.9:1-1000", "tcp"), ("10.0.0.9:10-20", "tcp"), ("10.0.0.9:900-2000", "tcp")]));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with(
            "13:7: service \"s1\" overlaps service \"s0\": both have tcp ports 10-20 of 10.0.0.9"
        )
    );
    assert!(
        found[1].starts_with("19:7: service \"s2\" overlaps service \"s0\": both have tcp ports 900-1000")
    );
    let found = bad(&text(&[("10.0.0.9:80", "udp"), ("10.0.0.9:80", "udp")]));
    assert!(found[0].contains("both have udp port 80"), "{found:?}");
    good(&text(&[
        ("10.0.0.9:80", "tcp"),
        ("10.0.0.9:80", "udp"),
        ("10.0.0.8:80", "tcp"),
        ("10.0.0.9:81", "tcp"),
    ]));
}

#[test]
fn firewall_rules_are_checked() {
    refused_line("protocol    = \"icmp\"", "protocol = \"igmp\"", &["`protocol` of firewall \"block_icmp\""]);
    refused_line("protocol    = \"icmp\"", "protocol = 256", &["is 256, not 0 to 255"]);
    refused_line("protocol    = \"icmp\"", "protocol = \"300\"", &["0 to 255"]);
    let ports = "protocol = \"icmp\"\ndestination_port = 5";
    refused("protocol    = \"icmp\"", ports, "destination_port = 5", &["its protocol has no ports"]);
    refused(
        "action      = \"drop\"\nprotocol    = \"icmp\"",
        "protocol = \"icmp\"",
        "[[firewall]]",
        &["has no `action`"],
    );
    refused_line("\"198.51.100.0/24\", ", "\"198.51.100.1/24\", ", &["the prefix is \"198.51.100.0/24\""]);
    refused_line("\"198.51.100.0/24\", ", "\"198.51.100.1\", ", &["\"198.51.100.1/32\""]);
    refused_line("source_port = \"0-65535\"", "source_port = \"5-1\"", &["ends before it begins"]);
    refused_line("port        = \"wan\"", "port = \"one\"", &["a port that does not exist", "wan"]);
    let (config, _) = good(&WHOLE.replace("protocol    = \"icmp\"", "protocol = 89"));
    assert_eq!(config.firewall[0].protocol, Some(89));
    let (config, _) =
        good(&WHOLE.replace("\"1-1023\"", "22").replacen("\"tcp\"\nsource", "\"132\"\nsource", 1));
    assert_eq!(config.firewall[1].destination_port, Some((22, 22)));
    warned("protocol    = \"icmp\"", "", "matches every packet");
}

#[test]
fn metrics_are_checked() {
    refused_line(
        "listen             = \"127.0.0.1:8080\"",
        "listen = \"127.0.0.1\"",
        &["\"127.0.0.1:8080\""],
    );
    refused_line("tick               = \"10s\"", "tick = \"999ms\"", &["is 999ms, not 1s to 1h"]);
    refused(
        "tick               = \"10s\"",
        "tick = \"3m\"",
        "distribution_tick",
        &["is 2m, shorter than `tick`, which is 3m"],
    );
    refused(
        "tick               = \"10s\"\ndistribution_tick  = \"2m\"",
        "tick = \"3m\"",
        "tick = \"3m\"",
        &["distribution_tick = \"3m\""],
    );
    refused_line(
        "service_label      = \"address\"",
        "service_label = \"adress\"",
        &["did you mean \"address\"?"],
    );
    refused_line("flow_series_limit  = 50_000", "flow_series_limit = -1", &["is -1"]);
}

#[test]
fn shapes_of_tables_are_checked() {
    assert!(
        bad("engine = 3\n")
            .iter()
            .any(|l| l.starts_with("1:10: `engine` of the file must be a table, but is an integer"))
    );
    let found = bad("[port]\nname = \"p\"\n");
    assert!(
        found.iter().any(|l| l.contains("must be a list of tables") && l.contains("[[port]]")),
        "{found:?}"
    );
    assert!(!found.iter().any(|l| l.contains("has no port")), "{found:?}");
    assert!(bad("port = [1]\n").iter().any(|l| l.contains("must be a list of tables, but is an integer")));
    good(
        "port = [{ name = \"p\", device = \"net_null0\", addresses = [\"10.0.0.1/24\"] }]\nengine.burst = 4\n",
    );
}

#[test]
fn several_problems_are_all_reported_in_file_order() {
    let text = "[engine]\nburst = 0\nidl = 1\n[[port]]\nname = \"p\"\ndevice = \"eth0\"\naddresses = [\"10.0.0.1/33\", \"x\"]\n\
                [[service]]\nname = \"s\"\nvip = \"1.2.3.4\"\n[[firewall]]\nname = \"f\"\nport = \"q\"\n";
    let found = bad(text);
    let places: Vec<&str> = found.iter().filter_map(|l| l.split(": ").next()).collect();
    assert_eq!(places, ["2:9", "3:1", "6:10", "7:14", "7:29", "8:1", "10:7", "11:1", "13:8"], "{found:#?}");
}

#[test]
fn an_error_in_a_port_raises_no_others_about_what_depends_on_it() {
    refused_line("\"10.1.0.1/24\"", "\"10.1.0.1/240\"", &["prefix length is not 0 to 32"]);
    refused_line("name      = \"lan\"", "name      = 7", &["`name` of port 2 must be a text"]);
}

#[test]
fn syntax_errors_have_places_and_hide_only_what_they_may_have_caused() {
    let found =
        bad("[engine]\nwokers = [1]\nburst = thirty\nidle =\n[metrics]\ntick = \"10s\nlisten = 5\nfoo = 1\n");
    let places: Vec<&str> = found.iter().filter_map(|l| l.split(": ").next()).collect();
    assert_eq!(places, ["2:1", "3:9", "4:7", "6:12"], "{found:#?}");
    assert!(found[1].contains("`thirty` is not a value") && found[1].contains("double quotes"), "{found:?}");
    assert!(found[2].contains("a value is missing"), "{found:?}");
    assert!(found[3].contains("not closed"), "{found:?}");
    let found = bad("[engine]\nworkers = [1,\nburst = 3\n[metrics]\ntick = \"1s\"\n[[port]]\n");
    assert!((1..=2).contains(&found.len()), "no echoes: {found:#?}");
    let found = bad(&format!("{LEAST}[engine]\nburst = 3\nburst = 4\nidle = \"x\"\n"));
    assert!(found.iter().any(|l| l.starts_with("7:1: `burst` is there twice")), "{found:?}");
    assert!(found.iter().any(|l| l.starts_with("8:8: `idle`")), "{found:?}");
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let line = |path: &Path| load(path).expect_err("unreadable").lines();
    let missing = line(&dir.path().join("none.toml"));
    assert!(missing.ends_with("no such file; name the file with --config FILE\n"), "{missing}");
    assert!(missing.starts_with(&format!("{}: ", dir.path().join("none.toml").display())), "{missing}");
    assert!(line(dir.path()).contains("it is a directory"));
    let latin = dir.path().join("latin1.toml");
    std::fs::write(&latin, b"[engine]\n# caf\xe9\n").unwrap();
    assert!(
        line(&latin).ends_with("latin1.toml:2:6: the configuration is not UTF-8 text; save it as UTF-8\n")
    );
    assert!(line(Path::new("/dev/zero")).contains("larger than 256 MiB"));
}

#[test]
fn interfaces_towards_the_kernel() {
    for (text, wanted) in [
        ("kernel = \"px wan\"", "`kernel` of port \"wan\" is \"px wan\", no name for an interface"),
        ("kernel = \"a-name-of-16-lett\"", "no name for an interface"),
        ("kernel = \"eth1\"", "the interface that port \"wan\" works on"),
    ] {
        let port = format!(
            "[[port]]\nname = \"wan\"\ndevice = \"net_af_packet0,iface=eth1\"\naddresses = [\"10.0.0.1/24\"]\n{text}\n"
        );
        let found = bad(&port);
        assert!(found.iter().any(|line| line.contains(wanted)), "{text}: {found:?}");
    }
    let two = |names: [&str; 2]| {
        let [a, b] = names;
        format!(
            "[engine]\ntransit = \"kernel\"\n[[port]]\nname = \"a\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/24\"]\nkernel = \"{a}\"\n\
             [[port]]\nname = \"b\"\ndevice = \"net_null1\"\naddresses = [\"10.1.0.1/24\"]\nkernel = \"{b}\"\n"
        )
    };
    let found = bad(&two(["px-a", "px-a"]));
    assert!(found.iter().any(|l| l.contains("two ports have the `kernel` interface \"px-a\"")), "{found:?}");
    let found = bad(&two(["", ""]));
    assert!(found.iter().any(|l| l.contains("no port has a `kernel` interface")), "{found:?}");
    let (config, _) = crate::config::parse("x.toml", &two(["px-a", ""])).unwrap();
    assert_eq!(config.ports[0].kernel.as_deref(), Some("px-a"));
    assert_eq!(config.ports[1].kernel, None);
    assert_eq!(config.engine.transit, crate::config::Transit::Kernel);
}

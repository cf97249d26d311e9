//! Modes and `[snat]`: what is read, and what is refused.

use super::*;

#[test]
fn modes_and_what_they_need() {
    let mode = "mode        = \"dnat\"";
    refused(
        mode,
        "mode = \"full-nat\"",
        "mode = \"full-nat\"",
        &["needs an IPv4 address in [snat]", "10.1.0.10"],
    );
    refused(mode, "mode = \"nat\"", "mode = \"nat\"", &["is \"nat\", which is unknown"]);
    refused(
        "client_address = \"none\"",
        "client_address = \"toa\"",
        "client_address = \"toa\"",
        &["`client_address`", "no meaning in mode dnat"],
    );
    refused(
        "tunnel_source = \"\"",
        "tunnel_source = \"10.1.0.1\"",
        "tunnel_source = \"10.1.0.1\"",
        &["`tunnel_source`", "no meaning in mode dnat"],
    );
    let two =
        "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/24\", \"2001:db8::1/64\"]\n";
    let with = |service: &str, endpoint: &str, tables: &str| {
        bad(&format!(
            "{two}[[service]]\nname = \"s\"\nvip = \"203.0.113.1:80\"\n{service}\n[[service.endpoint]]\naddress = \"{endpoint}\"\n{tables}"
        ))
    };
    let says = |found: Vec<String>, words: &str| {
        assert!(found.iter().any(|l| l.contains(words)), "{words}: {found:?}")
    };
    says(with("mode = \"dsr-l2\"", "10.9.0.10", ""), "on no port's own network");
    says(with("mode = \"dsr-l2\"", "[2001:db8::10]:80", ""), "dsr-l2 keeps the family");
    says(with("", "[2001:db8::10]:80", ""), "dnat keeps the family");
    says(
        with("mode = \"dsr-gue\"\ntunnel_source = \"2001:db8::1\"", "10.0.0.10", ""),
        "`tunnel_source` is IPv6",
    );
    says(with("mode = \"dsr-ipip\"", "10.0.0.10:8080", ""), "has port 8080, but the service has another");
    let full = "mode = \"full-nat\"";
    says(
        with(full, "[2001:db8::10]:80", "[snat]\naddresses = [\"10.0.0.2\"]"),
        "needs an IPv6 address in [snat]",
    );
    says(
        with(full, "10.0.0.10:80", "[snat]\naddresses = [\"10.0.0.1\"]"),
        "is an address of port \"a\" itself",
    );
    says(with(full, "10.0.0.10:80", "[snat]\naddresses = [\"203.0.113.1\"]"), "is the VIP of service \"s\"");
    says(
        with(full, "10.0.0.10:80", "[snat]\naddresses = [\"10.0.0.10\"]"),
        "is an endpoint of service \"s\"",
    );
    says(with(full, "10.0.0.10:80", "[snat]\naddresses = [\"10.0.0.2\", \"10.0.0.2\"]"), "twice");
    says(
        with(full, "10.0.0.10:80", "[snat]\naddresses = [\"10.0.0.2\"]\nports = \"9-1\""),
        "`ports` of [snat]",
    );
    says(
        with(
            &format!("{full}\nprotocol = \"udp\"\nclient_address = \"toa\""),
            "10.0.0.10:80",
            "[snat]\naddresses = [\"10.0.0.2\"]",
        ),
        "is for tcp, not udp",
    );
    let good = |service: &str, endpoint: &str, tables: &str| {
        let text = format!(
            "{two}[[service]]\nname = \"s\"\nvip = \"203.0.113.1:80\"\n{service}\n[[service.endpoint]]\naddress = \"{endpoint}\"\n{tables}"
        );
        crate::config::parse("t", &text).map(|(config, _)| config).unwrap_or_else(|e| panic!("{e}"))
    };
    use crate::config::{ClientAddress, Mode};
    let config = good(
        &format!("{full}\nclient_address = \"proxy-v2\""),
        "[2001:db8::10]:80",
        "[snat]\naddresses = [\"2001:db8::2\"]\nports = \"5000-6000\"",
    );
    assert_eq!(config.services[0].mode, Mode::FullNat(ClientAddress::ProxyV2));
    assert_eq!((config.snat.addresses.len(), config.snat.ports), (1, (5000, 6000)));
    let config = good("mode = \"dsr-gue\"\ngue_port = 7", "[2001:db8::10]:80", "");
    assert_eq!(config.services[0].mode, Mode::DsrTunnel { kind: crate::tunnel::Kind::Gue(7), source: None });
    assert_eq!(good("mode = \"dsr-l2\"", "10.0.0.10", "").services[0].endpoints[0].port, 0);
}

#[test]
fn probes_through_the_vip_and_what_they_need() {
    let with = |kernel: &str, mode: &str, vip: &str, endpoint: &str| {
        format!(
            "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/24\", \"2001:db8::1/64\"]\nkernel = \"{kernel}\"\n\
             [[service]]\nname = \"s\"\nvip = \"{vip}\"\nmode = \"{mode}\"\n\
             [service.health_check]\nkind = \"tcp\"\ntarget = \"vip\"\n\
             [[service.endpoint]]\naddress = \"{endpoint}\"\n"
        )
    };
    let vip = "203.0.113.1:80";
    let says = |text: &str, words: &str| {
        let found = bad(text);
        assert!(found.iter().any(|l| l.contains(words)), "{words}: {found:?}");
    };
    for mode in ["dnat", "full-nat"] {
        says(&with("px", mode, vip, "10.0.0.10:80"), &format!("is \"vip\", but its service is {mode}"));
    }
    says(&with("", "dsr-l2", vip, "10.0.0.10"), "no port has an interface of the kernel's");
    says(&with("px", "dsr-ipip", vip, "2001:db8::10"), "endpoint 2001:db8::10 is of the other family");
    for mode in ["dsr-l2", "dsr-ipip", "dsr-gue"] {
        for (vip, endpoint) in [(vip, "10.0.0.10"), ("[2001:db8:1::1]:80", "2001:db8::10")] {
            let text = with("px", mode, vip, endpoint);
            let (config, _) = parse("t", &text).unwrap_or_else(|_| panic!("{text}"));
            let check = config.services[0].health_check.clone().expect("a check");
            assert_eq!(check.target, ProbeTarget::Vip);
            assert!(check.keys().contains(&("target", "vip".to_owned())));
        }
    }
}

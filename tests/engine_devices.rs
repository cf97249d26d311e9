//! The engine on devices as a configuration names them: those that need no privileges, and those that are not there.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pollux::addr::{Addr, Prefix};
use pollux::config::{
    AdminSocket, Config, Control, Engine as EngineConfig, Idle, Metrics, OnUnknown, Port, Role, ServiceLabel,
    Transit,
};
use pollux::dpdk::Eal;
use pollux::engine::Engine;
use pollux::pcap::PcapWriter;

#[test]
fn devices() {
    let folder = tempfile::tempdir().unwrap();
    let eal = Engine::init_dpdk(&config(&["net_null0"])).unwrap();

    for (device, line) in [
        ("net_af_packet0,iface=no-such-if", "port p0: interface no-such-if does not exist (see ip link)"),
        (
            "net_no_such0,x=1",
            "port p0: DPDK has no driver for the virtual device net_no_such0 (net_af_packet0, net_tap0, net_memif0… are)",
        ),
        ("0000:ff:1f.7", "port p0: there is no PCI device 0000:ff:1f.7 (see lspci -D)"),
    ] {
        assert_eq!(refusal(&eal, device), line);
    }
    let line = refusal(&eal, "net_pcap0,rx_pcap=/no/such.pcap,tx_pcap=/no/such/out.pcap");
    assert!(line.starts_with("port p0: rte_eal_hotplug_add(vdev, net_pcap0, "), "{line}");
    assert!(line.ends_with("/no/such.pcap: No such file or directory)"), "{line}");
    let twice = config(&["net_null0", "net_null0"]);
    let line = Engine::open_devices(&eal, &twice).unwrap_err().to_string();
    assert!(line.starts_with("port p1: ") && line.contains("net_null0"), "{line}");

    let mut many = config(&["net_pcap0,tx_pcap=/dev/null"]);
    many.ports[0].queues = 3;
    let devices = Engine::open_devices(&eal, &many).unwrap();
    let line = Engine::start_on(&eal, &many, devices).unwrap_err().to_string();
    assert!(line.starts_with("port p0: queues = 3, but net_pcap has "), "{line}");

    // A device that delivers from a file, and one that takes and gives nothing that is IP. Twice: all that the first engine
    // had is given back.
    let capture = folder.path().join("in.pcap");
    let mut writer = PcapWriter::new(std::fs::File::create(&capture).unwrap()).unwrap();
    for i in 0..40_u8 {
        let frame = [[0xff; 12], [i; 12]].concat();
        writer.write(u64::from(i) * 1000, 24, &frame).unwrap();
    }
    drop(writer);
    for _ in 0..2 {
        let pcap = format!("net_pcap0,rx_pcap={},tx_pcap=/dev/null", capture.display());
        let config = config(&[&pcap, "net_null0,no-rx=1"]);
        let engine = Engine::start_on(&eal, &config, Engine::open_devices(&eal, &config).unwrap()).unwrap();
        assert!(engine.is_ready());
        let deadline = Instant::now() + Duration::from_secs(10);
        while engine.ports()[0].stats.rx_packets < 40 {
            assert!(Instant::now() < deadline, "{:?}", engine.ports());
            std::thread::sleep(Duration::from_millis(5));
        }
        let ports = engine.ports();
        assert_eq!(ports.iter().map(|p| p.driver.as_str()).collect::<Vec<_>>(), ["net_pcap", "net_null"]);
        engine.retire();
        assert!(!engine.is_ready());
        engine.stop();
        engine.stop();
        assert!(engine.mempool().is_none());
    }
}

fn refusal(eal: &Eal, device: &str) -> String {
    let line = Engine::open_devices(eal, &config(&[device])).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

fn config(devices: &[&str]) -> Config {
    let ports = devices.iter().enumerate().map(|(i, device)| Port {
        name: format!("p{i}"),
        device: (*device).into(),
        role: Role::Both,
        addresses: vec![Prefix { addr: Addr::v4([10, i as u8, 0, 1]), len: 24 }],
        mtu: 1500,
        vlan: 0,
        queues: 0,
        rx_descriptors: 256,
        tx_descriptors: 256,
        kernel: None,
    });
    Config {
        engine: EngineConfig {
            workers: vec![],
            main_cpu: None,
            hugepages: false,
            memory_mb: 64,
            eal_args: vec![],
            max_flows: 1024,
            burst: 32,
            idle: Idle::Backoff,
            on_unknown: OnUnknown::Drop,
            transit: Transit::Drop,
            shutdown_delay: Duration::ZERO,
        },
        ports: ports.collect(),
        routes: vec![],
        neighbors: vec![],
        services: vec![],
        snat: pollux::config::Snat { addresses: vec![], ports: (1024, 65_535) },
        firewall: vec![],
        control: Control { socket: AdminSocket::Off, watch: false },
        metrics: Metrics {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tick: Duration::from_secs(1),
            distribution_tick: Duration::from_secs(10),
            service_label: ServiceLabel::Address,
            flow_series_limit: 100,
            aliases: false,
            max_connections: 64,
            header_timeout: Duration::from_secs(5),
            access: pollux::config::Access::default(),
        },
    }
}

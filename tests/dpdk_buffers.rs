//! Pools, mbufs and ring ports against the real DPDK, on ordinary memory. One test: EAL is of the process.
#![allow(clippy::unwrap_used)]

use arrayvec::ArrayVec;
use pollux::config::Role;
use pollux::dpdk::{
    Eal, EalOptions, Mbuf, Mempool, PortSetup, Registration, RingPort, Rss, RssSetup, allowed_cpus, free_all,
    ring_port, set_sctp_crc_offload,
};
use pollux::pipeline::{Frame, MAX_BURST, RxChecksum};
use pollux::steering::Steering;

#[test]
fn buffers_and_rings() {
    let cpus = allowed_cpus();
    let options = EalOptions { memory_mb: 64, cpus: cpus.clone(), ..EalOptions::default() };
    let eal = Eal::init(&options).unwrap();
    assert_eq!(allowed_cpus(), cpus, "EAL must not leave this thread pinned");
    let again = Eal::init(&options).unwrap_err().to_string();
    assert_eq!(again, "rte_eal_init: only once in a process: Operation already in progress");

    errors_say_what_and_why(&eal);
    allocation_and_release(&eal);
    frames_grow_and_shrink(&eal);
    segments_become_one(&eal);
    sctp_crc_is_left_to_the_device_where_all_have_it(&eal);
    rings_carry_frames(&eal);
    redirection_tables_are_filled(&eal);
    oversized_segments_are_refused(&eal);
    threads_register(&eal);
    a_pool_outlives_its_frames(&eal);
}

fn pool(eal: &Eal, name: &str, size: u32) -> Mempool {
    Mempool::new(eal, name, size, 2048).unwrap()
}

fn errors_say_what_and_why(eal: &Eal) {
    let error = Mempool::new(eal, "huge", 1_000_000, 2048).unwrap_err();
    assert_eq!(error.to_string(), "rte_pktmbuf_pool_create(huge, 1000000 buffers): Cannot allocate memory");
    let _one = pool(eal, "twice", 63);
    let error = Mempool::new(eal, "twice", 63, 2048).unwrap_err();
    assert_eq!(error.to_string(), "rte_pktmbuf_pool_create(twice, 63 buffers): File exists");
    let error = ring_port(eal, "odd", 1, 1, 100).unwrap_err().to_string();
    assert_eq!(error, "rte_ring_create(odd-rx0): Invalid argument");

    let error = eal.attach("net_no_such0", "").unwrap_err();
    assert!(error.to_string().starts_with("rte_eal_hotplug_add(vdev, net_no_such0, ): "), "{error}");
    assert_eq!(error.log(), Some("EAL: failed to parse device \"vdev:net_no_such0\""));
    let error = eal.attach("net_pcap0", "rx_pcap=/no/such/file").unwrap_err();
    assert!(error.to_string().contains("/no/such/file: No such file or directory"), "{error}");
    let error = eal.find("0000:3b:00.0").unwrap_err().to_string();
    assert_eq!(error, "rte_eth_dev_get_port_by_name(0000:3b:00.0): No such device");
}

fn allocation_and_release(eal: &Eal) {
    let pool = pool(eal, "release", 63);
    assert_eq!((pool.size(), pool.in_use()), (63, 0));
    {
        let frame = pool.frame(b"hello").unwrap();
        assert_eq!((frame.data(), frame.len(), pool.in_use()), (&b"hello"[..], 5, 1));
        assert_eq!(frame.headroom(), usize::from(Mempool::HEADROOM));
        assert_eq!(frame.rx_checksum(), RxChecksum::Unknown);
    }
    assert_eq!(pool.in_use(), 0);

    let mut all = ArrayVec::<Mbuf, 64>::new();
    assert!(!pool.frames(64, &mut all), "more than there are");
    assert!(all.is_empty());
    assert!(pool.frames(63, &mut all));
    assert_eq!(pool.in_use(), 63);
    assert!(pool.frame(b"one too many").is_none());
    free_all(&mut all);
    assert_eq!(pool.in_use(), 0);
    assert!(pool.frame(&[0; 2049]).is_none(), "longer than the data room");
    assert_eq!(pool.in_use(), 0);

    // Released by another thread than the one that allocated.
    let frame = pool.frame(b"far away").unwrap();
    std::thread::spawn(move || drop(frame)).join().unwrap();
    assert_eq!(pool.in_use(), 0);
}

fn frames_grow_and_shrink(eal: &Eal) {
    let pool = pool(eal, "grow", 63);
    let mut frame = pool.frame(b"payload").unwrap();
    assert!(frame.grow_front(4));
    frame.data_mut()[..4].copy_from_slice(b"HEAD");
    assert_eq!((frame.data(), frame.len()), (&b"HEADpayload"[..], 11));
    frame.shrink_front(4);
    assert_eq!(frame.data(), b"payload");
    frame.truncate(100);
    assert_eq!(frame.data(), b"payload");
    frame.truncate(3);
    assert_eq!((frame.data(), frame.len()), (&b"pay"[..], 3));
    assert!(frame.grow_front(frame.headroom()));
    assert!(!frame.grow_front(1), "no headroom is left");
    assert!(!frame.grow_front(100_000));
    assert_eq!(frame.len(), 3 + usize::from(Mempool::HEADROOM));
    frame.shrink_front(1_000_000);
    assert!(frame.is_empty());
}

fn segments_become_one(eal: &Eal) {
    let pool = pool(eal, "segments", 63);
    let mut head = pool.frame(b"one,").unwrap();
    head.chain(pool.frame(b"two,").unwrap()).unwrap();
    head.chain(pool.frame(b"three").unwrap()).unwrap();
    assert!(head.is_segmented());
    assert_eq!((head.len(), pool.in_use()), (13, 3));
    assert!(head.linearize());
    assert!(!head.is_segmented());
    assert_eq!((head.data(), pool.in_use()), (&b"one,two,three"[..], 1));

    head.chain(pool.frame(&[0; 2048]).unwrap()).unwrap();
    assert!(!head.linearize(), "too long for one buffer");
    assert_eq!(pool.in_use(), 2);
    drop(head);
    assert_eq!(pool.in_use(), 0);
}

fn sctp_crc_is_left_to_the_device_where_all_have_it(eal: &Eal) {
    let pool = pool(eal, "sctp", 63);
    let mut packet = [0xff; 14 + 20 + 16];
    packet[14] = 0x45;
    let mut frame = pool.frame(&packet).unwrap();
    assert!(!frame.offload_sctp_crc(14, 20));
    set_sctp_crc_offload(true);
    assert!(frame.offload_sctp_crc(14, 20));
    assert_eq!(frame.data()[34 + 8..34 + 12], [0; 4]);
    assert!(!frame.offload_sctp_crc(14, 600), "l3_len has nine bits");
    assert!(!frame.offload_sctp_crc(14, 40), "beyond the end");
    set_sctp_crc_offload(false);
}

/// `net_null` has a redirection table of 128 entries, and no hash of one side alone.
fn redirection_tables_are_filled(eal: &Eal) {
    let pool = pool(eal, "rss", 1023);
    for (number, role) in (0..).zip([Role::Client, Role::Both]) {
        let device = eal.attach(&format!("net_null{number}"), "no-rx=1").unwrap();
        assert!(device.info().unwrap().rss);
        let steering = Steering::new(7, 3);
        let rss = RssSetup {
            role,
            key: *steering.key(),
            queues: steering.workers().map(|worker| u16::from(worker.0) + 1),
        };
        let setup = PortSetup {
            rx_queues: 4,
            rss: Some(rss),
            tx_queues: 4,
            rx_descriptors: 64,
            tx_descriptors: 64,
            mtu: 1500,
        };
        let (port, _rx, _tx) = device.start(&setup, &pool).unwrap();
        assert_eq!(port.redirection().as_deref(), Some(&rss.queues[..]));
        assert_eq!(port.granted().rss, Rss::Tuple, "{role:?}");
    }
    // One queue needs none.
    let device = eal.attach("net_null2", "no-rx=1").unwrap();
    let setup = PortSetup {
        rx_queues: 1,
        rss: None,
        tx_queues: 1,
        rx_descriptors: 64,
        tx_descriptors: 64,
        mtu: 1500,
    };
    let (port, _rx, _tx) = device.start(&setup, &pool).unwrap();
    assert_eq!(port.granted().rss, Rss::None);
}

fn rings_carry_frames(eal: &Eal) {
    let pool = pool(eal, "rings", 511);
    let RingPort { device, mut inject, mut collect } = ring_port(eal, "t0", 2, 1, 64).unwrap();
    let info = device.info().unwrap();
    assert_eq!((info.driver.as_str(), info.max_rx_queues, info.max_tx_queues), ("net_ring", 2, 1));
    assert!(!info.rss && !info.rx_ipv4_checksum && !info.tx_sctp_crc);
    let setup = PortSetup {
        rx_queues: 2,
        rss: None,
        tx_queues: 1,
        rx_descriptors: 64,
        tx_descriptors: 64,
        mtu: 1500,
    };
    let (port, mut rx, mut tx) = device.start(&setup, &pool).unwrap();
    assert!(port.link_up());
    assert!(port.mac().is_ok());

    let mut frames = ArrayVec::<Mbuf, MAX_BURST>::new();
    let mut refused = ArrayVec::new();
    rx[0].burst(32, &mut frames, &mut refused);
    assert!(frames.is_empty());

    // Into queue 1, out of queue 1 only, in order.
    let mut out = ArrayVec::<Mbuf, 128>::new();
    out.extend((0..10_u8).map(|i| pool.frame(&[i; 60]).unwrap()));
    assert_eq!(inject[1].send(&mut out), 10);
    assert!(out.is_empty());
    rx[0].burst(32, &mut frames, &mut refused);
    assert!(frames.is_empty());
    rx[1].burst(4, &mut frames, &mut refused);
    rx[1].burst(32, &mut frames, &mut refused);
    assert_eq!(frames.iter().map(|frame| frame.data()[0]).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert_eq!(pool.in_use(), 10);

    // A full TX queue takes what fits; the rest stays, in order.
    out.extend(frames.drain(..));
    out.extend((10..100_u8).map(|i| pool.frame(&[i; 60]).unwrap()));
    assert_eq!(tx[0].burst(&mut out), 63);
    assert_eq!(out.iter().map(|frame| frame.data()[0]).collect::<Vec<_>>(), (63..100).collect::<Vec<_>>());
    assert_eq!(tx[0].burst(&mut out), 0);
    assert_eq!(collect[0].waiting(), 63);
    assert_eq!(collect[0].receive(64, &mut frames), 63);
    assert_eq!(frames[62].data()[0], 62);
    assert_eq!(pool.in_use(), 100);
    free_all(&mut frames);
    free_all(&mut out);
    assert_eq!(pool.in_use(), 0);
    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (10, 63));

    // What is left in the rings goes back when they go.
    out.push(pool.frame(b"left behind").unwrap());
    inject[0].send(&mut out);
    drop((port, rx, tx));
    assert_eq!(inject[0].waiting(), 1);
    drop((inject, collect));
    assert_eq!(pool.in_use(), 0);
}

fn oversized_segments_are_refused(eal: &Eal) {
    let pool = pool(eal, "refused", 63);
    let RingPort { device, mut inject, .. } = ring_port(eal, "t1", 1, 1, 64).unwrap();
    let setup = PortSetup {
        rx_queues: 1,
        rss: None,
        tx_queues: 1,
        rx_descriptors: 64,
        tx_descriptors: 64,
        mtu: 1500,
    };
    let (_port, mut rx, _tx) = device.start(&setup, &pool).unwrap();
    let mut out = ArrayVec::<Mbuf, 4>::new();
    for second in [&[2; 100][..], &[2; 2048], &[2; 200]] {
        let mut frame = pool.frame(&[1; 100]).unwrap();
        frame.chain(pool.frame(second).unwrap()).unwrap();
        out.push(frame);
    }
    assert_eq!(inject[0].send(&mut out), 3);
    let mut frames = ArrayVec::<Mbuf, MAX_BURST>::new();
    let mut refused = ArrayVec::new();
    rx[0].burst(32, &mut frames, &mut refused);
    assert_eq!(frames.iter().map(Mbuf::len).collect::<Vec<_>>(), [200, 300]);
    assert_eq!(frames.iter().map(|frame| frame.data().len()).collect::<Vec<_>>(), [200, 300]);
    assert_eq!(refused[..], [2148]);
    frames.clear();
    assert_eq!(pool.in_use(), 0);
}

fn threads_register(eal: &Eal) {
    let pool = pool(eal, "threads", 2047);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (eal, pool) = (eal.clone(), pool.clone());
            std::thread::spawn(move || {
                let _registered = Registration::new(&eal).unwrap();
                let mut frames = ArrayVec::<Mbuf, 64>::new();
                for _ in 0..100 {
                    assert!(pool.frames(64, &mut frames));
                    free_all(&mut frames);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(pool.in_use(), 0);
}

fn a_pool_outlives_its_frames(eal: &Eal) {
    let mut frame = {
        let pool = pool(eal, "outlived", 63);
        pool.frame(b"still here").unwrap()
    };
    // The name is still taken: the pool was not freed.
    assert!(Mempool::new(eal, "outlived", 63, 2048).is_err());
    frame.data_mut()[0] = b'S';
    assert_eq!(frame.data(), b"Still here");
}

//! What clients cannot take from others.

use std::net::Shutdown;
use std::sync::atomic::AtomicBool;

use super::*;

/// Tells the others that it is over, also where that is by a failure: who waits for them would never hear of it.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Half a request: the rest never comes.
const HALF: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Half: ";

#[test]
fn two_hundred_slow_ones_change_nothing_for_a_good_one() {
    let server = Server::open(limits());
    let mut slow = Vec::new();
    for n in 0..200 {
        let mut stream = server.connect();
        // Nothing, half a header, or a request and then nothing.
        match n % 3 {
            0 => {}
            1 => stream.write_all(HALF).unwrap(),
            _ => stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap(),
        }
        slow.push(stream);
    }
    until("the last ones are there", || server.rejected("displaced") >= 192);
    assert_eq!(server.gate.stats().connections, 8);
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(server.get("/metrics", "").status, 200);
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}, far less than the header timeout",
            began.elapsed()
        );
    }
    assert_eq!(server.rejected("full"), 0);
}

#[test]
fn a_header_has_its_time_however_it_comes() {
    let server = Server::open(Limits { header_timeout: Duration::from_millis(600), ..limits() });
    let began = Instant::now();
    let mut nothing = server.connect();
    let mut drip = server.connect();
    let dripping = {
        let mut drip = drip.try_clone().unwrap();
        std::thread::spawn(move || {
            while drip.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        })
    };
    for stream in [&mut nothing, &mut drip] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
    assert!(began.elapsed() >= Duration::from_millis(550), "{:?}", began.elapsed());
    until("both are counted", || server.rejected("header_timeout") == 2);
    drip.shutdown(Shutdown::Both).ok();
    dripping.join().unwrap();

    // The same on a connection that was of use before.
    let mut stream = server.connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(stream.read(&mut [0; 512]).unwrap() > 12);
    std::thread::sleep(Duration::from_millis(800));
    let began = Instant::now();
    stream.write_all(HALF).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    assert!(began.elapsed() >= Duration::from_millis(500), "idle time is not header time");
    until("it is counted", || server.rejected("header_timeout") == 3);
}

#[test]
fn an_idle_connection_is_closed_without_ado() {
    let server = Server::open(Limits { idle: Duration::from_millis(300), ..limits() });
    let mut stream = server.connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert!(all.starts_with(b"HTTP/1.1 200"));
    until("it is gone", || server.gate.stats().connections == 0);
    assert_eq!(server.gate.stats().rejected, [0; REJECTIONS.len()]);
}

#[test]
fn headers_have_eight_kibibytes() {
    let server = Server::open(limits());
    let filler = |bytes| format!("X-Filler: {}\r\n", "a".repeat(bytes));
    assert_eq!(server.get("/metrics", &filler(7500)).status, 200);
    assert_eq!(server.get("/metrics", &filler(9000)).status, 431);
    assert_eq!(server.get("/metrics", &"X-A: b\r\n".repeat(200)).status, 431);
    assert_eq!(server.get(&format!("/{}", "a".repeat(9000)), "").status, 431);
    until("all are counted", || server.answered("431") == 3);
    assert_eq!(talk(server.connect(), "nonsense\r\n\r\n").unwrap().status, 400);
    until("it is counted", || server.answered("400") == 1);
}

#[test]
fn bodies_have_sixty_four() {
    let server = Server::open(limits());
    let post = |length: usize, body: &str| {
        let head = format!(
            "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        talk(server.connect(), &(head + body)).unwrap()
    };
    let whole = "b".repeat(64 << 10);
    assert_eq!(post(whole.len(), &whole).body, whole);
    // Before it is sent.
    assert_eq!(post(65 << 10, "").status, 413);
    let chunk = "8000\r\n".to_owned() + &"c".repeat(0x8000) + "\r\n";
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        talk(server.connect(), &(head.to_owned() + &chunk.repeat(3) + "0\r\n\r\n")).unwrap().status,
        413
    );
    assert_eq!(server.answered("413"), 2);
}

#[test]
fn where_everybody_is_being_answered_one_more_is_refused_at_once() {
    let server = Server::open(Limits { connections: 2, ..limits() });
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap()
    };
    let mut busy = [server.connect(), server.connect()];
    busy.iter_mut().for_each(ask);
    until("both are being answered", || server.waiting.load(Ordering::Relaxed) == 2);
    let mut third = server.connect();
    let _ = third.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let _ = third.read_to_end(&mut answer);
    assert_eq!((answer.len(), server.rejected("full")), (0, 1));
    server.go_on.notify_one();
    server.go_on.notify_one();
    for stream in &mut busy {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("at last"));
    }
    assert_eq!(server.get("/healthz", "").status, 200);
}

#[test]
fn who_does_not_read_is_cut_off_and_keeps_nobody_out() {
    let server = Server::open(limits());
    let ask = |stream: &mut TcpStream| stream.write_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut slow: Vec<_> = (0..8).map(|_| server.connect()).collect();
    slow.iter_mut().for_each(ask);
    until("all wait for their readers", || server.answered("200") == 8);
    // They have a second to read, on a busy machine a little more; from then on everybody gets in.
    std::thread::sleep(Duration::from_millis(1200));
    let asked = || server.try_get("/metrics", "").is_some_and(|reply| reply.status == 200);
    until("there is a place", asked);
    for _ in 0..4 {
        assert_eq!(server.get("/metrics", "").status, 200);
    }
    until("one lost its place", || server.rejected("displaced") >= 1);

    let server = Server::open(Limits { stall: Duration::from_millis(500), ..limits() });
    let mut byte_by_byte = server.connect();
    ask(&mut byte_by_byte);
    let began = Instant::now();
    let mut taken = 0;
    while server.rejected("slow_reader") == 0 {
        taken += byte_by_byte.read(&mut [0; 1]).unwrap();
        assert!(began.elapsed() < Duration::from_secs(20), "{taken} bytes, and still served");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.gate.stats().connections, 0);

    // One that is slow, but reads on, gets it all.
    let mut steady = server.connect();
    ask(&mut steady);
    let (mut taken, mut buffer) = (0, vec![0; 1 << 20]);
    while taken < BIG {
        let n = steady.read(&mut buffer).unwrap();
        assert!(n > 0, "cut off after {taken}");
        taken += n;
        std::thread::sleep(Duration::from_millis(if taken < BIG / 4 { 20 } else { 0 }));
    }
    assert_eq!(server.rejected("slow_reader"), 1);
}

#[test]
fn ten_at_once_get_all_of_it_beside_one_that_reads_a_byte_now_and_then() {
    let server = Server::open(Limits { connections: 64, ..limits() });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _at_the_end = Over(&over);
        let mut slow = server.connect();
        slow.write_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let over = &over;
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) && slow.read(&mut [0; 1]).is_ok_and(|n| n == 1) {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let scrapers: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..3 {
                        assert_eq!(server.get("/big", "").body.len(), BIG);
                    }
                })
            })
            .collect();
        for scraper in scrapers {
            scraper.join().unwrap();
        }
    });
    // The slow one may have lost its patience's worth of time meanwhile; nobody else was refused or cut off.
    let others = REJECTIONS.into_iter().filter(|reason| *reason != "slow_reader");
    assert!(
        others.map(|reason| server.rejected(reason)).all(|n| n == 0) && server.rejected("slow_reader") <= 1
    );
    assert_eq!(server.answered("200"), 31);
}

/// Two hundred scrapers that read a kilobyte now and then, one that reads a byte a second, and ten ordinary ones, with the places that there
/// are by default: all ten get every page whole. Of the slow ones those who find no place are refused, and those who have one lose it to the ten.
#[test]
fn two_hundred_slow_scrapers_and_one_that_reads_a_byte_a_second_change_nothing_for_ten() {
    let server = Server::open(Limits { connections: Limits::default().connections, ..limits() });
    let over = AtomicBool::new(false);
    let ask = |stream: &mut TcpStream| stream.write_all(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n");
    std::thread::scope(|scope| {
        let _at_the_end = Over(&over);
        let mut byte_by_byte = server.connect();
        ask(&mut byte_by_byte).unwrap();
        let over = &over;
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) && byte_by_byte.read(&mut [0; 1]).is_ok_and(|n| n == 1) {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let slow = || {
            let mut stream = server.connect();
            // There may be no place.
            let _ = ask(&mut stream);
            stream.set_nonblocking(true).unwrap();
            stream
        };
        let mut all: Vec<_> = (0..200).map(|_| slow()).collect();
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                all.retain_mut(|stream| match stream.read(&mut [0; 1024]) {
                    Ok(n) => n > 0,
                    Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
                });
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        until("the slow ones have all places", || server.gate.stats().connections == 64);
        // From there on they have a second to read.
        std::thread::sleep(Duration::from_millis(1200));
        let ten: Vec<_> = (0..10).map(|_| server.connect()).collect();
        until("all ten have places at once", || server.rejected("displaced") >= 10);
        let ten: Vec<_> = ten
            .into_iter()
            .map(|stream| {
                let server = &server;
                scope.spawn(move || {
                    let mut first = Some(stream);
                    for _ in 0..5 {
                        let stream = first.take().unwrap_or_else(|| server.connect());
                        let reply = get_over(stream, "/page", "").expect("an answer");
                        let whole = (reply.status, reply.body.len());
                        assert_eq!(whole, (200, PAGE.len()), "{:?}", server.gate.stats());
                        assert!(reply.body.as_bytes() == &**PAGE);
                    }
                })
            })
            .collect();
        for scraper in ten {
            scraper.join().unwrap();
        }
    });
    // Nobody was cut off for anything else.
    let [full, displaced, slow] = ["full", "displaced", "slow_reader"].map(|reason| server.rejected(reason));
    assert_eq!(full + displaced + slow, server.gate.stats().rejected.iter().sum::<u64>());
    assert!((10..=201).contains(&displaced), "{full} refused, {displaced} displaced, {slow} too slow");
}

#[test]
fn a_flood_of_requests_keeps_nobody_waiting() {
    let server = Server::open(limits());
    let over = AtomicBool::new(false);
    let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50);
    std::thread::scope(|scope| {
        let _at_the_end = Over(&over);
        for _ in 0..7 {
            let mut stream = server.connect();
            let mut reader = stream.try_clone().unwrap();
            let requests = &requests;
            let over = &over;
            scope.spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while reader.read(&mut buffer).is_ok_and(|n| n > 0) {}
            });
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) && stream.write_all(requests).is_ok() {}
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
        until("the flood flows", || server.answered("200") > 1000);
        for _ in 0..20 {
            let began = Instant::now();
            assert_eq!(server.get("/metrics", "").status, 200);
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        }
    });
}

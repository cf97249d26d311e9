//! The readers of captures, and that what they have read can be written and read again.

use std::io::Cursor;
use std::path::Path;

use pollux::addr::Mac;
use pollux::pcap::{Direction, Error, MAX_CAPTURED, PcapWriter, PcapngWriter, Reader, Record};

const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// A file of the classic format.
pub fn pcap(data: &[u8]) {
    if !data.starts_with(&SECTION_HEADER) {
        read(data);
    }
}

/// A file of the new format.
pub fn pcapng(data: &[u8]) {
    if data.starts_with(&SECTION_HEADER) {
        read(data);
    }
}

/// A record that owns its bytes: time, length on the wire, frame.
type Owned = (Option<u64>, u32, Vec<u8>);

fn read(data: &[u8]) {
    let (records, whole) = all(data);
    let again = all(data);
    assert_eq!((&records, whole), (&again.0, again.1), "the same again");

    let mut written = PcapWriter::new(Vec::new()).unwrap();
    let mut written_ng = PcapngWriter::new(Vec::new(), "fuzz").unwrap();
    written_ng.interface("one").unwrap();
    for (time, original_len, frame) in &records {
        let time = time.unwrap_or(0);
        written.write(time, *original_len, frame).unwrap();
        written_ng.write(0, time, *original_len, frame, Direction::Inbound, None).unwrap();
    }
    // The classic format's seconds have 32 bits.
    let saturated = |time: u64| {
        u64::from(u32::try_from(time / 1_000_000_000).unwrap_or(u32::MAX)) * 1_000_000_000
            + time % 1_000_000_000
    };
    for (bytes, ng) in [(written.finish().unwrap(), false), (written_ng.finish().unwrap(), true)] {
        let (back, whole) = all(&bytes);
        assert!(whole, "what was written is whole");
        assert_eq!(back.len(), records.len());
        for ((time, len, frame), (time_back, len_back, frame_back)) in records.iter().zip(&back) {
            let time = time.unwrap_or(0);
            assert_eq!(*time_back, Some(if ng { time } else { saturated(time) }));
            assert_eq!((frame_back, *len_back), (frame, *len));
        }
    }
}

/// Reads all, and says whether the file ends where a record ends.
fn all(data: &[u8]) -> (Vec<Owned>, bool) {
    let mut records = Vec::new();
    let mut reader = match Reader::new(Path::new("fuzz.pcap"), Cursor::new(data.to_vec())) {
        Ok(reader) => reader,
        Err(e) => {
            message(&e);
            return (records, false);
        }
    };
    let mut frame = Vec::new();
    loop {
        match reader.next_packet() {
            Ok(Some(Record { time, original_len, link, data: packet })) => {
                assert!(packet.len() <= MAX_CAPTURED as usize && packet.len() <= data.len());
                link.frame(packet, Mac([2, 0, 0, 0, 0, 1]), (packet.len() & 0xfff) as u16, &mut frame);
                // A header of at most 18 bytes goes before it, and a writer cuts what is too long.
                frame.truncate(MAX_CAPTURED as usize);
                records.push((time, original_len, frame.clone()));
                // A record has a header of at least 16 bytes.
                assert!(records.len() <= data.len() / 16);
            }
            Ok(None) => {
                let whole = reader.cut_off().is_none();
                assert!(reader.cut_off().is_none_or(|at| at <= data.len() as u64));
                return (records, whole);
            }
            Err(e) => {
                message(&e);
                assert!(matches!(reader.next_packet(), Ok(None)), "nothing after an error");
                return (records, false);
            }
        }
    }
}

fn message(e: &Error) {
    assert!(e.to_string().starts_with("fuzz.pcap: "), "{e}");
}

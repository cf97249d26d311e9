//! The fuzz targets over their seeds, and over every input that has ever broken something (`fuzz/cases/<target>/`): a crash
//! that was found once is tested for ever.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use pollux::counters::Term;

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target)
}

/// What lies in a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(&path).unwrap())
    };
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

/// Runs every file of a kind, and names those that panic. Says how many there were.
fn run(kind: &str) -> usize {
    let mut count = 0;
    let mut failed = Vec::new();
    for (target, act) in fuzz::TARGETS {
        for (name, bytes) in files(&folder(kind, target)) {
            count += 1;
            if catch_unwind(AssertUnwindSafe(|| act(&bytes))).is_err() {
                failed.push(format!("fuzz/{kind}/{target}/{name}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    count
}

#[test]
fn cases_stay_mended() {
    run("cases");
}

#[test]
fn no_folder_is_without_a_target() {
    for kind in ["cases", "seeds"] {
        let known = fuzz::TARGETS.map(|(target, _)| target);
        for entry in fs::read_dir(folder(kind, "")).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                known.contains(&&*name),
                "fuzz/{kind}/{name}: no target of this name, so nothing runs it"
            );
        }
    }
}

#[test]
fn seeds_pass() {
    assert!(run("seeds") > 40);
}

#[test]
fn seeds_reach_every_verdict() {
    let mut sum = [0; Term::ALL.len()];
    for (_, _, bytes) in fuzz::seeds::all().iter().filter(|(target, _, _)| *target == "pipeline") {
        for (sum, n) in sum.iter_mut().zip(fuzz::pipeline::terms(bytes)) {
            *sum += n;
        }
    }
    for (term, n) in Term::ALL.into_iter().zip(sum) {
        // These are of the kernel's interface.
        let kernel = matches!(term, Term::Punted | Term::Injected);
        // And this one of full TX queues, which seeds leave to the fuzzer.
        assert!(n > 0 || kernel || term == Term::TxDropped, "{term:?}");
    }
}

/// A world that drops what its seeds send teaches the fuzzer nothing. What may be dropped of these is what they mean to be: answers
/// to a tunnel's outside, errors that are too long, second paths where there is none, all after a reload that takes endpoints away.
#[test]
fn seeds_of_the_modes_get_through() {
    let seeds = fuzz::seeds::all();
    for (name, least) in [("full_nat", 84), ("other_family", 65), ("tunnels", 46)] {
        let (_, _, bytes) = seeds.iter().find(|(_, seed, _)| *seed == name).unwrap();
        let terms = fuzz::pipeline::terms(bytes);
        let of = |term: Term| terms[Term::ALL.iter().position(|t| *t == term).unwrap()];
        let (forwarded, all) = (of(Term::Forwarded), of(Term::Rx));
        println!("{name}: {forwarded} forwarded of {all}");
        assert!(forwarded >= least, "{name}: {forwarded} forwarded of {all}, not {least}");
    }
}

/// `POLLUX_UPDATE_SEEDS=1 cargo test --test fuzz_cases` writes them anew.
#[test]
fn the_tree_has_the_seeds() {
    let update = std::env::var_os("POLLUX_UPDATE_SEEDS").is_some();
    for (target, _) in fuzz::TARGETS {
        let folder = folder("seeds", target);
        let wanted: BTreeMap<String, Vec<u8>> = fuzz::seeds::all()
            .into_iter()
            .filter(|(of, _, _)| *of == target)
            .map(|(_, name, bytes)| (name.to_owned(), bytes))
            .collect();
        assert!(!wanted.is_empty(), "{target}");
        if update {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            for (name, bytes) in &wanted {
                fs::write(folder.join(name), bytes).unwrap();
            }
        }
        assert!(
            files(&folder) == wanted,
            "{}: POLLUX_UPDATE_SEEDS=1 cargo test --test fuzz_cases writes it anew",
            folder.display()
        );
    }
}

/// splitmix64
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ *seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// A little of what `ci/fuzz` does, blindly, the same in every run; more of it with `POLLUX_CHANGED_SEEDS`, a number for each target.
#[test]
fn changed_seeds_pass() {
    let mut seed = 1;
    let rounds = std::env::var("POLLUX_CHANGED_SEEDS").map_or(200, |n| n.parse().unwrap());
    let seeds = fuzz::seeds::all();
    for (target, act) in fuzz::TARGETS {
        let own: Vec<_> = seeds.iter().filter(|(of, _, _)| *of == target).collect();
        for _ in 0..rounds {
            let mut pick = |n: usize| random(&mut seed) as usize % n.max(1);
            let mut bytes = own[pick(own.len())].2.clone();
            for _ in 0..pick(8) {
                let at = pick(bytes.len());
                match pick(5) {
                    0 if !bytes.is_empty() => bytes[at] = pick(256) as u8,
                    1 if !bytes.is_empty() => bytes[at] ^= 1 << pick(8),
                    2 => bytes.truncate(at),
                    3 => {
                        let other = &own[pick(own.len())].2;
                        bytes.extend_from_slice(&other[pick(other.len())..]);
                    }
                    _ => {
                        let to = bytes.len().min(at + pick(8));
                        bytes.copy_within(at..to, 0);
                    }
                }
            }
            if catch_unwind(AssertUnwindSafe(|| act(&bytes))).is_err() {
                let crash = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}"));
                fs::write(&crash, &bytes).unwrap();
                panic!("{target}: the input is in {}", crash.display());
            }
        }
    }
}

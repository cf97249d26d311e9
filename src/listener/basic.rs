//! Basic authentication (RFC 7617) against bcrypt hashes.
//!
//! A hash is meant to be slow, and the control threads have other things to do: each answer is kept, one hash is computed at a time, in a
//! thread of its own; after a wrong password that rests for as long as it took, so that who tries passwords takes half a CPU at most.
//! Right passwords are kept apart, and are not pushed out by wrong ones.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use super::files::Trouble;

/// Answers that are kept, of each kind.
const KEPT: usize = 100;
/// Requests that may wait for their turn.
const WAITING: usize = 8;
/// The longest rest after a wrong password.
const REST: Duration = Duration::from_secs(1);
/// Above it a hash takes seconds.
const SLOW_COST: u32 = 14;
/// A hash without its cost, for names that nobody has.
const NOBODY: &str = "R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW";

/// Users and their hashes.
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// What is computed for a name that nobody has, so that the time does not tell.
    decoy: String,
    /// For [`Kept`]: no password stays in memory.
    seal: hmac::Key,
    kept: Mutex<Kept>,
    turn: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

#[derive(Default)]
struct Kept {
    right: Ring,
    wrong: Ring,
}

/// The newest few.
#[derive(Default)]
struct Ring {
    seals: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Ring {
    fn keep(&mut self, seal: [u8; 32]) {
        if self.seals.insert(seal) {
            self.order.push_back(seal);
            if self.order.len() > KEPT
                && let Some(oldest) = self.order.pop_front()
            {
                self.seals.remove(&oldest);
            }
        }
    }
}

/// What is known of a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Too many wait to be checked.
    Busy,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} user(s)", self.hashes.len())
    }
}

impl Users {
    /// And a warning, where there is a reason.
    pub fn new(hashes: BTreeMap<String, String>) -> Result<(Self, Option<Trouble>), Trouble> {
        let mut most = 0;
        let mut slow = None;
        for (name, hash) in &hashes {
            let cost = hash.parse::<bcrypt::HashParts>().map(|parts| parts.get_cost()).ok();
            let cost = cost.filter(|cost| (4..=31).contains(cost)).ok_or_else(|| {
                Trouble::new(
                    format!("`basic_auth_users`: what user {name:?} has is no bcrypt hash"),
                    "`htpasswd -nBC 10 USER` makes one",
                )
            })?;
            if cost > SLOW_COST {
                slow = slow.or(Some((name.clone(), cost)));
            }
            most = most.max(cost);
        }
        let seal = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| Trouble::new("`basic_auth_users`: the system has no random numbers", "try again"))?;
        let warning = slow.map(|(name, cost)| {
            Trouble::new(
                format!("`basic_auth_users`: the hash of user {name:?} has cost {cost}: each new password takes seconds of a CPU"),
                "a cost of 10 to 12 is usual: `htpasswd -nBC 10 USER`",
            )
        });
        let users = Self {
            hashes,
            decoy: format!("$2b${most:02}${NOBODY}"),
            seal,
            kept: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        };
        Ok((users, warning))
    }

    /// Whether the password is this user's.
    pub async fn check(self: &Arc<Self>, name: &str, password: &[u8]) -> Verdict {
        let known = self.hashes.get(name);
        let hash = known.unwrap_or(&self.decoy);
        let seal = self.sealed(name, hash, password);
        if let Some(kept) = self.kept(&seal) {
            return kept;
        }
        let Ok(waiting) = Arc::clone(&self.waiting).try_acquire_owned() else { return Verdict::Busy };
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return Verdict::Busy };
        // Another one may have asked the same.
        if let Some(kept) = self.kept(&seal) {
            return kept;
        }
        let (users, hash, password, exists) =
            (Arc::clone(self), hash.clone(), password.to_vec(), known.is_some());
        // All in there, whether the client still waits or not.
        let work = tokio::task::spawn_blocking(move || {
            let _places = (turn, waiting);
            let began = Instant::now();
            let right = bcrypt::verify(&password, &hash).unwrap_or(false) && exists;
            users.keep(seal, right);
            if right {
                return Verdict::Right;
            }
            std::thread::sleep(began.elapsed().min(REST));
            Verdict::Wrong
        });
        work.await.unwrap_or(Verdict::Busy)
    }

    fn sealed(&self, name: &str, hash: &str, password: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.seal);
        for part in [name.as_bytes(), hash.as_bytes(), password] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut seal = [0; 32];
        seal.copy_from_slice(context.sign().as_ref());
        seal
    }

    fn cache(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, seal: &[u8; 32]) -> Option<Verdict> {
        let kept = self.cache();
        if kept.right.seals.contains(seal) {
            Some(Verdict::Right)
        } else {
            kept.wrong.seals.contains(seal).then_some(Verdict::Wrong)
        }
    }

    fn keep(&self, seal: [u8; 32], right: bool) {
        let mut kept = self.cache();
        if right { kept.right.keep(seal) } else { kept.wrong.keep(seal) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Arc<Users> {
        let hash = |password| bcrypt::hash(password, 4).unwrap();
        let hashes = [("alice".to_owned(), hash("secret")), ("bob".to_owned(), hash("other"))].into();
        Arc::new(Users::new(hashes).unwrap().0)
    }

    #[tokio::test]
    async fn right_and_wrong() {
        let users = users();
        for _ in 0..2 {
            assert_eq!(users.check("alice", b"secret").await, Verdict::Right);
            for (name, password) in
                [("alice", &b"other"[..]), ("bob", b"secret"), ("carol", b"secret"), ("", b"")]
            {
                assert_eq!(users.check(name, password).await, Verdict::Wrong, "{name}");
            }
        }
        assert_eq!(format!("{users:?}"), "2 user(s)");
    }

    #[tokio::test]
    async fn wrong_ones_push_no_right_one_out_and_only_so_many_wait() {
        let users = users();
        assert_eq!(users.check("alice", b"secret").await, Verdict::Right);
        for n in 0..2 * KEPT {
            users.keep(users.sealed("alice", "a hash", &n.to_le_bytes()), false);
        }
        {
            let kept = users.cache();
            assert_eq!((kept.right.seals.len(), kept.wrong.seals.len()), (1, KEPT));
        }

        // While nobody gets a turn, those who are known go on.
        let turn = users.turn.clone().acquire_owned().await.unwrap();
        let waiting: Vec<_> = (0..WAITING)
            .map(|n| {
                let users = users.clone();
                tokio::spawn(async move { users.check("bob", format!("{n}").as_bytes()).await })
            })
            .collect();
        while users.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(users.check("bob", b"one more").await, Verdict::Busy);
        assert_eq!(users.check("alice", b"secret").await, Verdict::Right);
        drop(turn);
        for task in waiting {
            assert_eq!(task.await.unwrap(), Verdict::Wrong);
        }
        assert_eq!(users.check("bob", b"other").await, Verdict::Right);
    }

    #[test]
    fn what_is_no_hash_is_named() {
        let one = |hash: &str| Users::new([("john".to_owned(), hash.to_owned())].into());
        for hash in ["doe", "", "$2y$10$short", "$1$abc$def"] {
            let trouble = one(hash).unwrap_err();
            assert_eq!(trouble.message, "`basic_auth_users`: what user \"john\" has is no bcrypt hash");
        }
        let (_, warning) = one(&format!("$2y$18${NOBODY}")).unwrap();
        assert!(warning.unwrap().message.contains("cost 18"));
        assert!(bcrypt::verify("x", &format!("$2b$04${NOBODY}")).is_ok(), "the decoy is well-formed");
    }
}

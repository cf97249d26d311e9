//! The places for connections: `metrics.max_connections` of them.
//!
//! When all are taken, a new connection gets that of the one that has been waited for longest, for its handshake, its header or its
//! next request; then that of one that does not read its answer; then that of one that came only just before it. So slow clients, however
//! many, keep nobody out. Where everybody is being answered, the new one is refused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;
use tokio::time::Instant;

use super::life::Life;

/// The places that are taken.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Slab<Arc<Life>>>);

/// A place, until it is dropped or given to another.
pub(super) struct Place {
    places: Arc<Places>,
    number: usize,
    pub life: Arc<Life>,
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Slab<Arc<Life>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn len(&self) -> usize {
        self.taken().len()
    }

    /// A place for one more connection, of `most`; none where all are taken by those who are being answered.
    pub fn take(self: &Arc<Self>, most: usize) -> Option<Place> {
        let mut taken = self.taken();
        if taken.len() >= most {
            let now = Instant::now();
            let ranked = taken.iter().filter_map(|(number, life)| Some((life.rank(now)?, number)));
            let (_, number) = ranked.min()?;
            taken.remove(number).displace();
        }
        let life = Life::new();
        let number = taken.insert(Arc::clone(&life));
        drop(taken);
        Some(Place { places: Arc::clone(self), number, life })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        // Another one may have it.
        if taken.get(self.number).is_some_and(|life| Arc::ptr_eq(life, &self.life)) {
            taken.remove(self.number);
        }
    }
}

//! What is in force: the limits and the security of the listener, which a reload exchanges.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::places::Places;
use super::tally::{ListenerStats, Tally};
use super::{Limits, Security};

/// One listener's.
#[derive(Debug)]
pub struct Gate {
    settings: ArcSwap<Settings>,
    /// Each exchange of the security.
    changed: watch::Sender<()>,
    pub(super) places: Arc<Places>,
    pub(super) tally: Tally,
}

/// What holds for a connection as long as nothing changes.
#[derive(Debug)]
pub(super) struct Settings {
    pub limits: Limits,
    pub security: Arc<Security>,
}

impl Gate {
    /// With these from the beginning.
    #[must_use]
    pub fn new(limits: Limits, security: Security) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwap::from_pointee(Settings { limits, security: Arc::new(security) }),
            changed: watch::Sender::new(()),
            places: Arc::default(),
            tally: Tally::default(),
        })
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The security in force.
    #[must_use]
    pub fn security(&self) -> Arc<Security> {
        Arc::clone(&self.settings.load().security)
    }

    /// Goes over to others. Connections that were opened under another security end with the answer under way.
    pub fn exchange(&self, limits: Limits, security: Security) {
        let same = self.security().is_same(&security);
        let security = if same { self.security() } else { Arc::new(security) };
        self.settings.store(Arc::new(Settings { limits, security }));
        if !same {
            self.changed.send_replace(());
        }
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What it counts.
    #[must_use]
    pub fn stats(&self) -> ListenerStats {
        ListenerStats {
            connections: self.places.len() as u64,
            certificate_expiry: self.security().certificate_expiry(),
            ..self.tally.read()
        }
    }
}

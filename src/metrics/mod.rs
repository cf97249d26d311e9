//! From the workers' counters to what Prometheus scrapes.
//!
//! The [`Aggregator`] folds the counter banks at rest into totals and series, and publishes one consistent snapshot a tick; a [`Ticker`]
//! drives it in a thread of its own. [`http`] serves the newest snapshot. What each family means is in [`families`].

mod aggregator;
mod catalog;
mod device;
mod encode;
mod exposition;
pub mod families;
mod figures;
mod flows;
mod handover;
mod health;
pub mod http;
mod minute;
mod pairs_page;
mod render;
mod system;
mod tally;
#[cfg(test)]
mod tests;
mod ticker;
mod totals;

pub use aggregator::{Aggregator, Settings, Step};
pub use device::{DeviceStats, HealthStats, KernelStats, PoolStats, PortStats};
pub use exposition::{Exposition, Publication, Stale};
pub use figures::{Count, EndpointFigures, Figures, Load, PortFigures, ServiceFigures, Total};
pub use flows::{Cut, Frozen, Selection, Text, Unknown};
pub use pairs_page::Pairs;
pub use ticker::{Clock, Ticker};

//! The kernel as the control plane's network stack: its interfaces for our ports, its neighbours and routes, and the guard that keeps
//! it off the interfaces that we use ourselves.
//!
//! Everything here makes system calls and belongs to control threads; packets get here over rings alone
//! (`engine::exchange`).

mod error;
mod guard;
mod netlink;
mod routes;
mod tap;

pub use error::KernelError;
pub use guard::Guard;
pub use netlink::{NeighborEvent, Netlink, Watch};
pub use routes::RouteWatch;
pub use tap::{Tap, TapSettings};

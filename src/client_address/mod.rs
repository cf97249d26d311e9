//! How an endpoint behind full NAT learns who the client is (`client_address`): by a TCP option, or by a header at the
//! beginning of the stream.
//!
//! - `toa`: the option
//! - `proxy`: PROXY protocol v2, with the sequence numbers of a stream that has grown by a header
//! - `options`: the option space of a segment
//! - `insert`: bytes put into a TCP segment
//! - `notes`: what is remembered of a connection for it

mod insert;
mod notes;
pub mod options;
pub mod proxy;
pub mod toa;

pub(crate) use insert::set_length;
pub use insert::{option, payload, trim};
pub use notes::Notes;

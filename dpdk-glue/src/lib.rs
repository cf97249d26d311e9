//! Raw bindings to DPDK, and a C shim for what its headers only offer as macros and static inlines.
//!
//! Nothing here is safe and nothing here is checked: the invariants of each function are those of DPDK's own
//! documentation, and the caller states them. The shim's functions begin with `px_` and are described in `shim.h`.
//! On the data path it has one function per burst; the fields of an mbuf are read through the layout that bindgen found,
//! which is asserted at compile time.

#![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

//! Pollux, an L4 load balancer and packet engine: the modules in the order in which a packet and its counts meet them.

pub mod addr;
pub mod ids;
mod index;
pub mod time;

pub mod config;
pub mod tables;

pub mod wire;

pub mod parse;

pub mod client_address;
pub mod conntrack;
pub mod firewall;
pub mod fragment;
pub mod neighbor;
pub mod pipeline;
pub mod responder;
pub mod rewrite;
pub mod route;
pub mod service;
pub mod siit;
pub mod snat;
pub mod steering;
pub mod tunnel;

pub mod counters;
pub mod metrics;

pub mod dpdk;
pub mod kernel;

pub mod preflight;

pub mod engine;
pub mod health;
pub mod listener;

pub mod api;
pub mod capture;
pub mod control;
pub mod reload;

pub mod pcap;
pub mod replay;
pub mod trace;

pub mod import;

pub mod demo;

pub mod bench;

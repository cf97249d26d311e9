//! Endpoints by the server ids that QUIC connection ids name.

use arrayvec::ArrayVec;
use hashbrown::HashMap;

use crate::config;
use crate::wire::quic::{self, MAX_SERVER_ID};

/// The server ids of a service. They are configured, not learnt: a flood cannot make them collide.
#[derive(Debug)]
pub(super) struct ServerIds {
    bytes: usize,
    /// To positions in the service's endpoints.
    endpoints: HashMap<ArrayVec<u8, MAX_SERVER_ID>, u32>,
}

impl ServerIds {
    /// None where the service does not route by them.
    pub fn compile(service: &config::Service) -> Option<Self> {
        let bytes = usize::from(service.quic_server_id_bytes);
        let id = |e: &config::Endpoint| ArrayVec::try_from(&e.server_id[..]).ok();
        let named = (0..).zip(&service.endpoints).filter(|(_, e)| e.server_id.len() == bytes);
        let endpoints = named.filter_map(|(n, e)| Some((id(e)?, n))).collect();
        (bytes > 0).then_some(Self { bytes, endpoints })
    }

    /// The position of the endpoint that a UDP payload's connection id names.
    #[inline]
    pub fn named(&self, payload: &[u8]) -> Option<usize> {
        let id = quic::server_id(payload, self.bytes)?;
        self.endpoints.get(id).map(|&n| n as usize)
    }
}

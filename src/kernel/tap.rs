//! TAP interfaces: the kernel's side of a port.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::{KernelError, Netlink};
use crate::addr::{Addr, Mac, Prefix};

/// An interface of the kernel's with a port's MAC and addresses. It goes when this is dropped, and with the process.
pub struct Tap {
    device: SyncDevice,
    name: String,
    index: u32,
}

/// What a port's TAP is to have.
#[derive(Debug, Clone, Copy)]
pub struct TapSettings<'a> {
    /// The interface's name.
    pub name: &'a str,
    /// The port's MAC.
    pub mac: Mac,
    /// The port's MTU.
    pub mtu: u16,
    /// The port's addresses.
    pub addresses: &'a [Prefix],
    /// VIPs to be answered there.
    pub vips: &'a [Addr],
}

impl Tap {
    /// Makes it and brings it up. One of this name that was left behind, or that was made for us, is taken over: what
    /// addresses it had are removed.
    ///
    /// # Errors
    /// An interface of that name that is another's, a missing privilege, settings that the kernel refuses.
    pub fn create(netlink: &mut Netlink, settings: &TapSettings<'_>) -> Result<Self, KernelError> {
        let &TapSettings { name, mac, mtu, addresses, vips } = settings;
        let device = DeviceBuilder::new()
            .name(name)
            .layer(Layer::L2)
            .mac_addr(mac.0)
            .mtu(mtu)
            .enable(false)
            .build_sync()
            .map_err(|error| refused(name, error))?;
        let failed =
            |what: &str, error| KernelError::Settings { name: name.into(), what: what.into(), error };
        device.set_nonblocking(true).map_err(|error| failed("non-blocking mode", error))?;
        let index = device.if_index().map_err(|error| failed("its index", error))?;
        let tap = Self { device, name: name.into(), index };
        let vips = vips.iter().filter(|vip| addresses.iter().all(|own| own.addr != **vip));
        let wanted: Vec<_> = addresses
            .iter()
            .map(|&own| (own, false))
            .chain(vips.map(|&vip| (Prefix { addr: vip, len: host_len(vip) }, true)))
            .collect();
        for stale in netlink.addresses(index).map_err(|error| failed("its addresses", error))? {
            if !stale.addr.is_link_local_v6() && wanted.iter().all(|(prefix, _)| *prefix != stale) {
                netlink
                    .delete_address(index, stale)
                    .map_err(|error| failed(&format!("removing {stale}"), error))?;
            }
        }
        for (prefix, vip) in wanted {
            netlink
                .add_address(index, prefix, vip)
                .map_err(|error| failed(&format!("address {prefix}"), error))?;
        }
        tap.device.enabled(true).map_err(|error| failed("bringing it up", error))?;
        Ok(tap)
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's number of the interface.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Gives the kernel a frame.
    ///
    /// # Errors
    /// EIO while the interface is down; ENOBUFS, ENOMEM.
    pub fn send(&self, frame: &[u8]) -> io::Result<usize> {
        self.device.send(frame)
    }

    /// Takes a frame that the kernel sends; never waits.
    ///
    /// # Errors
    /// `WouldBlock` where there is none; EIO or `EBADFD` where the interface was removed.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.recv(buffer)
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("name", &self.name).field("index", &self.index).finish_non_exhaustive()
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

const fn host_len(addr: Addr) -> u8 {
    if addr.is_v4() { 32 } else { 128 }
}

/// Says why there is no TAP of that name.
fn refused(name: &str, error: io::Error) -> KernelError {
    let there = fs::exists(format!("/sys/class/net/{name}")).unwrap_or(false);
    let is_tap = fs::exists(format!("/sys/class/net/{name}/tun_flags")).unwrap_or(false);
    match error.kind() {
        io::ErrorKind::ResourceBusy => KernelError::Busy { name: name.into() },
        _ if there && !is_tap => KernelError::NoTap { name: name.into() },
        _ => KernelError::Tap { name: name.into(), error },
    }
}

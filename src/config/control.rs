//! `[control]`

use std::path::PathBuf;

use super::model::{AdminSocket, Control};
use super::section::Section;
use super::value::{Fault, quote};
use crate::control::MAX_SOCKET_PATH;

pub(super) fn read(mut s: Section<'_>) -> Control {
    let socket = s.parsed("socket", admin_socket).map_or(AdminSocket::Default, |l| l.value);
    let watch = s.flag("watch", false);
    s.finish();
    Control { socket, watch }
}

fn admin_socket(text: &str) -> Result<AdminSocket, Fault> {
    if text.is_empty() {
        return Ok(AdminSocket::Off);
    }
    if !text.starts_with('/') || text.ends_with('/') || text.contains('\0') {
        return Err(Fault::new(
            format!("is {}, which is no absolute path of a file", quote(text)),
            "for example \"/run/pollux/pollux.sock\"; \"\" is none",
        ));
    }
    if text.len() > MAX_SOCKET_PATH {
        let message = format!("is a path of {} bytes", text.len());
        return Err(Fault::new(
            message,
            format!("unix sockets have paths of at most {MAX_SOCKET_PATH} bytes"),
        ));
    }
    Ok(AdminSocket::At(PathBuf::from(text)))
}

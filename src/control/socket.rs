//! Binding the admin socket: nobody else's is taken away, and none that a crash has left is in the way.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use super::MAX_SOCKET_PATH;

/// Why there is no admin socket. One line each, with what to do about it.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another engine has it.
    #[error("admin socket {}: another engine answers there; stop it, or choose another path (control.socket)", .path.display())]
    Live {
        /// Where.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("admin socket {}: there is something that is no socket; remove it, or choose another path (control.socket)", .path.display())]
    NoSocket {
        /// Where.
        path: PathBuf,
    },
    /// Longer than the system takes.
    #[error("admin socket {}: a path of {} bytes, of which {MAX_SOCKET_PATH} are possible (control.socket)", .path.display(), .path.as_os_str().len())]
    TooLong {
        /// Where.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("admin socket {}: {}", .path.display(), cure(.error))]
    System {
        /// Where.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

fn cure(error: &io::Error) -> String {
    let cure = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            "its directory does not exist; make it, or choose another path (control.socket)"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "its directory is not writable; choose another path (control.socket)"
        }
        _ => return error.to_string(),
    };
    cure.to_owned()
}

/// The bound socket. Its file goes with it.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl Listener {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Not one that came later under the same name.
        if fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether there is a socket's file and nobody behind it: what a process leaves that was killed. One of another type than
/// a stream's refuses the question, and is not disturbed by it.
pub(crate) fn is_abandoned(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Binds a socket of mode 0600 at `path`. One that nobody answers on is replaced.
///
/// # Errors
/// [`BindError`]; nothing is changed then.
pub fn bind(path: &Path) -> Result<Listener, BindError> {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(BindError::TooLong { path: path.to_owned() });
    }
    let refused = |error| BindError::System { path: path.to_owned(), error };
    // Of two engines that start at once only one at a time looks and binds.
    let folder = path.parent().unwrap_or(Path::new("/"));
    let lock = File::open(folder).map_err(refused)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| refused(error.into()))?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NoSocket { path: path.to_owned() });
        }
        Ok(_) if is_abandoned(path) => fs::remove_file(path).map_err(refused)?,
        // Also one that may not be asked, or is too busy to answer.
        Ok(_) => return Err(BindError::Live { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
    }
    let listen = || {
        let socket = UnixListener::bind(path)?;
        // Until then the peer's credentials keep others out; they do so afterwards too.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        socket.set_nonblocking(true)?;
        let file = fs::symlink_metadata(path)?;
        Ok(Listener { socket, path: path.to_owned(), file: (file.dev(), file.ino()) })
    };
    listen().map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.sock");
        // As a crash leaves it: the file without a listener.
        drop(UnixListener::bind(&path).unwrap());
        let first = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = bind(&path).unwrap_err();
        assert!(matches!(error, BindError::Live { .. }), "{error}");
        UnixStream::connect(&path).unwrap();
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.sock");
        fs::write(&path, "precious").unwrap();
        assert!(!is_abandoned(&path));
        assert!(matches!(bind(&path).unwrap_err(), BindError::NoSocket { .. }));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();

        let ours = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists(), "the other one's file is gone");
        drop(theirs);
    }

    #[test]
    fn errors_are_one_line_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        for (path, word) in [
            (folder.path().join("no/such/p.sock"), "does not exist"),
            (folder.path().join("x".repeat(120)), "107"),
        ] {
            let line = bind(&path).unwrap_err().to_string();
            assert!(line.contains(word) && line.contains("control.socket") && !line.contains('\n'), "{line}");
        }
    }
}

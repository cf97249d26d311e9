//! Files that secure the listener: read whole, and looked at for who else may read them.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

/// More than any of them needs.
const MOST: u64 = 1 << 20;

/// What is wrong, after the name of the file or of its part; and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Trouble {
    pub message: String,
    pub cure: String,
}

impl Trouble {
    pub fn new(message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { message: message.into(), cure: cure.into() }
    }

    /// Of this file.
    pub fn of(self, path: &Path) -> Self {
        Self { message: format!("{} {}", path.display(), self.message), ..self }
    }
}

/// What a file has, and how to know whether it has something else later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Print {
    pub key: &'static str,
    pub path: PathBuf,
    digest: Vec<u8>,
}

/// A file's bytes.
pub(super) struct Contents {
    pub bytes: Vec<u8>,
    pub print: Print,
    mode: u32,
}

/// Reads the file that is meant by `key`.
pub(super) fn read(key: &'static str, path: &Path) -> Result<Contents, Trouble> {
    let read = || -> io::Result<(Vec<u8>, u32)> {
        let found = fs::metadata(path)?;
        // Opening a pipe would wait for who writes it.
        if !found.is_file() && !found.is_dir() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok((bytes, found.mode()))
    };
    let (bytes, mode) = read().map_err(|error| unreadable(&error).of(path))?;
    let print = Print { key, path: path.to_owned(), digest: digest(&SHA256, &bytes).as_ref().to_vec() };
    Ok(Contents { bytes, print, mode })
}

fn unreadable(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::NotFound => Trouble::new("does not exist", "make it, or name another file"),
        io::ErrorKind::PermissionDenied => Trouble::new(
            "cannot be read: permission denied",
            "let the user that runs pollux read it and the folders above it",
        ),
        io::ErrorKind::IsADirectory => Trouble::new("is a directory", "name the file in it"),
        io::ErrorKind::InvalidInput => Trouble::new("is no regular file", "name a regular file"),
        io::ErrorKind::FileTooLarge => {
            Trouble::new(format!("is larger than {} KiB", MOST >> 10), "name another file")
        }
        _ => Trouble::new(format!("cannot be read: {error}"), "name another file"),
    }
}

impl Contents {
    /// A warning about a secret that others can read, or put another one in its place.
    pub fn loose(&self, what: &str) -> Option<Trouble> {
        let who = match self.mode {
            mode if mode & 0o004 != 0 => "everybody can read it",
            mode if mode & 0o022 != 0 => "others than its owner can write it",
            _ => return None,
        };
        let path = self.print.path.display();
        Some(
            Trouble::new(
                format!("has {what}, and {who} (mode {:04o})", self.mode & 0o7777),
                format!("chmod o=,g-w {path}"),
            )
            .of(&self.print.path),
        )
    }
}

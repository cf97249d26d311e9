//! `control.watch`: a reload when the file has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Reloader;

/// How often the file is looked at. One that is being written is read when it has looked the same twice.
const LOOK: Duration = Duration::from_millis(500);

/// What tells one state of a file from another: device and inode (a file that was renamed into its place), length, time of the
/// last change.
type Print = (u64, u64, u64, i64, i64);

fn print_of(path: &Path) -> Option<Print> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
}

/// Calls `changed` when the engine's file has changed, as long as the configuration wants it. A file that is gone is no change. Its
/// path is asked for each time: another reload may have named another.
pub async fn watch<F: Future<Output = ()>>(
    reloader: Arc<Reloader>,
    wanted: impl Fn() -> bool,
    changed: impl Fn() -> F,
) {
    let mut path = reloader.path();
    let mut read = print_of(&path);
    let mut seen = read;
    loop {
        tokio::time::sleep(LOOK).await;
        let now_at = reloader.path();
        let now = print_of(&now_at);
        if now_at != path || !wanted() {
            // What is there was read by who has named it, or does not matter yet.
            (path, read, seen) = (now_at, now, now);
            continue;
        }
        if now.is_some() && now != read && now == seen {
            read = now;
            changed().await;
        }
        seen = now;
    }
}

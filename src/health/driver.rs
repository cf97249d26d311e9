//! Probes at work.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::{AbortHandle, JoinSet};

use super::board::{Board, Target};
use super::probe::{Failure, Probers};
use super::schedule::Schedule;

/// Changes within this time go to the workers together: a compile costs more than one of them.
const GATHER: Duration = Duration::from_millis(5);
/// Before tables that could not be published are tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Probes what the board says, for as long as the runtime lives. `publish` makes what the board says hold, on a thread that may wait, and
/// says whether it has.
pub async fn keep(board: Arc<Board>, publish: impl Fn() -> bool + Send + Sync + 'static) {
    let probers = Arc::new(Probers::new(board.seed, board.nat()));
    let mut tasks = JoinSet::new();
    tasks.spawn(spread(Arc::clone(&board), Arc::new(publish)));
    let mut running: HashMap<Target, AbortHandle> = HashMap::new();
    loop {
        let targets = board.targets();
        let wanted: HashSet<&Target> = targets.iter().map(|(target, _)| target).collect();
        running.retain(|target, task| {
            let stays = wanted.contains(target);
            if !stays {
                task.abort();
            }
            stays
        });
        let now = Instant::now();
        for (target, place) in targets {
            running.entry(target).or_insert_with_key(|target| {
                let schedule = Schedule::new(now, target.check.interval, place, board.seed);
                tasks.spawn(probe(Arc::clone(&board), Arc::clone(&probers), target.clone(), schedule))
            });
        }
        while tasks.try_join_next().is_some() {}
        board.planned.notified().await;
    }
}

async fn probe(board: Arc<Board>, probers: Arc<Probers>, target: Target, mut schedule: Schedule) {
    loop {
        tokio::time::sleep_until(schedule.next(Instant::now()).into()).await;
        let began = Instant::now();
        let timeout = target.check.timeout;
        let result = tokio::time::timeout(timeout, probers.probe(&target)).await;
        let result = result.unwrap_or_else(|_| Err(Failure::Bad(format!("no answer within {timeout:?}"))));
        board.record(&target, result, began.elapsed());
    }
}

/// Gathers changes, and publishes them.
async fn spread(board: Arc<Board>, publish: Arc<dyn Fn() -> bool + Send + Sync>) {
    loop {
        board.changed.notified().await;
        tokio::time::sleep(GATHER).await;
        let publish = Arc::clone(&publish);
        match tokio::task::spawn_blocking(move || publish()).await {
            Ok(true) => {}
            Ok(false) => {
                tokio::time::sleep(RETRY).await;
                board.changed.notify_one();
            }
            Err(error) => tracing::error!("endpoints' states are not published: {error}"),
        }
    }
}

/// A probe takes a file descriptor while it lasts, and the usual soft limit of 1 024 is for programs that use `select`.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

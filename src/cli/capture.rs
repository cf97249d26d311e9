//! `pollux capture`

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use pollux::capture::{Request, Scanner, Tally, compile};
use pollux::control::{CAPTURE_ID, CAPTURE_PATH, Client};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::engine::Engine;
use super::{Failure, complain, print};

/// For the engine to end the file, once it was asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `pollux capture`.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// Only this port
    #[arg(long)]
    port: Option<String>,
    /// Only packets that match this filter, as for tcpdump
    #[arg(long, value_name = "BPF")]
    filter: Option<String>,
    /// Only dropped packets
    #[arg(long)]
    drops: bool,
    /// At most so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// File to write
    #[arg(long, value_name = "F.pcapng")]
    out: PathBuf,
    #[command(flatten)]
    engine: Engine,
}

/// Captures until the limit, SIGINT or SIGTERM, or the engine's end.
pub fn run(args: &CaptureArgs) -> Result<ExitCode, Failure> {
    let filter = args.filter.as_deref().map(compile).transpose();
    let filter = filter.map_err(|error| Failure::Usage(format!("--filter: {error}")))?;
    let request = Request { port: args.port.clone(), filter, drops: args.drops, limit: args.limit };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::refused(format!("no runtime: {error}")))?;
    let tally = runtime.block_on(capture(args, &request))?;
    report(args, &tally)?;
    Ok(ExitCode::SUCCESS)
}

async fn capture(args: &CaptureArgs, request: &Request) -> Result<Tally, Failure> {
    let unhandled = |error| Failure::refused(format!("no signal handler: {error}"));
    let mut signals = Signals::new().map_err(unhandled)?;
    let client = Client::new(&args.engine.socket);
    let body = serde_json::to_string(request).map_err(Failure::refused)?;
    // Before the file, which stays as it is where nothing can be captured.
    let response = client.ask(Method::POST, CAPTURE_PATH, body).await.map_err(Failure::refused)?;
    let id = response.headers().get(CAPTURE_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let end = format!("{CAPTURE_PATH}/{id}");
    let failed = |error: &dyn std::fmt::Display| Failure::refused(format!("{}: {error}", args.out.display()));
    let file = File::create(&args.out).map_err(|error| failed(&error))?;
    let mut scanner = Scanner::new(BufWriter::new(file));
    complain(&format!("pollux: capturing into {}; Ctrl-C ends it\n", args.out.display()));

    let mut stream = Stream { body: response.into_body(), deadline: None };
    loop {
        let next = tokio::select! {
            next = stream.next() => next,
            () = signals.end() => {
                // The second one, or an engine that does not hear: what there is is a valid file as well.
                if stream.deadline.is_some() || client.ask(Method::DELETE, &end, String::new()).await.is_err() {
                    break;
                }
                stream.deadline = Some(Instant::now() + PATIENCE);
                continue;
            }
        };
        match next {
            Some(bytes) => scanner.feed(&bytes).map_err(|error| failed(&error))?,
            None => break,
        }
    }
    scanner.flush().map_err(|error| failed(&error))
}

/// The pieces of the answer.
struct Stream {
    body: Incoming,
    /// Not waited for longer than to this.
    deadline: Option<Instant>,
}

impl Stream {
    /// The next piece; none at the end, and where the engine breaks off.
    async fn next(&mut self) -> Option<hyper::body::Bytes> {
        let frame = self.body.frame();
        let frame = match self.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, frame).await.ok()?,
            None => frame.await,
        };
        frame?.ok().map(|frame| frame.into_data().unwrap_or_default())
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn report(args: &CaptureArgs, tally: &Tally) -> Result<(), Failure> {
    let Tally { received, sent, dropped, tx_full, missed } = *tally;
    if args.engine.json {
        let json = json!({
            "packets": tally.packets(), "received": received, "sent": sent, "dropped": dropped, "tx_full": tx_full,
            "missed": missed,
        });
        return print(&format!("{json}\n"));
    }
    let missed = match missed {
        Some(n) => format!("{n} more could not be kept"),
        None => "the engine broke off, and did not say how many could not be kept".to_owned(),
    };
    print(&format!(
        "{} packets: {received} received, {sent} sent, {dropped} dropped, {tx_full} lost to a full TX queue; {missed}\n",
        tally.packets()
    ))
}

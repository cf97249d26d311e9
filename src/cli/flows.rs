//! `pollux flows`

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use pollux::api::FlowList;

use super::engine::Engine;
use super::show::{ask, understood};
use super::table::{Paint, Table, Tone, number, text};
use super::units::{bytes, count, span};
use super::{Failure, complain, print};

/// Most connections that are asked for at once.
const PAGE: usize = 10_000;

/// What the columns are, where their names do not say it.
const COLUMNS: &str = "\
Columns:
  age            since the connection began, to a tenth of a second
  idle           since its last packet (half-open: since the handshake's last step)
  expires        when it is forgotten if no packet comes
  packets, bytes of this connection, both directions, since it began: what it has let pass, IP
                 header and all, as received. With --json also those of all connections of its
                 client with its endpoint, as /metrics has them: pair_packets, pair_bytes";

/// Arguments of `pollux flows`.
#[derive(Debug, Args)]
#[command(after_help = COLUMNS)]
pub struct FlowsArgs {
    /// Only those of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only those of this client address
    #[arg(long, value_name = "ADDR")]
    client: Option<IpAddr>,
    /// Only those with this endpoint: its address, with or without its port
    #[arg(long, value_name = "ADDR[:PORT]")]
    endpoint: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    engine: Engine,
}

/// Lists connections.
pub fn run(args: &FlowsArgs) -> Result<ExitCode, Failure> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut all = FlowList::default();
    loop {
        let missing = limit - all.flows.len();
        let mut query = format!("flows?limit={}", missing.min(PAGE));
        let asked = [
            ("service", args.service.clone()),
            ("client", args.client.map(|client| client.to_string())),
            ("endpoint", args.endpoint.clone()),
            ("cursor", all.next.take()),
        ];
        for (name, value) in asked {
            if let Some(value) = value {
                query.push_str(&format!("&{name}={}", encoded(&value)));
            }
        }
        let page: FlowList = understood(ask(&args.engine, &query)?)?;
        all.flows.extend(page.flows);
        all.next = page.next;
        if all.next.is_none() || all.flows.len() >= limit {
            break;
        }
    }
    if args.engine.json {
        let json = serde_json::to_value(&all).map_err(Failure::refused)?;
        print(&format!("{json:#}\n"))?;
    } else {
        if all.flows.is_empty() {
            complain("pollux: no such connection\n");
            return Ok(ExitCode::SUCCESS);
        }
        print(&table(&all).render(Paint::for_stdout()))?;
        if all.next.is_some() {
            complain(&format!("pollux: the first {limit}; there may be more (--limit)\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(list: &FlowList) -> Table {
    let mut table = Table::new(&[
        "service", "proto", "client", "vip", "endpoint", "state", "age", "idle", "expires", "worker",
        "packets", "bytes",
    ]);
    for f in &list.flows {
        let tone = match f.state.as_str() {
            "established" => Tone::Good,
            "half_open" => Tone::Odd,
            _ => Tone::Faint,
        };
        table.row([
            text(f.service.clone().unwrap_or_else(|| "-".to_owned())),
            text(&f.protocol),
            text(&f.client),
            text(&f.vip),
            text(&f.endpoint),
            text(&f.state).tone(tone),
            number(span(f.age_seconds)),
            number(span(f.idle_seconds)),
            number(span(f.expires_seconds)),
            number(f.worker.to_string()),
            number(count(f.packets)),
            number(bytes(f.bytes)),
        ]);
    }
    table
}

/// A query's value (RFC 3986 §2.1).
fn encoded(value: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    value.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_querys_value_is_no_query() {
        assert_eq!(encoded("a b&c=[::1]:80/ü"), "a%20b%26c%3D%5B%3A%3A1%5D%3A80%2F%C3%BC");
    }
}

//! What came out: for people a table, for scripts the JSON of the contract.

use std::fmt;

use serde_json::{Value, json};

use super::case::Spec;
use super::device::DeviceRow;
use super::machine::Machine;
use super::tick::Tick;

/// Medians, and where the middle half lies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// First quartile.
    pub low: f64,
    /// Third quartile.
    pub high: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * values.len().saturating_sub(1) as f64;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            let value = |i: usize| values.get(i).copied().unwrap_or_default();
            value(below) + (value(above) - value(below)) * place.fract()
        };
        Self { median: at(0.5), low: at(0.25), high: at(0.75) }
    }
}

/// One case's results.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which.
    pub spec: Spec,
    /// Nanoseconds a packet: RX queue, pipeline, TX queue.
    pub nanos: Spread,
    /// The same packets through the same queues, addresses swapped.
    pub reference: Spread,
    /// Through the same queues untouched.
    pub harness: Spread,
    /// Pipeline to reference, by rounds.
    pub ratio: Spread,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds in which the machine was taken away, which do not.
    pub disturbed: usize,
    /// As allocated.
    pub bytes_per_connection: f64,
    /// Of the time stamp counter.
    pub cycles_per_nano: Option<f64>,
    /// Bytes of a frame, without FCS.
    pub frame_bytes: usize,
    /// Packets that the pipeline has forwarded.
    pub packets: u64,
    /// Throughput of all workers to that of one, where there are several.
    pub gain: Option<Spread>,
}

impl Row {
    pub(super) fn of(
        spec: Spec,
        nanos: Vec<f64>,
        reference: Vec<f64>,
        harness: Vec<f64>,
        ratios: Vec<f64>,
        disturbed: usize,
    ) -> Self {
        Self {
            spec,
            rounds: nanos.len(),
            nanos: Spread::of(nanos),
            reference: Spread::of(reference),
            harness: Spread::of(harness),
            ratio: Spread::of(ratios),
            disturbed,
            bytes_per_connection: 0.0,
            cycles_per_nano: None,
            frame_bytes: 0,
            packets: 0,
            gain: None,
        }
    }

    fn mpps(&self) -> f64 {
        if self.nanos.median > 0.0 { 1000.0 / self.nanos.median } else { 0.0 }
    }

    fn json(&self) -> Value {
        let Spec { case, mode, protocol, connections, workers, accounting, .. } = self.spec;
        json!({
            "case": case.name(),
            "mode": mode.name,
            "protocol": protocol.name(),
            "family": self.spec.family(),
            "connections": connections,
            "workers": workers,
            "accounting": accounting,
            "ns_per_packet": round(self.nanos.median),
            "reference_ns_per_packet": round(self.reference.median),
            "mpps_per_worker": round(self.mpps()),
            "bytes_per_connection": round(self.bytes_per_connection),
            "harness_ns_per_packet": round(self.harness.median),
            "cycles_per_packet": self.cycles_per_nano.map(|cycles| round(self.nanos.median * cycles)),
            "ratio": round(self.ratio.median),
            "ns_quartiles": [round(self.nanos.low), round(self.nanos.high)],
            "rounds": self.rounds,
            "disturbed_rounds": self.disturbed,
            "frame_bytes": self.frame_bytes,
            "packets": self.packets,
            "speedup": self.gain.map(|gain| round(gain.median)),
        })
    }
}

/// To what is worth reading.
pub(super) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// All results.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where they were found.
    pub machine: Machine,
    /// One for each case.
    pub rows: Vec<Row>,
    /// What a tick costs.
    pub tick: Option<Tick>,
    /// From a device, where that was asked for.
    pub device: Option<DeviceRow>,
}

impl Report {
    /// The object of the contract.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "machine": self.machine.json(),
            "cases": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "tick": self.tick.as_ref().map(Tick::json),
            "port": self.device.as_ref().map(DeviceRow::json),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        if let Some(device) = &self.device {
            return device.fmt(f);
        }
        writeln!(
            f,
            "{:<16} {:<8} {:<8} {:>11} {:>2} {:<5} {:>8} {:>13} {:>7} {:>8} {:>7} {:>6} {:>7} {:>6}",
            "case",
            "mode",
            "packets",
            "connections",
            "w",
            "flows",
            "ns",
            "middle half",
            "cycles",
            "bare ns",
            "harness",
            "ratio",
            "Mpps/w",
            "B/conn"
        )?;
        for row in &self.rows {
            let spec = &row.spec;
            let cycles = row
                .cycles_per_nano
                .map_or_else(|| "-".to_owned(), |c| format!("{:.0}", row.nanos.median * c));
            writeln!(
                f,
                "{:<16} {:<8} {:<8} {:>11} {:>2} {:<5} {:>8.1} {:>13} {:>7} {:>8.1} {:>7.1} {:>6.2} {:>7.2} {:>6.0}",
                spec.case.name(),
                spec.mode.name,
                format!("{}{}", spec.protocol.name(), if spec.ipv4 { "4" } else { "6" }),
                spec.connections,
                spec.workers,
                if spec.accounting { "on" } else { "off" },
                row.nanos.median,
                format!("{:.1}–{:.1}", row.nanos.low, row.nanos.high),
                cycles,
                row.reference.median,
                row.harness.median,
                row.ratio.median,
                row.mpps(),
                row.bytes_per_connection
            )?;
        }
        for row in &self.rows {
            if let Some(gain) = row.gain {
                writeln!(
                    f,
                    "{} with {} workers: {:.2} times as many packets as one ({:.2}–{:.2})",
                    row.spec.case.name(),
                    row.spec.workers,
                    gain.median,
                    gain.low,
                    gain.high
                )?;
            }
        }
        if let Some(tick) = &self.tick {
            writeln!(
                f,
                "a tick with {} active connections, {} pairs: throughput {:.3} of that without; the turn that changes banks {:.1} µs, \
                 an ordinary one {:.1} µs; longest turn of a second {:.1} µs, without a tick {:.1} µs",
                tick.connections,
                tick.pairs,
                tick.throughput.median,
                tick.change.median / 1000.0,
                tick.turn.median / 1000.0,
                tick.longest.median / 1000.0,
                tick.longest_without.median / 1000.0
            )?;
        }
        let disturbed: usize = self.rows.iter().map(|row| row.disturbed).sum();
        if disturbed > 0 {
            writeln!(f, "{disturbed} rounds were disturbed by other work on the machine and do not count")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0, 5.0]);
        assert_eq!(spread, Spread { median: 3.0, low: 2.0, high: 4.0 });
        assert_eq!(Spread::of(vec![7.0]), Spread { median: 7.0, low: 7.0, high: 7.0 });
        assert_eq!(Spread::of(vec![1.0, 2.0]).median, 1.5);
    }
}

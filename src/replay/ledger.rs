//! Where every packet went.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::ReplayError;
use crate::counters::{Bank, Term};
use crate::pipeline::DropReason;

/// The packet ledger: `rx = forwarded + punted + consumed + held + Σ dropped`, `tx = forwarded + originated + extra_fragments`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Packets read.
    pub rx: u64,
    /// Sent on for a service.
    pub forwarded: u64,
    /// Given to the kernel's interface.
    pub punted: u64,
    /// For the engine itself.
    pub consumed: u64,
    /// Still waiting for a next hop's MAC at the end.
    pub held: u64,
    /// Dropped, by [`DropReason::label`](crate::pipeline::DropReason::label); only what occurred.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Frames of the engine's own.
    pub originated: u64,
    /// Frames that fragmentation made of one, beyond the first.
    pub extra_fragments: u64,
    /// Frames sent.
    pub tx: u64,
}

impl Ledger {
    /// What a bank has counted, in addition. A bank's `held` may be negative; the sum over all is not.
    pub(super) fn add(&mut self, bank: &Bank) {
        let term = |term| bank.term(term).get();
        self.rx += term(Term::Rx);
        self.forwarded += term(Term::Forwarded);
        self.punted += term(Term::Punted);
        self.consumed += term(Term::Consumed);
        self.held = self.held.wrapping_add(term(Term::HeldIn)).wrapping_sub(term(Term::HeldOut));
        for &reason in DropReason::ALL {
            let n = bank.dropped(reason).get();
            if n > 0 {
                *self.dropped.entry(reason.label()).or_default() += n;
            }
        }
        self.originated += term(Term::Originated);
        self.extra_fragments += term(Term::ExtraFragments);
        self.tx += term(Term::Tx);
    }

    /// Both equations.
    ///
    /// # Errors
    /// [`ReplayError::Ledger`], with the numbers.
    pub fn check(&self) -> Result<(), ReplayError> {
        let Self { rx, forwarded, punted, consumed, held, dropped, originated, extra_fragments, tx } = self;
        let dropped: u64 = dropped.values().sum();
        if *rx != forwarded + punted + consumed + held + dropped {
            return Err(ReplayError::Ledger(format!(
                "rx {rx} ≠ forwarded {forwarded} + punted {punted} + consumed {consumed} + held {held} + dropped {dropped}"
            )));
        }
        if *tx != forwarded + originated + extra_fragments {
            return Err(ReplayError::Ledger(format!(
                "tx {tx} ≠ forwarded {forwarded} + originated {originated} + extra fragments {extra_fragments}"
            )));
        }
        Ok(())
    }

    /// As one JSON object on one line, in the contract's order.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Self { rx, forwarded, punted, consumed, held, dropped, originated, extra_fragments, tx } = self;
        let mut reasons = String::new();
        for (reason, n) in dropped {
            let comma = if reasons.is_empty() { "" } else { "," };
            // Labels are lower-case words: nothing to escape. Writing to a string cannot fail.
            let _ = write!(reasons, "{comma}\"{reason}\":{n}");
        }
        format!(
            "{{\"rx\":{rx},\"forwarded\":{forwarded},\"punted\":{punted},\"consumed\":{consumed},\"held\":{held},\
             \"dropped\":{{{reasons}}},\"originated\":{originated},\"extra_fragments\":{extra_fragments},\"tx\":{tx}}}"
        )
    }
}

impl fmt::Display for Ledger {
    /// An aligned table for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rx, forwarded, punted, consumed, held, dropped, originated, extra_fragments, tx } = self;
        let reasons = dropped.iter().map(|(reason, n)| (4, *reason, *n));
        let lines: Vec<(usize, &str, u64)> = [
            (0, "received", *rx),
            (2, "forwarded", *forwarded),
            (2, "punted", *punted),
            (2, "consumed", *consumed),
            (2, "held", *held),
            (2, "dropped", dropped.values().sum()),
        ]
        .into_iter()
        .chain(reasons)
        .chain([
            (0, "sent", *tx),
            (2, "forwarded", *forwarded),
            (2, "originated", *originated),
            (2, "extra fragments", *extra_fragments),
        ])
        .collect();
        let width = lines.iter().map(|(indent, name, _)| indent + name.len()).max().unwrap_or(0);
        let digits = rx.max(tx).to_string().len();
        for (indent, name, n) in lines {
            writeln!(f, "{:indent$}{name:<rest$}  {n:>digits$}", "", rest = width - indent)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger {
            rx: 1234,
            forwarded: 1000,
            punted: 1,
            consumed: 3,
            held: 0,
            dropped: [("no_service", 200), ("ipv4_header", 30)].into(),
            originated: 2,
            extra_fragments: 5,
            tx: 1007,
        }
    }

    #[test]
    fn json_is_the_contracts() {
        assert_eq!(
            ledger().to_json(),
            r#"{"rx":1234,"forwarded":1000,"punted":1,"consumed":3,"held":0,"dropped":{"ipv4_header":30,"no_service":200},"originated":2,"extra_fragments":5,"tx":1007}"#
        );
        let empty: serde_json::Value = serde_json::from_str(&Ledger::default().to_json()).unwrap();
        assert_eq!(empty["dropped"], serde_json::json!({}));
    }

    #[test]
    fn table_is_aligned() {
        let text = ledger().to_string();
        assert!(text.starts_with("received           1234\n  forwarded        1000\n"), "{text}");
        assert!(text.contains("\n    no_service      200\n"), "{text}");
        let mut widths: Vec<_> = text.lines().map(str::len).collect();
        widths.dedup();
        assert_eq!(widths.len(), 1, "{text}");
    }

    #[test]
    fn equations_are_checked() {
        ledger().check().unwrap();
        for wrong in [
            Ledger { rx: 1235, ..ledger() },
            Ledger { held: 1, ..ledger() },
            Ledger { tx: 1, ..ledger() },
            Ledger { dropped: BTreeMap::new(), ..ledger() },
        ] {
            let error = wrong.check().unwrap_err();
            assert_eq!(error.exit_status(), 1);
            assert!(error.to_string().starts_with("internal error: "));
        }
    }
}

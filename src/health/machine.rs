//! When results change a verdict.

/// What the probes say of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing yet: the first probe is pending.
    Pending,
    /// Alive.
    Up,
    /// Not.
    Down,
}

/// A verdict, and how many results in a row speak against it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Machine {
    verdict: Verdict,
    against: u16,
}

impl Machine {
    pub const fn new(verdict: Verdict) -> Self {
        Self { verdict, against: 0 }
    }

    pub const fn verdict(self) -> Verdict {
        self.verdict
    }

    /// One more result: says whether the verdict changes. The first one decides at once: who has just been configured, or an
    /// engine that has just started, should not stand idle for as many intervals as `rise` says.
    pub fn take(&mut self, good: bool, rise: u16, fall: u16) -> bool {
        let (so_far, needed) = match self.verdict {
            Verdict::Pending => (!good, 1),
            Verdict::Up => (true, fall),
            Verdict::Down => (false, rise),
        };
        if good == so_far {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < needed {
            return false;
        }
        *self = Self::new(if good { Verdict::Up } else { Verdict::Down });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(results: &str, from: Verdict) -> String {
        let mut machine = Machine::new(from);
        let step = |c: char| {
            machine.take(c == '+', 2, 3);
            match machine.verdict() {
                Verdict::Pending => '?',
                Verdict::Up => 'U',
                Verdict::Down => 'D',
            }
        };
        results.chars().map(step).collect()
    }

    #[test]
    fn rise_and_fall() {
        assert_eq!(run("+---++-+++", Verdict::Pending), "UUUDDUUUUU");
        assert_eq!(run("-+-++", Verdict::Pending), "DDDDU");
        assert_eq!(run("--+--+---", Verdict::Up), "UUUUUUUUD", "only in a row");
        assert_eq!(run("+-+-++", Verdict::Down), "DDDDDU");
    }

    proptest! {
        /// A verdict changes exactly after as many results against it in a row as are needed.
        #[test]
        fn any_results(results in proptest::collection::vec(any::<bool>(), 1..100), rise in 1..5_u16, fall in 1..5_u16) {
            let mut machine = Machine::new(Verdict::Pending);
            let mut expected = None;
            let mut row = 0;
            for good in results {
                let up = match expected {
                    None => good,
                    Some(up) => {
                        row = if good == up { 0 } else { row + 1 };
                        if row == if up { fall } else { rise } { !up } else { up }
                    }
                };
                let changes = expected != Some(up);
                if changes {
                    row = 0;
                }
                expected = Some(up);
                prop_assert_eq!(machine.take(good, rise, fall), changes);
                prop_assert_eq!(machine.verdict(), if up { Verdict::Up } else { Verdict::Down });
            }
        }
    }
}

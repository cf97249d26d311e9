//! Filter expressions (pcap-filter(7)) to programs. Done where the expression is given, on the command line: the compiler
//! is libpcap's, and it may ask name servers.

use pcap::{Capture, Linktype};
use thiserror::Error;

use super::bpf::{Instruction, Program};

/// Why an expression is no filter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadFilter(String);

/// Compiles an expression for Ethernet.
///
/// # Errors
/// What libpcap says of it.
pub fn compile(expression: &str) -> Result<Vec<Instruction>, BadFilter> {
    if expression.contains('\0') {
        return Err(BadFilter("a NUL is in no filter".to_owned()));
    }
    let program = Capture::dead(Linktype::ETHERNET)
        .and_then(|capture| capture.compile(expression, true))
        .map_err(|error| match error {
            pcap::Error::PcapError(said) => BadFilter(said),
            other => BadFilter(other.to_string()),
        })?;
    let instructions = program
        .get_instructions()
        .iter()
        .map(|instruction| parse(&instruction.to_string()))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| BadFilter("libpcap made no program of it".to_owned()))?;
    // What the engine would refuse is refused here.
    Program::new(&instructions).map_err(|error| BadFilter(error.to_string()))?;
    Ok(instructions)
}

/// `40 0 0 12`
fn parse(line: &str) -> Option<Instruction> {
    let mut words = line.split_whitespace();
    let found = (
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
    );
    words.next().is_none().then_some(found)
}

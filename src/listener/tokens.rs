//! Bearer tokens (RFC 6750).

use std::fmt;

use ring::digest::{SHA256, digest};
use subtle::{Choice, ConstantTimeEq};

use super::files::Trouble;

/// Fewer characters can be guessed.
const SHORT: usize = 16;

/// The tokens that let read. Kept as digests: nothing can show them, and all comparisons are of one length.
pub(super) struct Tokens(Vec<[u8; 32]>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} token(s)", self.0.len())
    }
}

impl Tokens {
    /// Of a file with one token a line; empty lines and blanks around a token are nothing. And a warning, where there is a reason.
    pub fn parse(file: &[u8]) -> Result<(Self, Option<Trouble>), Trouble> {
        let mut tokens = Vec::new();
        let mut short = None;
        for (n, line) in (1..).zip(file.split(|&byte| byte == b'\n')) {
            let token = line.trim_ascii();
            if token.is_empty() {
                continue;
            }
            if !token.iter().all(u8::is_ascii_graphic) {
                return Err(Trouble::new(
                    format!("has blanks or other characters than visible ASCII within the token on line {n}"),
                    "write one token a line, such as `openssl rand -hex 32` makes",
                ));
            }
            if token.len() < SHORT {
                short = short.or(Some(n));
            }
            tokens.push(sealed(token));
        }
        if tokens.is_empty() {
            return Err(Trouble::new(
                "has no token",
                "write one token a line: `openssl rand -hex 32` makes one",
            ));
        }
        let warning = short.map(|n| {
            Trouble::new(
                format!("has a token of fewer than {SHORT} characters on line {n}, which can be guessed"),
                "make a longer one: `openssl rand -hex 32`",
            )
        });
        Ok((Self(tokens), warning))
    }

    /// Whether this is one of them, in a time that does not depend on the tokens.
    pub fn have(&self, token: &[u8]) -> bool {
        let token = sealed(token);
        let found = self.0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&token));
        found.into()
    }
}

fn sealed(token: &[u8]) -> [u8; 32] {
    let mut sealed = [0; 32];
    sealed.copy_from_slice(digest(&SHA256, token).as_ref());
    sealed
}

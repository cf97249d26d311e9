//! Who may read.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::basic::{Users, Verdict};
use super::gate::Gate;
use super::tokens::Tokens;

/// What a request for data must bring.
#[derive(Clone, Debug)]
pub(super) enum Guard {
    /// Nothing.
    Open,
    /// A bearer token.
    Bearer(Arc<Tokens>),
    /// A user's password.
    Basic(Arc<Users>),
}

/// Both together: `private` and what is nowhere behind the guard. In this order, as the fallback is that of the last one.
pub(super) fn guarded(gate: &Arc<Gate>, public: Router, private: Router) -> Router {
    public.merge(private.layer(from_fn_with_state(Arc::clone(gate), guard)))
}

async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let security = gate.security();
    if security.rate().is_some_and(|rate| !rate.allows(Instant::now())) {
        return busy("more requests than `rate_limit` of the web configuration allows");
    }
    match security.guard().admit(request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

impl Guard {
    async fn admit(&self, headers: &HeaderMap) -> Result<(), Response> {
        match self {
            Self::Open => Ok(()),
            Self::Bearer(tokens) => match credentials(headers, "Bearer") {
                Some(token) if tokens.have(token) => Ok(()),
                Some(_) => Err(unauthorized(
                    r#"Bearer realm="pollux""#,
                    "this token is none of those in metrics.bearer_token_file; after a change there, reload (pollux reload)",
                )),
                None => Err(unauthorized(
                    r#"Bearer realm="pollux""#,
                    "a token is needed: Authorization: Bearer TOKEN, one of those in metrics.bearer_token_file",
                )),
            },
            Self::Basic(users) => {
                let challenge = r#"Basic realm="pollux", charset="UTF-8""#;
                let Some((name, password)) = credentials(headers, "Basic").and_then(decode) else {
                    return Err(unauthorized(
                        challenge,
                        "user and password are needed: Authorization: Basic, of one of basic_auth_users in metrics.web_config",
                    ));
                };
                match users.check(&name, &password).await {
                    Verdict::Right => Ok(()),
                    Verdict::Wrong => Err(unauthorized(
                        challenge,
                        "this is the password of none of basic_auth_users in metrics.web_config; after a change there, reload (pollux reload)",
                    )),
                    Verdict::Busy => Err(busy("too many passwords wait to be checked")),
                }
            }
        }
    }
}

/// What one `Authorization` of this scheme carries (RFC 9110 §11.6.2).
fn credentials<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h [u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    let (name, rest) = value.as_bytes().split_at_checked(scheme.len())?;
    if !name.eq_ignore_ascii_case(scheme.as_bytes()) || rest.first() != Some(&b' ') {
        return None;
    }
    Some(rest.trim_ascii()).filter(|rest| !rest.is_empty())
}

fn decode(credentials: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut name = BASE64_STANDARD.decode(credentials).ok()?;
    let colon = name.iter().position(|&byte| byte == b':')?;
    let password = name.split_off(colon + 1);
    name.pop();
    Some((String::from_utf8(name).ok()?, password))
}

fn unauthorized(challenge: &'static str, line: &str) -> Response {
    let headers = [
        (WWW_AUTHENTICATE, HeaderValue::from_static(challenge)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (StatusCode::UNAUTHORIZED, headers, format!("{line}\n")).into_response()
}

fn busy(line: &str) -> Response {
    (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")], format!("{line}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_carries() {
        let of = |values: &[&'static str], scheme| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            credentials(&headers, scheme).map(<[u8]>::to_vec)
        };
        for good in ["Bearer abc", "bearer abc", "BEARER   abc ", "Bearer\u{20}abc"] {
            assert_eq!(of(&[good], "Bearer").as_deref(), Some(&b"abc"[..]), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Bearerabc", "Bearer\tabc", "Basic abc", "abc", "Bear"] {
            assert_eq!(of(&[bad], "Bearer"), None, "{bad}");
        }
        assert_eq!(of(&[], "Bearer"), None);
        assert_eq!(of(&["Bearer abc", "Bearer abc"], "Bearer"), None, "which one?");

        let decoded = |text: &[u8]| decode(text);
        assert_eq!(decoded(b"YTpiOmM="), Some(("a".to_owned(), b"b:c".to_vec())));
        assert_eq!(decoded(b"Og=="), Some((String::new(), vec![])));
        for bad in [&b"YWJj"[..], b"???", b"YTpiOmM", b"/zpi"] {
            assert_eq!(decoded(bad), None, "{bad:?}");
        }
    }
}

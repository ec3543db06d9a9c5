//! The token in a request.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};

use super::scope::Scopes;
use super::token::{self, Tokens};
use crate::problem::{Code, Problem};

/// What the token of a request allows.
///
/// # Errors
///
/// `token_missing` or `token_invalid`, with nothing of what was presented.
pub(super) fn scopes(tokens: &Tokens, headers: &HeaderMap) -> Result<Scopes, Problem> {
    let mut presented = headers.get_all(AUTHORIZATION);
    let (first, second) = (presented.next(), presented.next());
    let token = first.and_then(|value| bearer(value.as_bytes()));
    match (token, second) {
        (Some(token), None) => tokens.find(token).ok_or_else(invalid),
        (_, Some(_)) => Err(invalid()),
        (None, None) => Err(missing()),
    }
}

/// The digest of a request's token, to ask for it again later; `None` without one.
pub(super) fn digest(headers: &HeaderMap) -> Option<[u8; 32]> {
    headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())).and_then(token::digest)
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let token = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty()).then_some(token)
}

const SCHEME: &[u8] = b"Bearer ";

fn missing() -> Problem {
    Problem::new(Code::TokenMissing, "send a token in the header `Authorization: Bearer TOKEN`")
        .challenge("Bearer realm=\"dunnage\"")
}

fn invalid() -> Problem {
    Problem::new(Code::TokenInvalid, "the token is none of this server's")
        .challenge("Bearer realm=\"dunnage\", error=\"invalid_token\"")
}

/// Nobody may do this with a token that lacks all of `needed`.
pub(super) fn lacks(needed: Scopes) -> Problem {
    let words: Vec<_> = needed.iter().map(super::Scope::as_str).collect();
    let challenge = format!("Bearer realm=\"dunnage\", error=\"insufficient_scope\", scope=\"{}\"", words.join(" "));
    Problem::new(Code::ScopeMissing, format!("this takes a token with the scope `{}`", words.join("` or `"))).challenge(challenge)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn verdict(values: &[&[u8]]) -> Result<Scopes, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        let tokens = Tokens::parse(&format!("infer {TOKEN}")).unwrap();
        scopes(&tokens, &headers).map_err(|problem| problem.code())
    }

    #[test]
    fn one_header_with_a_known_token_is_let_in() {
        let infer = "infer".parse().unwrap();
        for value in [format!("Bearer {TOKEN}"), format!("bearer  {TOKEN} "), format!("BEARER {TOKEN}")] {
            assert_eq!(verdict(&[value.as_bytes()]), Ok(infer), "{value}");
        }
    }

    #[test]
    fn anything_else_is_missing_or_invalid() {
        let right = format!("Bearer {TOKEN}");
        for value in ["", "Bearer", "Bearer ", "Basic dTpw", TOKEN, &format!("Bearer{TOKEN}"), &format!("Token {TOKEN}")] {
            assert_eq!(verdict(&[value.as_bytes()]), Err(Code::TokenMissing), "{value}");
        }
        assert_eq!(verdict(&[]), Err(Code::TokenMissing));
        for value in ["Bearer x", &format!("{right}, {right}"), &format!("{right}x"), &right.to_uppercase()] {
            assert_eq!(verdict(&[value.as_bytes()]), Err(Code::TokenInvalid), "{value}");
        }
        assert_eq!(verdict(&[b"Bearer \xff\xfe"]), Err(Code::TokenInvalid));
        assert_eq!(verdict(&[right.as_bytes(), right.as_bytes()]), Err(Code::TokenInvalid));
        assert_eq!(verdict(&[right.as_bytes(), b""]), Err(Code::TokenInvalid));
    }

    #[test]
    fn a_refusal_names_the_scopes_of_which_one_would_do() {
        let problem = lacks("infer,train".parse().unwrap());
        assert_eq!(problem.detail(), "this takes a token with the scope `infer` or `train`");
    }
}

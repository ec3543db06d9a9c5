//! Signatures of callbacks, as [Standard Webhooks](https://www.standardwebhooks.com) has them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// How long a key may be, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What callbacks are signed with: `whsec_` and the base64 of 24 to 64 bytes. Never shown, also not by `Debug`.
#[derive(Clone)]
pub struct CallbackSecret {
    mac: Hmac<Sha256>,
}

impl CallbackSecret {
    fn signature(&self, id: &str, timestamp_secs: u64, body: &str) -> String {
        let mac = self.mac.clone().chain_update(format!("{id}.{timestamp_secs}.")).chain_update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// The value of `webhook-signature`: one signature for each secret, so that a receiver may know either while they change.
pub(super) fn signatures(secrets: &[CallbackSecret], id: &str, timestamp_secs: u64, body: &str) -> String {
    secrets.iter().map(|secret| secret.signature(id, timestamp_secs, body)).collect::<Vec<_>>().join(" ")
}

impl FromStr for CallbackSecret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let key = text.strip_prefix(PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
        let key = key.filter(|key| KEY_BYTES.contains(&key.len())).ok_or(InvalidSecret)?;
        let mac = Hmac::new_from_slice(&key).map_err(|_| InvalidSecret)?;
        Ok(Self { mac })
    }
}

impl fmt::Debug for CallbackSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CallbackSecret(…)")
    }
}

/// A text that is no secret. It is not repeated, for it may nearly be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is `whsec_` and the base64 of 24 to 64 random bytes")]
pub struct InvalidSecret;

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    /// The example of the Standard Webhooks libraries.
    #[test]
    fn a_signature_is_the_published_one() {
        let secrets = [SECRET.parse().unwrap()];
        let body = r#"{"email":"test@example.com","username":"test_user"}"#;
        let signature = signatures(&secrets, "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
        assert_eq!(signature, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn every_secret_signs() {
        let other = format!("whsec_{}", STANDARD.encode([7; 64]));
        let secrets = [SECRET.parse().unwrap(), other.parse().unwrap()];
        let both = signatures(&secrets, "msg_1", 1, "{}");
        let alone: Vec<_> = secrets.iter().map(|secret| signatures(std::slice::from_ref(secret), "msg_1", 1, "{}")).collect();
        assert_eq!(both, alone.join(" "));
        assert_ne!(alone[0], alone[1]);
    }

    #[test]
    fn a_secret_has_its_prefix_and_its_length() {
        let of_length = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for bytes in [24, 64] {
            assert!(of_length(bytes).parse::<CallbackSecret>().is_ok(), "{bytes}");
        }
        for text in ["", "whsec_", "hush", "whsec_hush hush", &SECRET[6..], &of_length(23), &of_length(65)] {
            assert_eq!(text.parse::<CallbackSecret>().err(), Some(InvalidSecret), "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", SECRET.parse::<CallbackSecret>().unwrap()), "CallbackSecret(…)");
    }
}

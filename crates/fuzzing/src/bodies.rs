//! The JSON bodies of `/train`, `/input` and `/output`.

use dunnage_server::fuzzing::{Submitted, body};
use dunnage_server::{Code, Problem};
use dunnage_types::FileAddress;
use serde_json::{Value, json};

pub(crate) const MAX_FILES: usize = 4;

/// What may be wrong with a body.
const REFUSALS: [Code; 5] =
    [Code::BodyMalformed, Code::RequestInvalid, Code::FilesMissing, Code::TooManyFiles, Code::FileAddressInvalid];

/// Reads a body.
///
/// What is refused is so for a reason that is documented, and that is told in one short line. What is accepted is JSON, names no upload,
/// and is understood in the same way when it is written anew.
pub fn bodies(data: &[u8]) {
    match body(data, MAX_FILES) {
        Err(problem) => is_fit_for_clients(&problem, &REFUSALS),
        Ok(submitted) => {
            assert!(serde_json::from_slice::<Value>(data).is_ok_and(|value| value.is_object()), "only objects are accepted");
            let is_upload = |file: &FileAddress| matches!(file, FileAddress::Upload { .. });
            assert!(!submitted.files.iter().any(is_upload), "{:?}", submitted.files);
            is_complete(&submitted);
            is_understood_again(&submitted);
        }
    }
}

pub(crate) fn is_fit_for_clients(problem: &Problem, refusals: &[Code]) {
    assert!(refusals.contains(&problem.code()), "{problem}");
    let detail = problem.detail();
    assert!(detail.chars().count() <= 600 && !detail.chars().any(char::is_control), "{detail:?}");
}

pub(crate) fn is_complete(submitted: &Submitted) {
    assert!((1..=MAX_FILES).contains(&submitted.files.len()));
    assert!(submitted.key.as_ref().is_none_or(|key| (1..=255).contains(&key.len()) && !key.contains(char::is_control)));
}

fn is_understood_again(submitted: &Submitted) {
    let Submitted { files, params, key, callback, output_uri, .. } = submitted;
    let files: Vec<String> = files.iter().map(ToString::to_string).collect();
    let written = json!({"Files": files, "Params": params, "Key": key, "Callback": callback, "OutputUri": output_uri});
    let again = body(written.to_string().as_bytes(), MAX_FILES).expect("what was accepted is accepted again");
    assert_eq!(again.files, submitted.files);
    assert_eq!((&again.params, &again.key), (params, key));
    assert_eq!((&again.callback, &again.output_uri), (callback, output_uri));
}

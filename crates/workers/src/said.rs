//! What scripts say, cut to what belongs into an answer, a row and a line of a log.

use dunnage_protocol::{CallError, Done, Item, LoadFailed, LogMessage, Outcome, Outputs, ProgressMessage, ToServer};

/// The longest message of an error and of progress, in bytes. Whatever is behind is left out.
const MAX_MESSAGE_BYTES: usize = 8 << 10;
/// The longest traceback and the longest line that a script logs, which may be one, in bytes.
const MAX_TRACEBACK_BYTES: usize = 64 << 10;
/// Stands where something is left out.
const CUT: &str = " […]";

/// The same message, with no text in it that is longer than such texts may be. Results are not cut.
pub(crate) fn shortened(mut message: ToServer) -> ToServer {
    match &mut message {
        ToServer::Outputs(Outputs { items, .. }, _) => items.iter_mut().for_each(shorten_item),
        ToServer::Done(Done { outcome: Outcome::Error(error), .. }) | ToServer::LoadFailed(LoadFailed { error }) => {
            shorten_error(error);
        }
        ToServer::Progress(ProgressMessage { message: Some(text), .. }) => shorten(text, MAX_MESSAGE_BYTES),
        ToServer::Log(LogMessage { message, .. }) => shorten(message, MAX_TRACEBACK_BYTES),
        _ => {}
    }
    message
}

fn shorten_item(item: &mut Item) {
    if let Item::Error(error) = item {
        shorten_error(error);
    }
}

fn shorten_error(error: &mut CallError) {
    shorten(&mut error.message, MAX_MESSAGE_BYTES);
    if let Some(traceback) = &mut error.traceback {
        shorten(traceback, MAX_TRACEBACK_BYTES);
    }
}

fn shorten(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push_str(CUT);
    }
}

#[cfg(test)]
mod tests {
    use dunnage_protocol::CallId;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_is_cut_between_two_characters() {
        let error = CallError { traceback: Some("x".repeat(1 << 20)), ..CallError::new("script_error", "ü".repeat(1 << 20)) };
        let done = ToServer::Done(Done { call: CallId(1), outcome: Outcome::Error(error) });
        let ToServer::Done(Done { outcome: Outcome::Error(error), .. }) = shortened(done) else { panic!("it stays what it was") };
        assert_eq!(error.message, format!("{}{CUT}", "ü".repeat(MAX_MESSAGE_BYTES / 2)));
        assert_eq!(error.traceback.unwrap().len(), MAX_TRACEBACK_BYTES + CUT.len());
    }

    #[test]
    fn what_is_short_and_what_is_a_result_stays() {
        let short = ToServer::LoadFailed(LoadFailed { error: CallError::new("load_failed", "no") });
        let long = ToServer::Done(Done { call: CallId(1), outcome: Outcome::Ok(json!("x".repeat(1 << 20))) });
        for message in [short, long] {
            assert_eq!(shortened(message.clone()), message);
        }
    }
}

//! Events in the text format of the HTML standard's "Server-sent events".

use std::fmt::Write;

use serde::Serialize;

use super::Position;

/// How long a client waits before it connects again, in milliseconds, in a frame of its own.
pub(super) const RETRY: &str = "retry: 2000\n\n";
/// A comment, which clients pass over and which keeps proxies from closing a quiet connection.
pub(super) const HEARTBEAT: &str = ":\n\n";

/// Appends an event to `text`. JSON has its line ends escaped, so the data are one line whatever they hold.
pub(super) fn append(text: &mut String, id: Position, name: &str, data: &impl Serialize) {
    // What is told of jobs always has a JSON form, and writing to a text does not fail.
    let data = serde_json::to_string(data).unwrap_or_default();
    let _ = write!(text, "id: {id}\nevent: {name}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_an_id_a_name_and_one_line_of_data() {
        let mut text = RETRY.to_owned();
        append(&mut text, Position::behind(3), "log", &json!({"message": "a\nb\r\n\nid: 9\u{2028}\u{0}"}));
        append(&mut text, Position::behind(4), "log", &json!("next"));
        let frames: Vec<_> = text.split_terminator("\n\n").collect();
        assert_eq!(
            frames,
            [
                "retry: 2000",
                "id: 3:running\nevent: log\ndata: {\"message\":\"a\\nb\\r\\n\\nid: 9\u{2028}\\u0000\"}",
                "id: 4:running\nevent: log\ndata: \"next\"",
            ]
        );
    }
}

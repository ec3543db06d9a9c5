//! As much XML as S3's bodies need.

use std::time::SystemTime;

use crate::s3::account::calendar;

/// An element with a text.
pub(super) fn element(name: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\r', "&#13;");
    format!("<{name}>{text}</{name}>")
}

/// The texts of all elements of this name, in their order.
pub(super) fn texts(xml: &str, name: &str) -> Vec<String> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let inner = xml.split(begin.as_str()).skip(1).filter_map(|rest| rest.split_once(end.as_str()));
    inner.map(|(text, _)| unescaped(text)).collect()
}

/// A time such as `2026-11-26T12:34:56.000Z`.
pub(super) fn time(time: SystemTime) -> String {
    let [year, month, day, hour, minute, second] = calendar(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z")
}

fn unescaped(text: &str) -> String {
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#34;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&#xD;", "\r")];
    let text = plain.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain));
    text.replace("&#13;", "\r").replace("&#xA;", "\n").replace("&#10;", "\n").replace("&amp;", "&")
}

//! Answers before anything has gone wrong with them.

use std::ops::Range;

use super::content::Content;

/// A status, headers and a body.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content: Content,
    /// Which part of the content is the body.
    pub(super) range: Range<u64>,
    /// A `HEAD`: the body's length is said, but it does not come.
    pub(super) is_head: bool,
}

/// The request is not done, and this is why: a status, and what S3 calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &str) -> Self {
        Self { status, code: code.to_owned() }
    }
}

/// What becomes of a request.
pub(super) type Outcome = Result<Answer, Refusal>;

impl Answer {
    pub(super) fn empty(status: u16) -> Self {
        Self::text(status, "")
    }

    pub(super) fn xml(status: u16, body: &str) -> Self {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
        Self::text(status, &text).with("Content-Type", "application/xml")
    }

    pub(super) fn html(status: u16) -> Self {
        let text = format!("<html><body><h1>{status} from a proxy</h1></body></html>");
        Self::text(status, &text).with("Content-Type", "text/html")
    }

    pub(super) fn of(status: u16, content: Content, range: Range<u64>) -> Self {
        Self { status, headers: Vec::new(), content, range, is_head: false }
    }

    fn text(status: u16, text: &str) -> Self {
        Self::of(status, Content::Held(text.as_bytes().into()), 0..text.len() as u64)
    }

    /// With a header, in place of any of that name.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl From<Refusal> for Answer {
    fn from(Refusal { status, code }: Refusal) -> Self {
        match status {
            304 => Self::empty(304),
            _ => Self::xml(status, &format!("<Error><Code>{code}</Code><Message>as the test has it</Message></Error>")),
        }
    }
}

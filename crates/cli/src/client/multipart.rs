//! `multipart/form-data` that is read from the files while it is sent, one file open at a time.
//!
//! ureq's own form opens every file at once, more than a process may have, and does not escape their names.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use dunnage_types::JobId;

/// A form as it grows.
#[derive(Debug)]
pub(super) struct Multipart {
    boundary: String,
    parts: VecDeque<Part>,
    length: u64,
}

#[derive(Debug)]
enum Part {
    Text(String),
    File { path: PathBuf, length: u64 },
}

impl Multipart {
    pub(super) fn new() -> Self {
        // Random, so that no file contains it.
        Self { boundary: format!("dunnage-{}", JobId::random()), parts: VecDeque::new(), length: 0 }
    }

    /// Adds a text field.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        let head = format!("Content-Disposition: form-data; name=\"{name}\"\r\n");
        self.push(Part::Text(format!("--{}\r\n{head}\r\n{value}\r\n", self.boundary)));
    }

    /// Adds a file, to be opened when its turn comes.
    pub(super) fn file(&mut self, name: &str, path: &Path, length: u64) {
        let file_name = escaped(&path.file_name().unwrap_or_default().to_string_lossy());
        let disposition = format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"");
        let head = format!("{disposition}\r\nContent-Type: application/octet-stream\r\n");
        self.push(Part::Text(format!("--{}\r\n{head}\r\n", self.boundary)));
        self.push(Part::File { path: path.to_owned(), length });
        self.push(Part::Text("\r\n".to_owned()));
    }

    pub(super) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// The length of the whole body.
    pub(super) fn length(&self) -> u64 {
        self.length + self.end().len() as u64
    }

    /// The body.
    pub(super) fn into_reader(mut self) -> impl Read + 'static {
        let end = self.end();
        self.push(Part::Text(end));
        Reader { parts: self.parts, current: Box::new(io::empty()) }
    }

    fn end(&self) -> String {
        format!("--{}--\r\n", self.boundary)
    }

    fn push(&mut self, part: Part) {
        self.length += match &part {
            Part::Text(text) => text.len() as u64,
            Part::File { length, .. } => *length,
        };
        self.parts.push_back(part);
    }
}

struct Reader {
    parts: VecDeque<Part>,
    current: Box<dyn Read>,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(part) = self.parts.pop_front() else { return Ok(0) };
            self.current = open(part)?;
        }
    }
}

fn open(part: Part) -> io::Result<Box<dyn Read>> {
    match part {
        Part::Text(text) => Ok(Box::new(Cursor::new(text))),
        Part::File { path, length } => Ok(Box::new(Whole { file: File::open(&path)?, path, left: length })),
    }
}

/// A file of the length it had when the request began: what is written behind it meanwhile is not sent.
struct Whole {
    file: File,
    path: PathBuf,
    left: u64,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.by_ref().take(self.left).read(buffer)?;
        self.left -= count as u64;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!("`{}` became shorter while it was sent", self.path.display())));
        }
        Ok(count)
    }
}

/// As the HTML standard escapes names in forms.
fn escaped(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: Multipart) -> io::Result<String> {
        let (length, boundary) = (form.length(), form.boundary.clone());
        let mut text = String::new();
        form.into_reader().read_to_string(&mut text)?;
        assert_eq!(text.len() as u64, length);
        Ok(text.replace(&boundary, "B"))
    }

    #[test]
    fn a_form_has_texts_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a \"b\".csv");
        std::fs::write(&path, "1,2\n").unwrap();
        let mut form = Multipart::new();
        form.text("Key", "ada");
        form.file("file", &path, 4);
        let expected = "--B\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\nada\r\n\
                        --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a %22b%22.csv\"\r\n\
                        Content-Type: application/octet-stream\r\n\r\n1,2\n\r\n--B--\r\n";
        assert_eq!(read(form).unwrap(), expected);
    }

    #[test]
    fn a_file_that_grows_is_sent_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "12345678").unwrap();
        let mut form = Multipart::new();
        form.file("file", &path, 4);
        assert!(read(form).unwrap().contains("\r\n\r\n1234\r\n--B--"));
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "1234").unwrap();
        let mut form = Multipart::new();
        form.file("file", &path, 5);
        let error = read(form).unwrap_err().to_string();
        assert_eq!(error, format!("`{}` became shorter while it was sent", path.display()));
    }
}

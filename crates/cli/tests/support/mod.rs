//! What the tests share: the command, and a service that answers what it is told to.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::JoinHandle;

/// The command in a folder of its own, without the settings of whoever runs the tests.
pub(crate) fn dunnage(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunnage"));
    let set = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("DUNNAGE_"));
    for name in set {
        command.env_remove(name);
    }
    command.current_dir(folder).args(arguments);
    command
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the command to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Ended {
    ended(dunnage(folder, arguments).output().unwrap())
}

pub(crate) fn ended(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A service that answers one request after the other with what it was given, and remembers what it was asked.
pub(crate) struct Service {
    pub(crate) url: String,
    thread: JoinHandle<Vec<Request>>,
}

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Request {
    /// `GET /path?query`.
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

impl Service {
    /// Starts with the answers, each a status, headers and a body.
    pub(crate) fn start(answers: Vec<(u16, &'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || answers.into_iter().map(|answer| serve_one(&listener, &answer)).collect());
        Self { url, thread }
    }

    /// The requests, once every answer has been given.
    pub(crate) fn requests(self) -> Vec<Request> {
        self.thread.join().unwrap()
    }
}

fn serve_one(listener: &TcpListener, (status, headers, body): &(u16, &str, String)) -> Request {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let request = receive(&mut reader);
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
    reader.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
    request
}

fn receive(reader: &mut impl BufRead) -> Request {
    let mut lines: Vec<String> = reader.lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    let line = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<String> = lines.iter().map(|line| line.to_lowercase()).collect();
    let length = headers.iter().find_map(|header| header.strip_prefix("content-length: ")).map_or(0, |text| text.parse().unwrap());
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body).unwrap();
    Request { line, headers, body }
}

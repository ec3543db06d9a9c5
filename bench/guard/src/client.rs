//! A client with one connection, which asks again as soon as it is answered.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::codec;

/// Nothing takes as long, even under callgrind.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked, again and again.
pub(crate) struct Question {
    bytes: Vec<u8>,
}

impl Question {
    /// `POST /output` with this body, and the headers that clients send.
    pub(crate) fn new(body: &Value) -> Self {
        let body = body.to_string();
        let head = format!(
            "POST /output HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: guard/1\r\nAccept: */*\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        Self { bytes: [head, body].concat().into_bytes() }
    }
}

/// A connection that is kept alive.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("`{address}` cannot be reached"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and makes sure that the answer is right.
    pub(crate) fn ask(&mut self, question: &Question) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(&question.bytes).context("the question cannot be sent")?;
        let (status, body) = self.response().context("the answer cannot be read")?;
        ensure!(status.contains(" 200 "), "the answer is `{}`: {}", status.trim_end(), String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).context("the answer is no JSON")?;
        ensure!(answer["outputVector"] == serde_json::json!(codec::numbers()), "the answer has other numbers: {answer}");
        Ok(())
    }

    /// The first line of a response, and its body.
    fn response(&mut self) -> anyhow::Result<(String, Vec<u8>)> {
        let status = self.line()?;
        let mut body_bytes = 0;
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                body_bytes = value.trim().parse().context("the length of the body is no number")?;
            }
        }
        let mut body = vec![0; body_bytes];
        self.stream.read_exact(&mut body)?;
        Ok((status, body))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "the server has hung up");
        Ok(line)
    }
}

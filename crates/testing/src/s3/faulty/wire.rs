//! Requests as they come over the wire.

use std::io;
use std::time::Instant;

use percent_encoding::percent_decode_str;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::record::Request;

/// No line and no head of a request is longer.
const HEAD_BYTES: usize = 64 << 10;
const MOST_HEADERS: usize = 100;

type Pairs = Vec<(String, String)>;

/// Reads a request and its body, or `None` when the client has no more.
///
/// # Errors
///
/// When the connection breaks, or what comes is no request.
pub(super) async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<(Request, Vec<u8>)>> {
    let head = read_head(stream).await?;
    if head.is_empty() {
        return Ok(None);
    }
    let mut request = parse(&head)?;
    if request.header("expect").is_some() {
        stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let (body, trailers) = read_body(stream, &request).await?;
    request.headers.extend(trailers);
    request.headers.retain(|(name, _)| name != "authorization");
    request.body_bytes = body.len() as u64;
    request.at = Instant::now();
    Ok(Some((request, body)))
}

/// Up to the empty line, or nothing at all.
async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    loop {
        let line = read_line(stream).await?;
        if line.is_empty() && head.is_empty() {
            return Ok(head);
        }
        if !line.ends_with(b"\r\n") || head.len() > HEAD_BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&line);
        if line == b"\r\n" {
            return Ok(head);
        }
    }
}

async fn read_line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.take(HEAD_BYTES as u64).read_until(b'\n', &mut line).await?;
    Ok(line)
}

fn parse(head: &[u8]) -> io::Result<Request> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(head).map_err(io::Error::other)?;
    let (path, query) = parsed.path.map_or(("", ""), |target| target.split_once('?').unwrap_or((target, "")));
    let headers: Pairs = parsed.headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value))).collect();
    let query: Pairs = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
    let is_signed =
        headers.iter().any(|(name, _)| name == "authorization") || query.iter().any(|(name, _)| name == "X-Amz-Signature");
    Ok(Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: decoded(path.strip_prefix('/').unwrap_or(path)),
        query,
        headers,
        is_signed,
        body_bytes: 0,
        at: Instant::now(),
        open: 0,
        status: None,
        sent_bytes: 0,
        ended: None,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pair(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (decoded(name), decoded(value))
}

fn decoded(encoded: &str) -> String {
    percent_decode_str(encoded).decode_utf8_lossy().into_owned()
}

/// The body without any framing, and what followed it.
async fn read_body(stream: &mut (impl AsyncBufRead + Unpin), request: &Request) -> io::Result<(Vec<u8>, Pairs)> {
    let (sent, trailers) = if request.header("transfer-encoding").is_some() {
        read_chunks(stream).await?
    } else {
        let length = request.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        (body, Pairs::new())
    };
    // The SDK has a framing of its own, within whatever carries it, for checksums that come last.
    let is_framed = request.header("x-amz-content-sha256").is_some_and(|digest| digest.starts_with("STREAMING-"));
    if is_framed { read_chunks(&mut sent.as_slice()).await } else { Ok((sent, trailers)) }
}

/// Chunks, each after a line with its length in hexadecimal digits, up to the empty one and the lines after it.
async fn read_chunks(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<(Vec<u8>, Pairs)> {
    let mut body = Vec::new();
    loop {
        let line = text(&read_line(stream).await?);
        let digits = line.split([';', '\r']).next().unwrap_or_default();
        let length = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
        if length == 0 {
            return Ok((body, read_trailers(stream).await?));
        }
        if stream.take(length).read_to_end(&mut body).await? as u64 != length || read_line(stream).await? != b"\r\n" {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn read_trailers(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Pairs> {
    let mut trailers = Pairs::new();
    loop {
        let line = text(&read_line(stream).await?);
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(trailers) };
        trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

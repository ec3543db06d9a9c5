//! An object in the S3 server that `with-servers` has started beside this program.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use anyhow::{Context, ensure};

/// What the server under test gets to see of this program's environment.
const VARIABLES: [&str; 4] = ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"];
const KEY: &str = "users/0042/sample.csv";
const OBJECT_BYTES: usize = 4096;

/// The address of the object.
pub(crate) fn uri() -> anyhow::Result<String> {
    Ok(format!("s3://{}/{KEY}", bucket()?))
}

/// How the S3 server is reached, for the server under test.
pub(crate) fn variables() -> anyhow::Result<Vec<(&'static str, String)>> {
    VARIABLES.iter().map(|name| Ok((*name, variable(name)?))).collect()
}

/// Puts the object where its address says. The server takes it without a signature.
pub(crate) fn put() -> anyhow::Result<()> {
    let endpoint = variable("AWS_ENDPOINT_URL")?;
    let authority = endpoint.strip_prefix("http://").context("the S3 server is not reached by plain HTTP")?.trim_end_matches('/');
    let stream = TcpStream::connect(authority).with_context(|| format!("the S3 server at `{authority}` cannot be reached"))?;
    let mut stream = BufReader::new(stream);
    let head = format!(
        "PUT /{}/{KEY} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {OBJECT_BYTES}\r\nConnection: close\r\n\r\n",
        bucket()?
    );
    stream.get_mut().write_all(&[head.as_bytes(), &[b'1'; OBJECT_BYTES]].concat()).context("the object cannot be sent")?;
    let mut status = String::new();
    stream.read_line(&mut status).context("the S3 server does not answer")?;
    ensure!(status.contains(" 200 "), "the S3 server answers `{}`", status.trim_end());
    Ok(())
}

fn bucket() -> anyhow::Result<String> {
    variable("DUNNAGE_TEST_BUCKET")
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("`{name}` is not set; `make guard` runs this beside an S3 server"))
}

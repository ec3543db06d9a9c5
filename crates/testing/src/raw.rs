//! A connection on which anything can be sent, well formed or not.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;

use crate::http::Response;
use crate::service::Service;

/// No answer is waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a service. Dropping it hangs up.
pub struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    ///
    /// When nobody listens.
    #[must_use]
    pub fn connect(service: &Service) -> Self {
        Self::try_connect(service.address()).expect("the service listens")
    }

    /// Connects, if that can be done.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::connect`].
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    ///
    /// When the other end does not take them.
    #[must_use]
    pub fn sent(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.send(bytes).expect("the service reads");
        self
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// When the other end does not take them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends no more, and goes on listening.
    ///
    /// # Panics
    ///
    /// When the other end has reset the connection.
    pub fn shut(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// The next answer.
    ///
    /// # Panics
    ///
    /// When none comes.
    #[track_caller]
    pub fn answer(&mut self) -> Response {
        Response::read(&mut self.stream, false).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Every answer up to the end of the connection, which has to come within `patience` of the last.
    ///
    /// # Panics
    ///
    /// When it does not, or in the middle of an answer.
    #[track_caller]
    pub fn answers(&mut self, patience: Duration) -> Vec<Response> {
        let mut answers = Vec::new();
        self.stream.get_ref().set_read_timeout(Some(patience)).expect("a time is set");
        loop {
            match self.stream.fill_buf() {
                Ok([]) => return answers,
                Ok(_) => answers.push(self.answer()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return answers,
                Err(error) => panic!("the connection stays open after {answers:?}: {error}"),
            }
        }
    }

    /// Whether nothing more comes for so long, and the connection stays open.
    #[must_use]
    pub fn is_quiet(&mut self, time: Duration) -> bool {
        self.stream.get_ref().set_read_timeout(Some(time)).expect("a time is set");
        let quiet = self.stream.fill_buf().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("a time is set");
        quiet
    }

    /// Reads so many bytes of whatever comes.
    ///
    /// # Panics
    ///
    /// When fewer come.
    pub fn skip(&mut self, bytes: usize) {
        let mut scratch = vec![0; bytes];
        self.stream.read_exact(&mut scratch).expect("more is to come");
    }

    /// Reads whatever comes, `bytes` at a time, with a `pause` behind each, up to the end of the connection. Returns how much that was.
    ///
    /// # Panics
    ///
    /// When the system cannot read.
    pub fn take_slowly(&mut self, bytes: u64, pause: Duration) -> u64 {
        let mut whole = 0;
        loop {
            let mut part = self.stream.by_ref().take(bytes);
            let taken = io::copy(&mut part, &mut io::sink());
            match taken {
                Ok(0) => return whole,
                Ok(taken) => whole += taken,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return whole,
                Err(error) => panic!("after {whole} bytes: {error}"),
            }
            std::thread::sleep(pause);
        }
    }

    /// Makes the system keep little of what has come and was not read, so that the other end soon finds that it is not taken.
    ///
    /// # Panics
    ///
    /// When the system does not.
    #[must_use]
    pub fn narrow(self) -> Self {
        sockopt::set_socket_recv_buffer_size(self.stream.get_ref(), 4096).expect("a size is set");
        self
    }

    /// Hangs up so that the other end is told of an error.
    ///
    /// # Panics
    ///
    /// When the system cannot do that.
    pub fn reset(self) {
        sockopt::set_socket_linger(self.stream.get_ref(), Some(Duration::ZERO)).expect("a time is set");
    }
}

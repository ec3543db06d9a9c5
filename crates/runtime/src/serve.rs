//! The worker loop: hello, load, then one call after the other until the server closes the connection.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use dunnage_protocol::{
    Done, Hello, Load, LoadFailed, Loaded, Outcome, Output, Outputs, PROTOCOL_VERSION, Run, ToServer, ToWorker,
};

use crate::backend::{Answers, Backend};
use crate::connection::{Connection, ConnectionError};
use crate::host::Host;

/// Speaks the protocol on `stream` for `backend`, until the server closes the connection.
///
/// # Errors
///
/// [`WorkerError`] if the script could not be loaded or the connection failed. The process should then exit with a code
/// other than zero.
pub fn serve(stream: UnixStream, backend: &mut impl Backend) -> Result<(), WorkerError> {
    let connection = Arc::new(Connection::new(stream).map_err(ConnectionError::from)?);
    let worker = Worker { host: Host::new(Arc::clone(&connection)), connection };
    worker.greet(backend)?;
    let Some(load) = worker.receive_load()? else { return Ok(()) };
    worker.load(backend, &load)?;
    while let Some(message) = worker.connection.next_call()? {
        match message {
            ToWorker::Output(output) => worker.output(backend, &output)?,
            ToWorker::Run(run) => worker.run(backend, &run)?,
            _ => return Err(WorkerError::OutOfOrder),
        }
    }
    Ok(())
}

struct Worker {
    connection: Arc<Connection>,
    host: Host,
}

impl Worker {
    fn greet(&self, backend: &impl Backend) -> Result<(), ConnectionError> {
        let identity = backend.identity();
        self.connection.send(&ToServer::Hello(Hello {
            protocol: PROTOCOL_VERSION,
            runtime: identity.runtime,
            version: identity.version,
            language: identity.language,
            capabilities: ["state", "artifacts", "cancel"].map(str::to_owned).to_vec(),
        }))
    }

    fn receive_load(&self) -> Result<Option<Load>, WorkerError> {
        match self.connection.next_call()? {
            Some(ToWorker::Load(load)) => Ok(Some(load)),
            Some(_) => Err(WorkerError::OutOfOrder),
            None => Ok(None),
        }
    }

    fn load(&self, backend: &mut impl Backend, load: &Load) -> Result<(), WorkerError> {
        let loaded = backend.load(load, &self.host);
        backend.flush();
        match loaded {
            Ok(functions) => Ok(self.connection.send(&ToServer::Loaded(Loaded { functions }))?),
            Err(error) => {
                let message = error.message.clone();
                self.connection.send(&ToServer::LoadFailed(LoadFailed { error }))?;
                Err(WorkerError::Load(message))
            }
        }
    }

    fn output(&self, backend: &mut impl Backend, output: &Output) -> Result<(), ConnectionError> {
        let host = self.host.call(output.call);
        let mut answers = Answers::default();
        backend.output(output, &host, &mut answers);
        host.end();
        backend.flush();
        let (items, payload) = answers.finish(output.requests.len());
        self.connection.send(&ToServer::Outputs(Outputs { call: output.call, items }, payload))
    }

    fn run(&self, backend: &mut impl Backend, run: &Run) -> Result<(), ConnectionError> {
        let host = self.host.call(run.call);
        let result = backend.run(run, &host);
        host.end();
        backend.flush();
        let outcome = result.map_or_else(Outcome::Error, Outcome::Ok);
        self.connection.send(&ToServer::Done(Done { call: run.call, outcome }))
    }
}

/// Why a worker ended before its server wanted it to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The script cannot be loaded; the server knows.
    #[error("the script cannot be loaded: {0}")]
    Load(String),
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The server broke the order of messages.
    #[error("the server sent a message out of order")]
    OutOfOrder,
}

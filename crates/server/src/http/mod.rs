//! Connections: which are taken, how long they may be quiet, and what is said on those that never come to a request.
//!
//! [`server`] puts it together: [`arrivals`] takes connections, and gives each to one of the [`event_loops`]. There it passes [`front`], which
//! asks [`mod@admission`] for room and does the handshake of TLS, and becomes a [`connection::Connection`], a stream that keeps the clocks. The
//! HTTP library reads requests from it and calls [`exchange`], which tells the connection whose turn it is and hands the request to the routes.
//! Refusals of what the library cannot read are written by [`refusal`], in our words. [`awaited`] keeps the time of bodies, [`pace`] knows how
//! much is left, [`target`] looks at what was asked for. [`farewell`] tells all connections of a thread that the server ends. `docs/http.md` is
//! this for operators.

pub(crate) mod admission;
mod arrivals;
pub(crate) mod awaited;
mod connection;
mod descriptors;
mod ending;
mod event_loops;
pub(crate) mod exchange;
mod expectation;
mod farewell;
mod front;
mod head;
mod pace;
mod refusal;
mod server;
pub(crate) mod target;
mod timer;
pub(crate) mod traffic;
mod transport;

pub(crate) use self::event_loops::EventLoops;
pub(crate) use self::server::Server;

use self::admission::Admission;
use crate::config::ConnectionConfig;

/// Room for as many connections as are wanted, or as many as the system allows this process.
pub(crate) fn admission(config: &ConnectionConfig) -> Admission {
    Admission::new(descriptors::room_for(config.max))
}

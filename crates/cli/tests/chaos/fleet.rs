//! The replicas of one service, each with its own way to the database.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunnage_testing::census::eventually;
use dunnage_testing::proxy::{Modes, Proxy};
use dunnage_testing::service::Service;
use dunnage_testing::setup::Setup;

use crate::ground::Ground;

/// How long a replica may take to be ready once all faults have stopped.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// Replicas that can be treated badly, one by one.
pub(crate) struct Fleet<'a> {
    setup: &'a Setup,
    replicas: Vec<Replica>,
    addresses: Addresses,
    left: Vec<String>,
}

struct Replica {
    /// There, unless it is just being replaced.
    service: Option<Service>,
    proxy: Option<Proxy>,
}

impl Replica {
    fn service(&self) -> &Service {
        self.service.as_ref().expect("it is there between faults")
    }

    fn flags(&self, ground: &Ground) -> Vec<String> {
        match (ground, &self.proxy) {
            (Ground::Postgres { url, .. }, Some(proxy)) => {
                let database = url.rsplit('/').next().expect("an address ends with a name");
                vec!["--database-url".to_owned(), format!("postgres://postgres@{}/{database}", proxy.address())]
            }
            _ => Vec::new(),
        }
    }

    fn launch(&self, setup: &Setup, ground: &Ground) -> Service {
        let flags = self.flags(ground);
        setup.launch_with(&flags.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Where the replicas listen at the moment.
#[derive(Clone)]
pub(crate) struct Addresses(Arc<Mutex<Vec<SocketAddr>>>);

impl Addresses {
    /// One of them; other numbers give others.
    pub(crate) fn pick(&self, number: usize) -> SocketAddr {
        let addresses = self.0.lock().expect("no holder panics");
        addresses[number % addresses.len()]
    }
}

impl<'a> Fleet<'a> {
    /// Starts as many replicas as the ground carries, and waits until they are ready.
    pub(crate) fn start(setup: &'a Setup, ground: &Ground) -> Self {
        let mut replicas = Vec::new();
        for _ in 0..ground.replicas() {
            let mut replica = Replica { service: None, proxy: proxy(ground) };
            replica.service = Some(replica.launch(setup, ground));
            replicas.push(replica);
        }
        let addresses = replicas.iter().map(|replica| replica.service().address()).collect();
        let fleet = Self { setup, replicas, addresses: Addresses(Arc::new(Mutex::new(addresses))), left: Vec::new() };
        fleet.wait_until_ready();
        fleet
    }

    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    pub(crate) fn size(&self) -> usize {
        self.replicas.len()
    }

    /// Kills a replica where it stands, and puts another in its place.
    pub(crate) fn kill(&mut self, number: usize, ground: &Ground) {
        let replica = &mut self.replicas[number];
        let killed = replica.service.take().expect("it is there between faults");
        self.left.extend(killed.kill_and_count());
        let service = replica.launch(self.setup, ground);
        self.addresses.0.lock().expect("no holder panics")[number] = service.address();
        replica.service = Some(service);
    }

    pub(crate) fn pause(&self, number: usize) {
        self.replicas[number].service().pause();
    }

    pub(crate) fn resume(&self, number: usize) {
        self.replicas[number].service().resume();
    }

    /// Sets what happens on a replica's way to the database.
    pub(crate) fn set_network(&self, number: usize, modes: Modes) {
        self.network(number).set(modes);
    }

    /// Resets a replica's connections to the database.
    pub(crate) fn reset_network(&self, number: usize) {
        self.network(number).reset_all();
    }

    fn network(&self, number: usize) -> &Proxy {
        self.replicas[number].proxy.as_ref().expect("only ways to PostgreSQL are disturbed")
    }

    pub(crate) fn wait_until_ready(&self) {
        for replica in &self.replicas {
            let service = replica.service();
            eventually("a replica is ready", READY_PATIENCE, || (service.get("/healthz/ready").status == 200).then_some(()));
        }
    }

    /// Ends every replica in good order, and returns the processes that were left by those that were killed.
    pub(crate) fn end(self) -> Vec<String> {
        for replica in self.replicas {
            let (status, log) = replica.service.expect("it is there between faults").terminate();
            assert_eq!(status.code(), Some(0), "{log}");
        }
        self.left
    }
}

fn proxy(ground: &Ground) -> Option<Proxy> {
    match ground {
        Ground::Sqlite => None,
        Ground::Postgres { cluster, .. } => Some(Proxy::start(SocketAddr::from(([127, 0, 0, 1], cluster.port())))),
    }
}

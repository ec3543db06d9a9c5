//! Ports for servers that cannot choose one themselves.

use std::net::{Ipv4Addr, TcpListener};

/// Below those that the kernel gives to clients: while a server restarts, its port stays free for it.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A port of the loopback that is free now.
pub(crate) fn free() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let drawn = std::iter::repeat_with(|| rand::random_range(PORTS));
    drawn.take(PORTS.len()).find(is_free).expect("one of many ports is free")
}

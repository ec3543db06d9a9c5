//! Which addresses callbacks may go to: those of the public internet, and others only where that is allowed.
//!
//! Clients name the URL, so a callback must not become a way to reach what only this machine or its network can.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses with a purpose of their own, by IANA's registries of special-purpose addresses.
struct Range<A> {
    first: A,
    prefix_bits: u32,
    kind: &'static str,
    /// Whether somebody may mean it; the others are never a receiver's.
    may_be_meant: bool,
}

const fn v4(first: [u8; 4], prefix_bits: u32, kind: &'static str, may_be_meant: bool) -> Range<Ipv4Addr> {
    Range { first: Ipv4Addr::new(first[0], first[1], first[2], first[3]), prefix_bits, kind, may_be_meant }
}

const fn v6(first: [u16; 2], prefix_bits: u32, kind: &'static str, may_be_meant: bool) -> Range<Ipv6Addr> {
    Range { first: Ipv6Addr::new(first[0], first[1], 0, 0, 0, 0, 0, 0), prefix_bits, kind, may_be_meant }
}

const SPECIAL_V4: [Range<Ipv4Addr>; 15] = [
    v4([0, 0, 0, 0], 8, "unspecified", false),
    v4([10, 0, 0, 0], 8, "private", true),
    v4([100, 64, 0, 0], 10, "shared by a carrier", true),
    v4([127, 0, 0, 0], 8, "loopback", true),
    // Where clouds answer with credentials.
    v4([169, 254, 0, 0], 16, "link-local", false),
    v4([172, 16, 0, 0], 12, "private", true),
    v4([192, 0, 0, 0], 24, "reserved", false),
    v4([192, 0, 2, 0], 24, "for documentation", false),
    v4([192, 88, 99, 0], 24, "reserved", false),
    v4([192, 168, 0, 0], 16, "private", true),
    v4([198, 18, 0, 0], 15, "for benchmarks", false),
    v4([198, 51, 100, 0], 24, "for documentation", false),
    v4([203, 0, 113, 0], 24, "for documentation", false),
    v4([224, 0, 0, 0], 4, "multicast", false),
    v4([240, 0, 0, 0], 4, "reserved", false),
];

const SPECIAL_V6: [Range<Ipv6Addr>; 8] = [
    // Protocol assignments, Teredo's tunnels among them.
    v6([0x2001, 0], 23, "reserved", false),
    v6([0x2001, 0xdb8], 32, "for documentation", false),
    // Tunnels to IPv4 addresses of any kind.
    v6([0x2002, 0], 16, "reserved", false),
    v6([0x3fff, 0], 20, "for documentation", false),
    v6([0xfc00, 0], 7, "private", true),
    v6([0xfe80, 0], 10, "link-local", false),
    v6([0xfec0, 0], 10, "private", true),
    v6([0xff00, 0], 8, "multicast", false),
];
/// Where public addresses come from; what lies outside is not in use.
const PUBLIC_V6: Range<Ipv6Addr> = v6([0x2000, 0], 3, "public", true);

/// What speaks against an address, in a word or a few; `allow_private` is whether private and loopback ones are allowed.
pub(super) fn refusal(address: IpAddr, allow_private: bool) -> Option<&'static str> {
    let (kind, may_be_meant) = match address {
        IpAddr::V4(address) => special_v4(address)?,
        IpAddr::V6(address) => special_v6(address)?,
    };
    (!(allow_private && may_be_meant)).then_some(kind)
}

fn special_v4(address: Ipv4Addr) -> Option<(&'static str, bool)> {
    let contains = |range: &&Range<Ipv4Addr>| {
        let mask = u32::MAX << (u32::BITS - range.prefix_bits);
        address.to_bits() & mask == range.first.to_bits()
    };
    SPECIAL_V4.iter().find(contains).map(|range| (range.kind, range.may_be_meant))
}

fn special_v6(address: Ipv6Addr) -> Option<(&'static str, bool)> {
    if let Some(inner) = embedded_v4(address) {
        return special_v4(inner);
    }
    if address.is_loopback() {
        return Some(("loopback", true));
    }
    if address.is_unspecified() {
        return Some(("unspecified", false));
    }
    let special = SPECIAL_V6.iter().find(|range| contains_v6(range, address)).map(|range| (range.kind, range.may_be_meant));
    special.or_else(|| (!contains_v6(&PUBLIC_V6, address)).then_some(("reserved", false)))
}

fn contains_v6(range: &Range<Ipv6Addr>, address: Ipv6Addr) -> bool {
    let mask = u128::MAX << (u128::BITS - range.prefix_bits);
    address.to_bits() & mask == range.first.to_bits()
}

/// The IPv4 address that is reached by an IPv6 one, mapped (`::ffff:0:0/96`) or translated (`64:ff9b::/96`).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first, second, 0, 0, 0, mark, _, _] = address.segments() else { return None };
    let is_embedded = matches!((first, second, mark), (0, 0, 0xffff) | (0x64, 0xff9b, 0));
    is_embedded.then(|| {
        let [.., a, b, c, d] = address.octets();
        Ipv4Addr::new(a, b, c, d)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(address: &str) -> (Option<&'static str>, Option<&'static str>) {
        let address = address.parse().unwrap();
        (refusal(address, false), refusal(address, true))
    }

    #[test]
    fn public_addresses_are_reached() {
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2606:4700::1111",
            "3ffe::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
        ] {
            assert_eq!(verdicts(address), (None, None), "{address}");
        }
    }

    #[test]
    fn private_addresses_are_reached_only_where_that_is_allowed() {
        for (address, kind) in [
            ("10.0.0.1", "private"),
            ("10.255.255.255", "private"),
            ("172.16.0.0", "private"),
            ("172.31.255.255", "private"),
            ("192.168.0.1", "private"),
            ("100.64.0.0", "shared by a carrier"),
            ("100.127.255.255", "shared by a carrier"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("::1", "loopback"),
            ("fc00::1", "private"),
            ("fdff::1", "private"),
            ("fec0::1", "private"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:10.0.0.1", "private"),
            ("64:ff9b::192.168.0.1", "private"),
        ] {
            assert_eq!(verdicts(address), (Some(kind), None), "{address}");
        }
    }

    #[test]
    fn addresses_of_no_receiver_are_never_reached() {
        for (address, kind) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("169.254.169.254", "link-local"),
            ("192.0.0.8", "reserved"),
            ("192.0.2.1", "for documentation"),
            ("192.88.99.1", "reserved"),
            ("198.18.0.1", "for benchmarks"),
            ("198.19.255.255", "for benchmarks"),
            ("198.51.100.1", "for documentation"),
            ("203.0.113.1", "for documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "reserved"),
            ("::", "unspecified"),
            ("::127.0.0.1", "reserved"),
            ("::ffff:169.254.169.254", "link-local"),
            ("64:ff9b::0.0.0.0", "unspecified"),
            ("64:ff9b:1::1", "reserved"),
            ("100::1", "reserved"),
            ("2001::1", "reserved"),
            ("2001:db8::1", "for documentation"),
            ("2002:7f00:1::", "reserved"),
            ("3fff:fff::1", "for documentation"),
            ("4000::1", "reserved"),
            ("5f00::1", "reserved"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(verdicts(address), (Some(kind), Some(kind)), "{address}");
        }
    }
}

//! What each peer may hold of something that there is a limit of: connections, or memory.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Who is at the other end of a connection: an IPv4 address, or an IPv6 network of 64 bits, of which one subscriber has all
/// addresses (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// How many units all peers together, and each of them, may hold.
#[derive(Debug)]
pub struct PeerLimit {
    in_all: usize,
    per_peer: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    in_all: usize,
    /// Only the peers that hold something.
    by_peer: HashMap<Peer, usize>,
}

/// What one request or connection of a peer holds. Dropping it gives everything back.
#[derive(Debug)]
pub struct Holding {
    limit: Arc<PeerLimit>,
    peer: Peer,
    units: usize,
}

/// The limit is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitReached {
    /// By all peers together.
    #[error("the limit of all peers together is reached")]
    InAll,
    /// By this peer.
    #[error("this peer holds as much as one peer may")]
    OfPeer,
}

impl PeerLimit {
    /// A limit of which nothing is held.
    pub fn new(in_all: usize, per_peer: usize) -> Arc<Self> {
        Arc::new(Self { in_all, per_peer, held: Mutex::default() })
    }

    /// An empty holding of `peer`.
    pub fn holding(self: &Arc<Self>, peer: Peer) -> Holding {
        Holding { limit: self.clone(), peer, units: 0 }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // The counts are right after every statement.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holding {
    /// Takes more units, or none when not all of them are left.
    pub fn take(&mut self, units: usize) -> Result<(), LimitReached> {
        if units == 0 {
            return Ok(());
        }
        let mut held = self.limit.held();
        let of_peer = held.by_peer.get(&self.peer).copied().unwrap_or(0);
        if units > self.limit.per_peer.saturating_sub(of_peer) {
            return Err(LimitReached::OfPeer);
        }
        if units > self.limit.in_all.saturating_sub(held.in_all) {
            return Err(LimitReached::InAll);
        }
        held.in_all += units;
        held.by_peer.insert(self.peer, of_peer + units);
        drop(held);
        self.units += units;
        Ok(())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut held = self.limit.held();
        held.in_all -= self.units;
        if let Some(of_peer) = held.by_peer.get_mut(&self.peer) {
            *of_peer -= self.units;
            if *of_peer == 0 {
                held.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::from(address.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn no_peer_holds_more_than_one_may_and_all_of_them_no_more_than_there_is() {
        let limit = PeerLimit::new(10, 6);
        let (mut a, mut b) = (limit.holding(peer("192.0.2.1")), limit.holding(peer("192.0.2.2")));
        assert_eq!(a.take(6), Ok(()));
        assert_eq!(a.take(1), Err(LimitReached::OfPeer));
        assert_eq!(limit.holding(peer("192.0.2.1")).take(1), Err(LimitReached::OfPeer), "another of its requests");
        assert_eq!(b.take(4), Ok(()));
        assert_eq!(b.take(1), Err(LimitReached::InAll));
        drop(a);
        assert_eq!(b.take(2), Ok(()));
        drop(b);
        assert!(limit.held().by_peer.is_empty() && limit.held().in_all == 0, "nothing is kept of those that left");
    }

    #[test]
    fn a_subscriber_is_one_peer_whatever_form_its_address_has() {
        assert_eq!(peer("2001:db8:0:1::1"), peer("2001:db8:0:1:ffff::2"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8:0:2::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}

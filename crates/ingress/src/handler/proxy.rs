//! Peers that speak for others: whose PROXY header counts, whose XCLIENT, and what becomes of it.
//!
//! Trust is never inferred from being near (DESIGN.md F1, F2): a peer is one of these because
//! the configuration lists it, and then its own address opens nothing where it should have named another.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use mail::{Reason, Reply, Status};
use observe::{Listener, PeerFault};
use ring::Ring;
use smtp::proxy::Fault;
use smtp::server::{Introduction, Told, XClient, XClientRights};

use crate::events::{ProxyHeaderWrong, WrongIntroduction, XClientRefused};
use crate::handler::SessionHandler;
use crate::refusal::{Detail, Refusal, TurnedAway};

/// The address of a client that has none: it is in no network.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Peers that speak for others. The lists are short: they are looked through once a connection.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// Who must send a PROXY header.
    pub proxies: Box<[IpNet]>,
    /// Who may send XCLIENT, matched against the address that the PROXY header gave, if there is one.
    pub xclient: Box<[IpNet]>,
    /// Whether XCLIENT may say as whom a client has logged in.
    pub xclient_login: bool,
}

impl Peers {
    /// Whether a peer must send a PROXY header.
    pub(crate) fn is_proxy(&self, peer: IpAddr) -> bool {
        is_listed(&self.proxies, peer)
    }

    /// What a client may say with XCLIENT.
    pub(crate) fn xclient_rights(&self, client: IpAddr) -> XClientRights {
        match (is_listed(&self.xclient, client), self.xclient_login) {
            (false, _) => XClientRights::None,
            (true, false) => XClientRights::Address,
            (true, true) => XClientRights::Login,
        }
    }
}

fn is_listed(list: &[IpNet], address: IpAddr) -> bool {
    !address.is_unspecified() && list.iter().any(|net| net.contains(&address))
}

impl<R: Ring> SessionHandler<'_, '_, R> {
    pub(crate) fn take_proxied(&mut self, client: Option<SocketAddr>) -> Result<(), TurnedAway> {
        self.client.address = client.map_or(NO_ADDRESS, |client| client.ip().to_canonical());
        self.client.xclient = self.settings.peers.xclient_rights(self.client.address);
        self.admit()
    }

    pub(crate) fn record_proxy_fault(&mut self, fault: Fault) {
        self.record_peer_fault(match fault {
            Fault::Missing => PeerFault::HeaderMissing,
            Fault::Malformed => PeerFault::HeaderMalformed,
            Fault::TooLong => PeerFault::HeaderTooLong,
            Fault::Checksum => PeerFault::HeaderChecksum,
            Fault::Unlisted => PeerFault::HeaderUnlisted,
        });
    }

    pub(crate) fn record_xclient_refused(&mut self) {
        let is_listed = self.client.xclient != XClientRights::None;
        self.record_peer_fault(if is_listed { PeerFault::XClientLogin } else { PeerFault::XClientUnlisted });
    }

    /// Logs it as `proxy_header` or `xclient`, with the address that the connection itself has.
    fn record_peer_fault(&mut self, fault: PeerFault) {
        let (metrics, now) = (self.cx.metrics, self.cx.now());
        let listener = &self.settings.listeners[self.client.listener].policy.name;
        let listener = Listener { index: self.client.listener, name: listener };
        let wrong = WrongIntroduction { listener, peer: self.client.peer, reason: fault };
        match fault {
            PeerFault::XClientUnlisted | PeerFault::XClientLogin => {
                self.cx.log.record_and_count(&XClientRefused(wrong), metrics, now);
            }
            _ => self.cx.log.record_and_count(&ProxyHeaderWrong(wrong), metrics, now),
        }
    }

    /// Takes what a listed peer says of its client, once: then it may say nothing more. A login of
    /// before was another client's.
    pub(crate) fn take_xclient(&mut self, told: &XClient, reply: &mut Reply) -> Introduction {
        let login = match &told.login {
            Some(Told::Value(login)) => {
                if self.cx.snapshots.load().identity(login).is_none() {
                    self.refuse_told_login(told, login, reply);
                    return Introduction::Refused;
                }
                Some(login)
            }
            Some(Told::Unavailable) | None => None,
        };
        let client = &mut *self.client;
        match &told.address {
            Some(Told::Value(address)) => client.address = *address,
            Some(Told::Unavailable) => client.address = NO_ADDRESS,
            None => {}
        }
        client.helo.clear();
        client.helo_is_told = false;
        if let Some(Told::Value(helo)) = &told.helo {
            client.helo.push_str(helo);
            client.helo_is_told = true;
        }
        client.login.clear();
        client.identity = None;
        // Whatever comes from here on may be its client's own words, passed on.
        self.client.xclient = XClientRights::None;
        if let Err(why) = self.admit() {
            self.turn_away(&why, reply);
            return Introduction::TurnedAway;
        }
        if let Some(login) = login {
            self.client.login.push_str(login);
            // By the configuration that the client was admitted under, which may be a newer one.
            self.client.identity = self.client.snapshot.identity(login);
            self.seats.log_in(self.client.key, self.cx.ring.now());
        }
        Introduction::Taken
    }

    /// Refuses a login that no tenant has. The denial is that of the client, not of the peer that
    /// speaks for it.
    fn refuse_told_login(&mut self, told: &XClient, login: &str, reply: &mut Reply) {
        let before = self.client.address;
        match &told.address {
            Some(Told::Value(address)) => self.client.address = *address,
            Some(Told::Unavailable) => self.client.address = NO_ADDRESS,
            None => {}
        }
        let identity = self.client.identity.take();
        let own_login = std::mem::replace(&mut self.client.login, login.to_owned());
        let refusal = Refusal::for_reason(Reason::LoginFailed, None);
        let text = Detail::Text("no such login here");
        self.refuse(&refusal.in_words(550, Status::new(5, 7, 0), text), "", reply);
        self.client.login = own_login;
        self.client.identity = identity;
        self.client.address = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Peers {
        Peers {
            proxies: Box::new(["10.8.0.0/24".parse().unwrap(), "0.0.0.0/8".parse().unwrap()]),
            xclient: Box::new(["10.8.0.9/32".parse().unwrap(), "2001:db8::/32".parse().unwrap()]),
            xclient_login: false,
        }
    }

    #[test]
    fn a_peer_is_what_its_list_says() {
        let peers = peers();
        for (address, is_proxy, rights) in [
            ("10.8.0.9", true, XClientRights::Address),
            ("10.8.0.10", true, XClientRights::None),
            ("10.8.1.1", false, XClientRights::None),
            ("2001:db8::1", false, XClientRights::Address),
        ] {
            let address = address.parse().unwrap();
            assert_eq!((peers.is_proxy(address), peers.xclient_rights(address)), (is_proxy, rights));
        }
        let trusting = Peers { xclient_login: true, ..peers };
        assert_eq!(trusting.xclient_rights("10.8.0.9".parse().unwrap()), XClientRights::Login);
    }

    #[test]
    fn who_has_no_address_is_in_no_list() {
        assert!(!peers().is_proxy(NO_ADDRESS));
        assert_eq!(peers().xclient_rights(NO_ADDRESS), XClientRights::None);
    }
}

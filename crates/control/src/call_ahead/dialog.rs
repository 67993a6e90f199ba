//! One call: the dialog with a next hop, over the SMTP client session that delivery speaks too.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mail::{Address, Reply, ReversePath};
use policy::{NextHop, Route, RouteTls};
use rustls::pki_types::ServerName;
use smtp::client::{ClientTls, Event, Failure, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::CallAheadOptions;
use crate::dns::Dns;

/// To open a connection, before the next address is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is heard of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The next hop takes its mail.
    Known,
    /// It says that there is no such recipient.
    Unknown,
    /// It says nothing that tells the one from the other.
    Nothing,
}

/// What lies outside: next hops and time.
pub(super) trait Outside: Send + Sync {
    /// Asks the next hops of `route`, in their order, for a recipient; `None`: none of them could be spoken
    /// to. Unless they are known to tell recipients apart (`discerns`), a no counts only where postmaster,
    /// whom every domain has (RFC 5321 section 4.5.1), gets a yes: a server that refuses all addresses knows none.
    fn call<'a>(&'a self, route: &'a Route, address: Address<'a>, discerns: bool)
    -> Later<'a, Option<Heard>>;

    /// Ends when `time` has passed.
    fn after(&self, time: Duration) -> Later<'static, ()>;
}

/// What comes some time later.
pub(super) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who speaks over sockets.
pub(super) struct Caller {
    dns: Arc<Dns>,
    options: CallAheadOptions,
}

/// Why a call came to nothing.
enum Broken {
    /// The handshake failed: without TLS it may go better.
    Tls,
    /// Anything else.
    Other,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Other
    }
}

impl Outside for Caller {
    fn call<'a>(
        &'a self,
        route: &'a Route,
        address: Address<'a>,
        discerns: bool,
    ) -> Later<'a, Option<Heard>> {
        Box::pin(async move {
            for next_hop in &route.next_hops {
                for to in self.addresses(next_hop).await {
                    let heard = self.call_one(to, &next_hop.host, route.tls, address, discerns).await;
                    if heard.is_some() {
                        return heard;
                    }
                }
            }
            None
        })
    }

    fn after(&self, time: Duration) -> Later<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

impl Caller {
    pub(super) fn new(dns: Arc<Dns>, options: CallAheadOptions) -> Self {
        Self { dns, options }
    }

    async fn addresses(&self, next_hop: &NextHop) -> Vec<SocketAddr> {
        let (found, _) = self.dns.addresses(&next_hop.host).await;
        found.unwrap_or_default().into_iter().map(|ip| SocketAddr::new(ip, next_hop.port)).collect()
    }

    /// Asks the next hop at `to`.
    async fn call_one(
        &self,
        to: SocketAddr,
        host: &str,
        tls: RouteTls,
        address: Address<'_>,
        discerns: bool,
    ) -> Option<Heard> {
        match self.converse(to, self.tls(host, tls), address, discerns).await {
            Ok(heard) => Some(heard),
            // RFC 7435: opportunistic means that no TLS is better than no answer.
            Err(Broken::Tls) if tls == RouteTls::Opportunistic => {
                self.converse(to, ClientTls::Off, address, discerns).await.ok()
            }
            Err(Broken::Tls | Broken::Other) => None,
        }
    }

    fn tls(&self, host: &str, tls: RouteTls) -> ClientTls {
        let required = tls == RouteTls::Required;
        let config = if required { &self.options.required } else { &self.options.opportunistic };
        match ServerName::try_from(host.to_owned()) {
            Ok(name) if tls != RouteTls::Off => {
                ClientTls::StartTls { config: config.clone(), name, required }
            }
            _ => ClientTls::Off,
        }
    }

    async fn converse(
        &self,
        to: SocketAddr,
        tls: ClientTls,
        address: Address<'_>,
        discerns: bool,
    ) -> Result<Heard, Broken> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(to));
        let mut stream = connecting.await.map_err(|_| Broken::Other)??;
        let mut session = Session::new(&self.options.hostname, tls);
        let postmaster = format!("postmaster@{}", address.domain());
        let postmaster = Address::parse(&postmaster).map_err(|_| Broken::Other)?;
        let mut questions = [address, postmaster].into_iter();
        let mut heard = None;
        let mut buffer = [0; 4096];
        loop {
            while let Some(event) = session.poll() {
                match event {
                    Event::Ready => match (heard, questions.next()) {
                        (None | Some(Heard::Unknown), Some(next)) if heard.is_none() || !discerns => {
                            session.verify(ReversePath::Null, std::iter::once(next));
                        }
                        _ => {
                            session.quit();
                            // A courtesy: what was to be heard is heard.
                            let _ = stream.write_all(session.output()).await;
                            return Ok(heard.unwrap_or(Heard::Nothing));
                        }
                    },
                    Event::Recipient { reply, .. } => heard = Some(next_heard(heard, &reply)),
                    // It takes no notifications, or nothing from us: that says nothing of a recipient.
                    Event::TransactionRefused { .. } => heard = Some(Heard::Nothing),
                    Event::Failed { error } => {
                        return match heard {
                            Some(Heard::Known) => Ok(Heard::Known),
                            _ => Err(broken(&error)),
                        };
                    }
                    Event::SendBody | Event::Done { .. } => return Ok(Heard::Nothing),
                }
            }
            stream.write_all(session.output()).await?;
            session.output().clear();
            match stream.read(&mut buffer).await? {
                0 => session.peer_ended(),
                count => session.receive(&buffer[..count]),
            }
        }
    }
}

fn broken(error: &Failure) -> Broken {
    match error {
        Failure::Tls(_) => Broken::Tls,
        _ => Broken::Other,
    }
}

/// What is heard of the recipient after one more reply: the first is about itself, the second about postmaster.
fn next_heard(heard: Option<Heard>, reply: &Reply) -> Heard {
    match heard {
        None => about_recipient(reply),
        Some(Heard::Unknown) if reply.is_positive() => Heard::Unknown,
        Some(_) => Heard::Nothing,
    }
}

fn about_recipient(reply: &Reply) -> Heard {
    let status = reply.status().map(|status| (status.subject, status.detail));
    match status {
        _ if reply.is_positive() => Heard::Known,
        _ if !reply.is_permanent() => Heard::Nothing,
        // A full mailbox is one.
        Some((2, 2)) => Heard::Known,
        // A refusal by policy is about us, not about the recipient.
        Some((7, _)) => Heard::Nothing,
        _ => Heard::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use mail::Status;

    use super::*;

    #[test]
    fn only_a_permanent_refusal_of_the_recipient_itself_makes_it_unknown() {
        let reply = |code, status: Option<(u16, u16)>| {
            let class = (code / 100) as u8;
            Reply::new(code, status.map(|(subject, detail)| Status { class, subject, detail }), "x")
        };
        for (code, status, heard) in [
            (250, Some((1, 5)), Heard::Known),
            (251, None, Heard::Known),
            (550, Some((1, 1)), Heard::Unknown),
            (550, None, Heard::Unknown),
            (551, Some((1, 6)), Heard::Unknown),
            (552, Some((2, 2)), Heard::Known),
            (550, Some((7, 1)), Heard::Nothing),
            (450, Some((2, 0)), Heard::Nothing),
            (451, None, Heard::Nothing),
        ] {
            assert_eq!(about_recipient(&reply(code, status)), heard, "{code} {status:?}");
        }
    }

    #[test]
    fn a_server_that_refuses_postmaster_too_refuses_everybody() {
        let (yes, no) = (Reply::new(250, None, "ok"), Reply::new(550, None, "no"));
        assert_eq!(next_heard(Some(Heard::Unknown), &yes), Heard::Unknown);
        assert_eq!(next_heard(Some(Heard::Unknown), &no), Heard::Nothing);
    }
}

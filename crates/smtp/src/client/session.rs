use mail::{Address, Reply, ReversePath};
use super::*;
#[derive(Debug, Default)]
/// Session.
pub struct Session { output: Vec<u8> }
#[allow(missing_docs, unused_variables)]
impl Session {
    pub fn new(hostname: &str, tls: ClientTls) -> Self { Self::default() }
    pub fn receive(&mut self, wire: &[u8]) {}
    pub fn poll(&mut self) -> Option<Event> { None }
    pub fn recycle(&mut self, reply: Reply) {}
    pub fn begin<'a>(&mut self, from: ReversePath<'_>, recipients: impl Iterator<Item = Address<'a>>, size: Option<u64>, eight_bit: bool) {}
    pub fn is_plaintext(&self) -> bool { true }
    pub fn write_body(&mut self, wire: &[u8]) {}
    pub fn quit(&mut self) {}
    pub fn output(&mut self) -> &mut Vec<u8> { &mut self.output }
    pub fn phase(&self) -> Phase { Phase::Idle }
}

use std::sync::Arc;
use mail::Reply;
use super::*;
#[derive(Debug, Default)]
/// Session.
pub struct Session { output: Vec<u8> }
#[allow(missing_docs, unused_variables)]
impl Session {
    pub fn new(settings: Arc<Settings>) -> Self { Self::default() }
    pub fn refuse(settings: Arc<Settings>, reply: &Reply) -> Self { Self::default() }
    pub fn receive<H: Handler>(&mut self, wire: &[u8], handler: &mut H) {}
    pub fn peer_ended<H: Handler>(&mut self, handler: &mut H) {}
    pub fn resume<H: Handler>(&mut self, outcome: Resume<'_>, handler: &mut H) {}
    pub fn close_with<H: Handler>(&mut self, reply: &Reply, handler: &mut H) {}
    pub fn output(&mut self) -> &mut Vec<u8> { &mut self.output }
    pub fn wants_input(&self) -> bool { true }
    pub fn is_closing(&self) -> bool { false }
    pub fn phase(&self) -> Phase { Phase::Command }
    pub fn is_tls(&self) -> bool { false }
    pub fn tls_name(&self) -> Option<&str> { None }
    pub fn has_transaction(&self) -> bool { false }
}

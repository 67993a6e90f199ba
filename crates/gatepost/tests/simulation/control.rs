//! The control plane of a simulated gateway: answers questions, some time later.

use std::net::IpAddr;
use std::time::Duration;

use commons::{
    Answer, ControlLink, Login, MxFailure, Question, RecipientFinding, ResolveFailure, Verification,
};
use ring::sim::SimRing;
use ring::{Instant, Ring};
use testbed::random::Random;

use super::PASSWORD;

/// The control plane.
pub struct Control {
    pub ring: SimRing,
    link: ControlLink,
    random: Random,
    hosts: Vec<(String, IpAddr)>,
    answers: Vec<(Instant, u8, Answer)>,
    /// Answers every question as it should be answered.
    pub is_calm: bool,
}

impl Control {
    pub fn new(ring: SimRing, link: ControlLink, hosts: Vec<(String, IpAddr)>, random: Random) -> Self {
        link.attach(ring.waker());
        Self { ring, link, random, hosts, answers: Vec::new(), is_calm: false }
    }

    pub fn turn(&mut self) {
        let now = self.ring.now();
        while let Some(question) = self.link.question() {
            let delay = Duration::from_micros(self.random.below(1_500_000));
            let (worker, answer) = self.answer(question);
            self.answers.push((now.after(delay), worker, answer));
        }
        let (due, later) = std::mem::take(&mut self.answers).into_iter().partition(|(at, ..)| *at <= now);
        self.answers = later;
        let due: Vec<(Instant, u8, Answer)> = due;
        for (_, worker, answer) in due {
            self.link.answer(worker, answer);
        }
    }

    /// When the next answer is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.answers.iter().map(|(at, ..)| *at).min()
    }

    fn answer(&mut self, question: Question) -> (u8, Answer) {
        match question {
            Question::Verify(Login { worker, key, credential, password, .. }) => {
                let fits = !credential.is_empty() && password.as_str() == PASSWORD;
                let outcome = if fits { Verification::Fits } else { Verification::Fails };
                (worker, Answer::Verified { key, outcome })
            }
            // The configuration of the simulation routes everything: no question comes, and if one does,
            // there is no answer.
            Question::MxHosts { worker, key, .. } => {
                let ttl = Duration::from_secs(1);
                (worker, Answer::MxHosts { key, result: Err(MxFailure::Temporary), ttl })
            }
            Question::Domain { worker, key, .. } | Question::CallAhead { worker, key, .. } => {
                let (finding, ttl) = (RecipientFinding::Undecided, Duration::from_secs(1));
                (worker, Answer::Recipient { key, finding, ttl })
            }
            Question::Listed { worker, key, client } => {
                (worker, Answer::Listed { key, client, listing: None })
            }
            Question::Resolve { worker, key, host } => {
                let addresses: Vec<IpAddr> =
                    self.hosts.iter().filter(|(name, _)| **name == *host).map(|(_, ip)| *ip).collect();
                let fails = !self.is_calm && self.random.below(8) == 0;
                let result = if fails || addresses.is_empty() {
                    Err(ResolveFailure::Temporary)
                } else {
                    Ok(addresses)
                };
                let ttl = Duration::from_secs(1 + self.random.below(60));
                (worker, Answer::Resolved { key, result, ttl })
            }
        }
    }
}

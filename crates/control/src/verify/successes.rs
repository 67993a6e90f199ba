//! What fitted a short while ago, and from which network, so that a client that logs in for every
//! message costs one hash in two minutes.
//!
//! No password is kept, and no hash of one that could be tried against a list: what is kept are keyed
//! fingerprints, under a key that exists in this process only.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use argon2::password_hash::rand_core::{OsRng, RngCore as _};
use aws_lc_rs::hmac;
use zeroize::Zeroize as _;

/// How long a success is believed. Another credential in the tenant file ends it at once.
const BELIEVED: Duration = Duration::from_secs(120);

/// Successes that are remembered, in some 2 MiB; past it the oldest half is forgotten.
const REMEMBERED_MAX: usize = 16 << 10;

/// Of a login, its credential, the client's network and the password that it showed.
pub(super) type Fingerprint = [u8; 32];

pub(super) struct Successes {
    key: hmac::Key,
    believed_until: HashMap<Fingerprint, Instant>,
}

impl Default for Successes {
    /// Under a separate key.
    fn default() -> Self {
        let mut bytes = [0; 32];
        OsRng.fill_bytes(&mut bytes);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        bytes.zeroize();
        Self { key, believed_until: HashMap::new() }
    }
}

impl Successes {
    pub(super) fn fingerprint(
        &self,
        login: &str,
        credential: &str,
        network: IpAddr,
        password: &str,
    ) -> Fingerprint {
        let network = match network {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut context = hmac::Context::with_key(&self.key);
        for part in [login.as_bytes(), credential.as_bytes(), &network.octets(), password.as_bytes()] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Whether it fitted and is still believed.
    pub(super) fn holds(&mut self, fingerprint: &Fingerprint, now: Instant) -> bool {
        let until = self.believed_until.get(fingerprint).copied();
        if until.is_some_and(|until| until <= now) {
            self.believed_until.remove(fingerprint);
            return false;
        }
        until.is_some()
    }

    pub(super) fn remember(&mut self, fingerprint: Fingerprint, now: Instant) {
        if self.believed_until.len() >= REMEMBERED_MAX {
            let mut times: Vec<Instant> = self.believed_until.values().copied().collect();
            let middle = times.len() / 2;
            let (_, &mut median, _) = times.select_nth_unstable(middle);
            self.believed_until.retain(|_, until| *until > median);
        }
        self.believed_until.insert(fingerprint, now + BELIEVED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_success_is_believed_for_its_time_and_for_nothing_else() {
        let (mut successes, now) = (Successes::default(), Instant::now());
        let here = "192.0.2.1";
        let fingerprint = successes.fingerprint("terri", "hash", network(here), "secret");
        assert!(!successes.holds(&fingerprint, now));
        successes.remember(fingerprint, now);
        assert!(successes.holds(&fingerprint, now + BELIEVED - Duration::from_millis(1)));
        for (login, credential, client, password) in [
            ("kim", "hash", here, "secret"),
            ("terri", "other", here, "secret"),
            ("terri", "hash", "192.0.2.2", "secret"),
            ("terri", "hash", "2001:db8::", "secret"),
            ("terri", "hash", here, "wrong"),
            ("terrih", "ash", here, "secret"),
        ] {
            let other = successes.fingerprint(login, credential, network(client), password);
            assert!(!successes.holds(&other, now), "{login} {credential} {client} {password}");
        }
        assert!(!successes.holds(&fingerprint, now + BELIEVED));
        assert!(successes.believed_until.is_empty(), "what is over is forgotten");
    }

    #[test]
    fn another_process_has_other_fingerprints() {
        let of =
            |successes: &Successes| successes.fingerprint("terri", "hash", network("192.0.2.1"), "secret");
        assert_ne!(of(&Successes::default()), of(&Successes::default()));
    }

    #[test]
    fn no_more_is_remembered_than_its_bound_and_the_newest_stays() {
        let (mut successes, start) = (Successes::default(), Instant::now());
        let fingerprint = |index: usize| {
            let mut fingerprint = [0; 32];
            fingerprint[..8].copy_from_slice(&index.to_le_bytes());
            fingerprint
        };
        for index in 0..=REMEMBERED_MAX {
            successes.remember(fingerprint(index), start + Duration::from_micros(index as u64));
        }
        assert!(successes.believed_until.len() <= REMEMBERED_MAX);
        assert!(successes.holds(&fingerprint(REMEMBERED_MAX), start));
        assert!(!successes.holds(&fingerprint(0), start));
    }
}

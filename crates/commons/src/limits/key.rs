use std::fmt;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::num::NonZeroU64;

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

/// Whom a limit is charged to: what a [`Key`] is made of.
///
/// Addresses count as they are; a caller that means a whole machine says so with [`crate::machine`].
/// IPv4 mapped into IPv6 is IPv4. Logins are the same in whatever case.
#[derive(Clone, Copy, Debug)]
pub enum Charged<'a> {
    /// A tenant, by name.
    Tenant(&'a str),
    /// A login, configured or not.
    Login(&'a str),
    /// A network of a tenant's.
    Network {
        /// Whose it is, by name.
        tenant: &'a str,
        /// The most specific prefix, where it is known.
        prefix: Option<IpNet>,
    },
    /// A client address.
    Client {
        /// The tenant in whose name it sends, by name; `None` for a stranger.
        tenant: Option<&'a str>,
        /// The address.
        address: IpAddr,
    },
    /// A login from one address.
    LoginFrom {
        /// The login.
        login: &'a str,
        /// The address.
        address: IpAddr,
    },
}

/// A subject as the tables of limits know it: the same in every process and every build, so that a fleet can
/// share what was counted.
///
/// 64 bits of SipHash-1-3, without a secret, over the subject's parts. Among a million subjects two share a
/// key with a chance of one in 37 million. Which slots of a table a key may have is that table's secret, so
/// that strangers cannot choose keys that meet there.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(NonZeroU64);

impl Key {
    /// The key of a subject.
    #[must_use]
    pub fn of(subject: Charged<'_>) -> Self {
        let mut parts = Parts(SipHasher13::new());
        match subject {
            Charged::Tenant(name) => parts.kind(1).text(name),
            Charged::Login(login) => parts.kind(2).caseless(login),
            Charged::Network { tenant, prefix } => parts.kind(3).text(tenant).prefix(prefix),
            Charged::Client { tenant: Some(tenant), address } => parts.kind(4).text(tenant).address(address),
            Charged::Client { tenant: None, address } => parts.kind(5).address(address),
            Charged::LoginFrom { login, address } => parts.kind(6).caseless(login).address(address),
        };
        Self::from_bits(parts.0.finish())
    }

    /// The key of one of a subject's limits, each of which is counted by itself. `kind` is a number for good.
    #[must_use]
    pub fn part(self, kind: u64) -> Self {
        // The finalizer of SplitMix64: keys that differ in one bit end in different sets.
        let mixed = self.bits() ^ (kind + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self::from_bits(mixed ^ mixed >> 31)
    }

    /// The key of these bits; 0 is 1.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        match NonZeroU64::new(bits) {
            Some(bits) => Self(bits),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Its bits, never all 0.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:016x})", self.bits())
    }
}

/// Parts of a subject, each told from the next by its length or by having a fixed one.
struct Parts(SipHasher13);

impl Parts {
    fn kind(&mut self, kind: u8) -> &mut Self {
        self.0.write(&[kind]);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.0.write(&(text.len() as u64).to_le_bytes());
        self.0.write(text.as_bytes());
        self
    }

    /// A text in lower case, piece by piece.
    fn caseless(&mut self, text: &str) -> &mut Self {
        self.0.write(&(text.len() as u64).to_le_bytes());
        let mut lower = [0; 64];
        for piece in text.as_bytes().chunks(lower.len()) {
            let lower = &mut lower[..piece.len()];
            lower.copy_from_slice(piece);
            lower.make_ascii_lowercase();
            self.0.write(lower);
        }
        self
    }

    fn address(&mut self, address: IpAddr) -> &mut Self {
        let v6 = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        self.0.write(&v6.octets());
        self
    }

    fn prefix(&mut self, prefix: Option<IpNet>) -> &mut Self {
        match prefix {
            Some(prefix) => self.kind(prefix.prefix_len()).address(prefix.network()),
            None => self.kind(u8::MAX),
        }
    }
}

/// What a table makes slots of keys with: its secret.
#[derive(Clone, Copy)]
pub(crate) struct Spread([u64; 2]);

impl Spread {
    /// A secret that differs from start to start.
    pub(crate) fn random() -> Self {
        Self::new([crate::seed(), crate::seed()])
    }

    pub(crate) const fn new(seed: [u64; 2]) -> Self {
        Self([seed[0], seed[1] | 1])
    }

    /// Bits of which each depends on all of the key's and of the secret's.
    pub(crate) fn of(self, key: Key) -> u64 {
        let product = u128::from(key.bits() ^ self.0[0]) * u128::from(self.0[1]);
        (product >> 64) as u64 ^ product as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// What a fleet has counted must mean the same after an upgrade.
    #[test]
    fn keys_are_the_same_in_every_process_and_build() {
        let subjects = [
            (Charged::Tenant("proseware"), 0xDAA8_24A0_BB63_B4F4),
            (Charged::Login("terri@proseware.example"), 0x070D_339B_5473_1137),
            (
                Charged::Network { tenant: "proseware", prefix: Some("198.51.100.0/24".parse().unwrap()) },
                0xD36B_8376_F26A_23D6,
            ),
            (
                Charged::Client { tenant: Some("proseware"), address: ip("198.51.100.7") },
                0xD3F7_4DE5_2464_F079,
            ),
            (Charged::Client { tenant: None, address: ip("2001:db8::7") }, 0xB2FC_520C_A8AB_EE78),
            (Charged::LoginFrom { login: "terri", address: ip("198.51.100.7") }, 0x3B58_90F4_C9DA_7301),
        ];
        for (subject, bits) in subjects {
            assert_eq!(Key::of(subject).bits(), bits, "{subject:?}");
        }
        assert_eq!(Key::from_bits(1).part(3).bits(), 0x71C1_8690_EE42_C90B);
    }

    #[test]
    fn logins_have_no_case_and_mapped_addresses_are_v4() {
        let login = |login: &str| Key::of(Charged::Login(login));
        assert_eq!(login("Terri"), login("tERRI"));
        let long = "Terri".repeat(40);
        assert_eq!(login(&long), login(&long.to_ascii_lowercase()));
        assert_ne!(login(&long), login(&"terri".repeat(41)));
        let client = |address: &str| Key::of(Charged::Client { tenant: None, address: ip(address) });
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
    }

    #[test]
    fn what_differs_in_any_part_has_another_key() {
        let network = |tenant, prefix: &str| Charged::Network { tenant, prefix: prefix.parse().ok() };
        let client = |tenant, address| Charged::Client { tenant, address: ip(address) };
        let subjects = [
            Charged::Tenant("a"),
            Charged::Login("a"),
            network("a", "192.0.2.0/24"),
            network("a", "192.0.2.0/25"),
            network("a", ""),
            network("b", "192.0.2.0/24"),
            client(None, "192.0.2.1"),
            client(None, "192.0.2.2"),
            client(Some("a"), "192.0.2.1"),
            client(Some("b"), "192.0.2.1"),
            client(Some(""), "192.0.2.1"),
            Charged::LoginFrom { login: "a", address: ip("192.0.2.1") },
            Charged::LoginFrom { login: "b", address: ip("192.0.2.1") },
            Charged::LoginFrom { login: "a", address: ip("192.0.2.2") },
        ];
        let keys: BTreeSet<u64> = subjects.iter().map(|&subject| Key::of(subject).bits()).collect();
        assert_eq!(keys.len(), subjects.len());
        let parts: BTreeSet<u64> = (0..100).map(|kind| Key::from_bits(1).part(kind).bits()).collect();
        assert_eq!(parts.len(), 100);
    }

    proptest! {
        #[test]
        fn keys_that_differ_in_one_bit_spread(bits in 1_u64.., bit in 0..64_u32, seed: [u64; 2]) {
            let spread = Spread::new(seed);
            let (one, other) = (Key::from_bits(bits), Key::from_bits(bits ^ (1 << bit)));
            prop_assume!(one != other);
            // Of 64 bits about half change; next to none would be a secret that hides nothing.
            prop_assume!(seed[1].count_ones() > 16);
            prop_assert!((spread.of(one) ^ spread.of(other)).count_ones() > 4);
        }
    }
}

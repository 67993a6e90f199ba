//! The server's side of SCRAM-SHA-256 (RFC 5802 section 5, RFC 7677), its messages taken apart and made.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail::ScramVerifier;

use crate::scram;

/// A channel binding that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// `tls-exporter` (RFC 9266).
    Exporter,
    /// `tls-server-end-point` (RFC 5929 section 4).
    EndPoint,
}

/// What the client says of channel binding (RFC 5802 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// It cannot.
    Unable,
    /// It could, and believes that we cannot.
    Unoffered,
    /// It does; `None`: by a binding that we do not know.
    Bound(Option<Binding>),
}

/// The client's first message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientFirst {
    pub(crate) flag: Flag,
    pub(crate) authorization: String,
    pub(crate) login: String,
    /// As the client wrote it, its commas included.
    gs2_header: String,
    bare: String,
    nonce: String,
}

/// What the client's last message is held against.
#[derive(Debug)]
pub(crate) struct Awaited {
    first: ClientFirst,
    verifier: ScramVerifier,
    server_first: String,
    /// Both nonces.
    nonce: String,
    /// `c=` as it must be: the header, and what binds to the channel.
    channel: String,
}

/// How an exchange ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) authorization: String,
    pub(crate) login: String,
    /// The client knows the password, and speaks over the channel that we see.
    pub(crate) proved: bool,
}

impl ClientFirst {
    /// `plus`: the client chose the mechanism with channel binding, and so must bind; without it it must not.
    pub(super) fn parse(message: &[u8], plus: bool) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        let (flag, rest) = text.split_once(',')?;
        let (authorization, bare) = rest.split_once(',')?;
        let gs2_header = &text[..text.len() - bare.len()];
        let flag = match flag {
            "n" => Flag::Unable,
            "y" => Flag::Unoffered,
            "p=tls-exporter" => Flag::Bound(Some(Binding::Exporter)),
            "p=tls-server-end-point" => Flag::Bound(Some(Binding::EndPoint)),
            other if other.len() > 2 && other.starts_with("p=") => Flag::Bound(None),
            _ => return None,
        };
        if matches!(flag, Flag::Bound(_)) != plus {
            return None;
        }
        let authorization = match authorization {
            "" => String::new(),
            named => name(named.strip_prefix("a=")?)?,
        };
        // An extension that must be understood (`m=`) stands before the name: there is none.
        let (login, rest) = bare.strip_prefix("n=")?.split_once(',')?;
        let nonce = rest.strip_prefix("r=")?.split(',').next()?;
        let printable = nonce.bytes().all(|byte| byte.is_ascii_graphic());
        (!nonce.is_empty() && printable).then_some(Self {
            flag,
            authorization,
            login: name(login).filter(|login| !login.is_empty())?,
            gs2_header: gs2_header.to_owned(),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
        })
    }

    /// The challenge, in base64, and what is awaited then. `binding` is the channel's, where the client binds.
    pub(crate) fn challenge(
        self,
        verifier: ScramVerifier,
        server_nonce: &[u8],
        binding: &[u8],
    ) -> (String, Box<Awaited>) {
        let nonce = format!("{}{}", self.nonce, STANDARD.encode(server_nonce));
        let salt = STANDARD.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let channel = STANDARD.encode([self.gs2_header.as_bytes(), binding].concat());
        let challenge = STANDARD.encode(&server_first);
        (challenge, Box::new(Awaited { first: self, verifier, server_first, nonce, channel }))
    }
}

impl Awaited {
    /// Takes the client's last message; gives our signature, in base64, to a client that proved itself.
    pub(super) fn take(self, message: &[u8]) -> Option<(Proof, Option<String>)> {
        let text = std::str::from_utf8(message).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let (channel, rest) = without_proof.strip_prefix("c=")?.split_once(",r=")?;
        let nonce = rest.split(',').next()?;
        let proof = <[u8; 32]>::try_from(STANDARD.decode(proof).ok()?).ok()?;
        let mut signed = self.first.bare;
        write!(signed, ",{},{without_proof}", self.server_first)
            .expect("a string takes what is written to it");
        let proves = scram::proves(&self.verifier.stored_key, signed.as_bytes(), &proof);
        // `&` and not `&&`: which part was wrong does not show in the time either.
        let proved = proves & (channel == self.channel) & (nonce == self.nonce);
        let signature = proved.then(|| {
            let signature = scram::signature(&self.verifier.server_key, signed.as_bytes());
            STANDARD.encode(format!("v={}", STANDARD.encode(signature)))
        });
        let ClientFirst { authorization, login, .. } = self.first;
        Some((Proof { authorization, login, proved }, signature))
    }
}

/// A name, its commas and equals signs restored (RFC 5802 section 5.1), in the form of SASLprep.
fn name(written: &str) -> Option<String> {
    let mut parts = written.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (sign, rest) = match part.split_at_checked(2)? {
            ("2C", rest) => (',', rest),
            ("3D", rest) => ('=', rest),
            _ => return None,
        };
        name.push(sign);
        name.push_str(rest);
    }
    (!name.contains('\0')).then(|| scram::prepared(&name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 section 3.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    /// The vector's server nonce is no base64, so it is put in here as it stands.
    fn awaited() -> Awaited {
        let first = ClientFirst::parse(FIRST.as_bytes(), false).unwrap();
        let verifier = scram::verifier("pencil", &STANDARD.decode(SALT).unwrap(), 4096);
        let (_, mut awaited) = first.challenge(verifier, b"", b"");
        awaited.nonce = format!("rOprNGfwEbeRWgbNEkqO{SERVER_NONCE}");
        awaited.server_first = SERVER_FIRST.to_owned();
        *awaited
    }

    #[test]
    fn the_vector_of_rfc_7677_proves_itself_and_is_signed() {
        let (proof, signature) = awaited().take(FINAL.as_bytes()).unwrap();
        assert_eq!((proof.login.as_str(), proof.authorization.as_str(), proof.proved), ("user", "", true));
        assert_eq!(signature.unwrap(), STANDARD.encode(SERVER_FINAL));
    }

    #[test]
    fn any_other_proof_channel_or_nonce_proves_nothing() {
        for (from, to) in
            [("dHzb", "dHzc"), ("biws", "eSws"), (",r=rOpr", ",r=rOps"), (")hNlF$k0", ")hNlF$k1")]
        {
            let (proof, signature) = awaited().take(FINAL.replace(from, to).as_bytes()).unwrap();
            assert!(!proof.proved && signature.is_none(), "{from} -> {to}");
        }
    }

    #[test]
    fn the_challenge_holds_both_nonces_the_salt_and_the_count() {
        let first = ClientFirst::parse(FIRST.as_bytes(), false).unwrap();
        let verifier = scram::verifier("pencil", &STANDARD.decode(SALT).unwrap(), 4096);
        let (challenge, _) = first.challenge(verifier, &[0; 18], b"");
        let text = String::from_utf8(STANDARD.decode(challenge).unwrap()).unwrap();
        assert_eq!(text, format!("r=rOprNGfwEbeRWgbNEkqO{},s={SALT},i=4096", "A".repeat(24)));
    }

    #[test]
    fn names_are_restored() {
        let first = ClientFirst::parse("n,a=a=2Cb,n==3Dx=2C\u{ad}y=3D,r=n,ext=1".as_bytes(), false).unwrap();
        assert_eq!((first.authorization.as_str(), first.login.as_str()), ("a,b", "=x,y="));
        assert_eq!((first.nonce.as_str(), first.gs2_header.as_str()), ("n", "n,a=a=2Cb,"));
    }

    #[test]
    fn the_flag_must_suit_the_mechanism() {
        let flag = |text: &str, plus| ClientFirst::parse(text.as_bytes(), plus).map(|first| first.flag);
        assert_eq!(flag("y,,n=u,r=x", false), Some(Flag::Unoffered));
        assert_eq!(flag("p=tls-exporter,,n=u,r=x", true), Some(Flag::Bound(Some(Binding::Exporter))));
        assert_eq!(flag("p=tls-server-end-point,,n=u,r=x", true), Some(Flag::Bound(Some(Binding::EndPoint))));
        assert_eq!(flag("p=tls-unique,,n=u,r=x", true), Some(Flag::Bound(None)));
        assert_eq!(flag("p=tls-exporter,,n=u,r=x", false), None);
        assert_eq!(flag("n,,n=u,r=x", true), None);
    }

    #[test]
    fn what_is_no_first_message_is_malformed() {
        for text in [
            "",
            "n",
            "n,",
            "n,,",
            "x,,n=u,r=x",
            "p=,,n=u,r=x",
            "n,b,n=u,r=x",
            "n,,m=1,n=u,r=x",
            "n,,n=u",
            "n,,n=,r=x",
            "n,,n=u,r=",
            "n,,n=u=2,r=x",
            "n,,n=u=41,r=x",
            "n,,n=u,r=a b",
            "n,,n=u\0,r=x",
        ] {
            assert_eq!(ClientFirst::parse(text.as_bytes(), text.starts_with("p=")), None, "{text}");
        }
        assert!(awaited().take(b"c=biws,r=x").is_none());
        assert!(awaited().take(b"c=biws,r=x,p=AAAA").is_none());
    }
}

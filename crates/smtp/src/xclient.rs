//! XCLIENT, Postfix's command (XCLIENT_README): what a listed proxy says of its client.

use std::net::IpAddr;

use crate::command::{Fault, is_name};

/// What may be said of a client, as announced in the answer to EHLO.
pub(crate) const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO";

/// What was said of a client. `None`: nothing, what was known stays.
///
/// NAME, PORT and PROTO are checked for their syntax and otherwise ignored: no decision rests on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XClient {
    /// ADDR.
    pub address: Option<Told<IpAddr>>,
    /// HELO: a host name as EHLO takes it.
    pub helo: Option<Told<Box<str>>>,
    /// LOGIN: who has logged in at the proxy.
    pub login: Option<Told<Box<str>>>,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// `[UNAVAILABLE]` or `[TEMPUNAVAIL]`.
    Unavailable,
    /// This.
    Value(T),
}

impl XClient {
    /// Reads the attributes of a command, each at most once.
    pub(crate) fn parse(argument: &str) -> Result<Self, Fault> {
        let mut told = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for word in argument.split_ascii_whitespace() {
            let (name, value) = word.split_once('=').ok_or(Fault::XClient)?;
            let name = name.to_ascii_uppercase();
            let value = decode(value).ok_or(Fault::XClient)?;
            told.set(&name, value)?;
            if seen.contains(&name) {
                return Err(Fault::XClient);
            }
            seen.push(name);
        }
        if seen.is_empty() { Err(Fault::XClient) } else { Ok(told) }
    }

    fn set(&mut self, name: &str, value: Told<String>) -> Result<(), Fault> {
        match name {
            "ADDR" => self.address = Some(value.parsed(address)?),
            "HELO" => self.helo = Some(value.parsed(|name| is_name(name).then(|| name.into()))?),
            "LOGIN" => self.login = Some(value.parsed(|login| (!login.is_empty()).then(|| login.into()))?),
            "NAME" => value.checked(is_name)?,
            "PORT" => value.checked(|port| port.parse::<u16>().is_ok())?,
            "PROTO" => value.checked(|proto| matches!(proto, "SMTP" | "ESMTP"))?,
            _ => return Err(Fault::XClient),
        }
        Ok(())
    }
}

impl Told<String> {
    fn checked(self, is_fine: impl FnOnce(&str) -> bool) -> Result<(), Fault> {
        self.parsed(|text| is_fine(text).then_some(())).map(|_| ())
    }

    fn parsed<T>(self, parse: impl FnOnce(&str) -> Option<T>) -> Result<Told<T>, Fault> {
        match self {
            Self::Unavailable => Ok(Told::Unavailable),
            Self::Value(text) => parse(&text).map(Told::Value).ok_or(Fault::XClient),
        }
    }
}

/// An IPv4 address, or an IPv6 address behind `IPV6:`.
fn address(text: &str) -> Option<IpAddr> {
    let prefix = "IPV6:";
    match text.get(..prefix.len()) {
        Some(word) if word.eq_ignore_ascii_case(prefix) => {
            text[prefix.len()..].parse().ok().map(|address| IpAddr::V6(address).to_canonical())
        }
        _ => text.parse().ok().map(IpAddr::V4),
    }
}

/// Takes a value out of its xtext (RFC 3461 section 4). What it hides must be text without controls.
fn decode(value: &str) -> Option<Told<String>> {
    if value.eq_ignore_ascii_case("[UNAVAILABLE]") || value.eq_ignore_ascii_case("[TEMPUNAVAIL]") {
        return Some(Told::Unavailable);
    }
    let mut parts = value.split('+');
    let mut text = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        text.push(u8::from_str_radix(digits, 16).ok()?);
        text.extend_from_slice(&part.as_bytes()[2..]);
    }
    let text = String::from_utf8(text).ok()?;
    text.chars().all(|character| !character.is_control()).then_some(Told::Value(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str) -> Option<Told<Box<str>>> {
        Some(Told::Value(text.into()))
    }

    #[test]
    fn attributes_are_read() {
        let told =
            XClient::parse("NAME=spike.example ADDR=203.0.113.9 port=40001 PROTO=ESMTP HELO=spike").unwrap();
        assert_eq!(told.address, Some(Told::Value("203.0.113.9".parse().unwrap())));
        assert_eq!((told.helo, told.login), (Some(Told::Value("spike".into())), None));
        let told = XClient::parse("ADDR=IPv6:2001:db8::9 HELO=[UNAVAILABLE] NAME=[TEMPUNAVAIL] LOGIN=a+40b")
            .unwrap();
        assert_eq!(told.address, Some(Told::Value("2001:db8::9".parse().unwrap())));
        assert_eq!((told.helo, told.login), (Some(Told::Unavailable), login("a@b")));
        let mapped = XClient::parse("ADDR=IPV6:::ffff:203.0.113.9").unwrap();
        assert_eq!(mapped.address, Some(Told::Value("203.0.113.9".parse().unwrap())));
        assert_eq!(XClient::parse("LOGIN=+e4+B8+ad+2B").unwrap().login, login("\u{4e2d}+"));
    }

    #[test]
    fn what_is_no_attribute_is_refused() {
        for argument in [
            "",
            "ADDR",
            "ADDR=",
            "ADDR=host.example",
            "ADDR=2001:db8::9",
            "ADDR=IPV6:203.0.113.9",
            "ADDR=203.0.113.9 ADDR=203.0.113.10",
            "ADDR=203.0.113.9 addr=203.0.113.9",
            "PORT=65536",
            "PORT=",
            "PROTO=LMTP",
            "HELO=a(b)",
            "HELO=a+0D+0Ab",
            "HELO=",
            "LOGIN=",
            "LOGIN=a+4",
            "LOGIN=a+4g",
            "LOGIN=a+ff",
            "LOGIN=a+00",
            "LOGIN=a+\u{e9}",
            "DESTADDR=203.0.113.9",
        ] {
            assert_eq!(XClient::parse(argument), Err(Fault::XClient), "{argument}");
        }
    }
}

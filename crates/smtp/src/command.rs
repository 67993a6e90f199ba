//! A command line becomes a command, or the reply that says what is wrong with it.

use mail::limits::DOMAIN_BYTES_MAX;
use mail::{AddressError, ForwardPath, Reply, ReversePath, Status};

use crate::server::MailParameters;
use crate::xclient::XClient;

/// A command of RFC 5321 and its extensions, with its arguments parsed.
#[derive(Debug)]
pub(crate) enum Command<'a> {
    Helo { name: &'a str, extended: bool },
    Mail { from: ReversePath<'a>, parameters: MailParameters },
    Rcpt { to: ForwardPath<'a> },
    Auth { mechanism: &'a str, initial: Option<&'a str> },
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    StartTls,
    XClient(XClient),
}

/// What is wrong with a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Unknown,
    NotAscii,
    Control,
    NoName,
    BadName,
    NoArgument,
    NoMechanism,
    MailForm,
    RcptForm,
    Parameter,
    Size,
    XClient,
    Sender(AddressError),
    Recipient(AddressError),
}

impl Fault {
    /// Says so to the client.
    pub(crate) fn write_to(self, reply: &mut Reply) {
        let mut say = |code, subject, detail, text: &str| {
            reply.set(code, Some(Status::new(5, subject, detail)), format_args!("{text}"));
        };
        match self {
            Self::Unknown => say(500, 5, 2, "command unknown"),
            Self::NotAscii => say(500, 5, 2, "commands are in ASCII; SMTPUTF8 is not offered"),
            Self::Control => say(500, 5, 2, "control character in a command"),
            Self::NoName => say(501, 5, 4, "give your host name"),
            Self::BadName => say(501, 5, 4, "this is no host name"),
            Self::NoArgument => say(501, 5, 4, "this command takes no argument"),
            Self::NoMechanism => say(501, 5, 4, "name a mechanism, one of those that EHLO announced"),
            Self::MailForm => say(501, 5, 4, "the form is MAIL FROM:<address>"),
            Self::RcptForm => say(501, 5, 4, "the form is RCPT TO:<address>"),
            Self::Parameter => say(555, 5, 4, "parameter unknown or not offered"),
            Self::Size => say(501, 5, 4, "SIZE is a number of bytes"),
            Self::XClient => say(501, 5, 4, "malformed attribute, or one that is not offered"),
            Self::Sender(AddressError::NonAscii) | Self::Recipient(AddressError::NonAscii) => {
                say(553, 6, 7, "an address outside ASCII needs SMTPUTF8, which is not offered");
            }
            Self::Sender(error) => {
                reply.set(501, Some(Status::new(5, 1, 7)), format_args!("bad sender address: {error}"));
            }
            Self::Recipient(error) => {
                reply.set(501, Some(Status::new(5, 1, 3)), format_args!("bad recipient address: {error}"));
            }
        }
    }
}

impl<'a> Command<'a> {
    /// Reads a line that came without its CRLF.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(line).map_err(|_| Fault::NotAscii)?;
        if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(Fault::Control);
        }
        let text = text.trim_end_matches([' ', '\t']);
        let (verb, argument) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let argument = argument.trim_start_matches([' ', '\t']);
        let is = |name: &str| verb.eq_ignore_ascii_case(name);
        let alone = |command| if argument.is_empty() { Ok(command) } else { Err(Fault::NoArgument) };
        if is("MAIL") {
            parse_mail(argument)
        } else if is("RCPT") {
            parse_rcpt(argument)
        } else if is("DATA") {
            alone(Self::Data)
        } else if is("EHLO") || is("HELO") {
            parse_name(argument).map(|name| Self::Helo { name, extended: is("EHLO") })
        } else if is("RSET") {
            alone(Self::Rset)
        } else if is("QUIT") {
            alone(Self::Quit)
        } else if is("STARTTLS") {
            alone(Self::StartTls)
        } else if is("AUTH") {
            parse_auth(argument)
        } else if is("XCLIENT") {
            XClient::parse(argument).map(Self::XClient)
        } else if is("NOOP") {
            Ok(Self::Noop)
        } else if is("VRFY") {
            Ok(Self::Vrfy)
        } else if is("HELP") {
            Ok(Self::Help)
        } else {
            Err(Fault::Unknown)
        }
    }
}

/// A host name, qualified or not, or an address literal. It ends up in trace fields, where comments
/// and quotes would mean something.
fn parse_name(argument: &str) -> Result<&str, Fault> {
    match argument {
        "" => Err(Fault::NoName),
        name if is_name(name) => Ok(name),
        _ => Err(Fault::BadName),
    }
}

/// Whether a client may call itself so.
pub(crate) fn is_name(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_graphic() && !b"()<>\"\\,;@".contains(&byte);
    !text.is_empty() && text.len() <= DOMAIN_BYTES_MAX && text.bytes().all(fine)
}

fn parse_auth(argument: &str) -> Result<Command<'_>, Fault> {
    match argument.split_once(' ') {
        _ if argument.is_empty() => Err(Fault::NoMechanism),
        None => Ok(Command::Auth { mechanism: argument, initial: None }),
        Some((mechanism, initial)) => Ok(Command::Auth { mechanism, initial: Some(initial.trim_start()) }),
    }
}

fn parse_mail(argument: &str) -> Result<Command<'_>, Fault> {
    let (path, rest) = split_path(argument, "FROM:").ok_or(Fault::MailForm)?;
    let mut parameters = MailParameters::default();
    for word in rest.split_ascii_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if key.eq_ignore_ascii_case("SIZE") {
            if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Fault::Size);
            }
            // A number past 64 bits is a size that fits nowhere, as is the largest that they hold.
            parameters.size = Some(value.parse().unwrap_or(u64::MAX));
        } else if key.eq_ignore_ascii_case("BODY") {
            parameters.eight_bit = value.eq_ignore_ascii_case("8BITMIME");
            if !parameters.eight_bit && !value.eq_ignore_ascii_case("7BIT") {
                return Err(Fault::Parameter);
            }
        } else if !key.eq_ignore_ascii_case("AUTH") || value.is_empty() {
            return Err(Fault::Parameter);
        }
    }
    let from = ReversePath::parse(path).map_err(Fault::Sender)?;
    Ok(Command::Mail { from, parameters })
}

fn parse_rcpt(argument: &str) -> Result<Command<'_>, Fault> {
    let (path, rest) = split_path(argument, "TO:").ok_or(Fault::RcptForm)?;
    let to = ForwardPath::parse(path).map_err(Fault::Recipient)?;
    if rest.is_empty() { Ok(Command::Rcpt { to }) } else { Err(Fault::Parameter) }
}

/// Takes `FROM:<path> parameters` apart. A space before the bracket is wrong and common.
fn split_path<'a>(argument: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let tag = argument.get(..word.len())?;
    if !tag.eq_ignore_ascii_case(word) {
        return None;
    }
    let path = argument[word.len()..].trim_start().strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    let end = path.bytes().position(|byte| {
        let closing = byte == b'>' && !quoted;
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closing
    })?;
    let rest = &path[end + 1..];
    let parted = rest.is_empty() || rest.starts_with([' ', '\t']);
    parted.then(|| (&path[..end], rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_takes_its_parameters() {
        let command = Command::parse(b"mail from: <a@b.example> size=12 Body=8bitmime AUTH=<>").unwrap();
        let Command::Mail { from, parameters } = command else { panic!() };
        assert_eq!(from.text(), "a@b.example");
        assert_eq!(parameters, MailParameters { size: Some(12), eight_bit: true });
    }

    #[test]
    fn a_size_past_64_bits_is_the_largest_there_is() {
        for digits in
            ["18446744073709551615", "18446744073709551616", "99999999999999999999", &"9".repeat(300)]
        {
            let line = format!("MAIL FROM:<a@b.example> SIZE={digits}");
            let Ok(Command::Mail { parameters, .. }) = Command::parse(line.as_bytes()) else { panic!() };
            assert_eq!(parameters.size, Some(u64::MAX), "{digits}");
        }
    }

    #[test]
    fn a_bracket_in_quotes_does_not_end_a_path() {
        let Ok(Command::Rcpt { to }) = Command::parse(b"RCPT TO:<\"a\\\">b\"@c.example>") else { panic!() };
        assert_eq!(to.text(), "\"a\\\">b\"@c.example");
    }

    #[test]
    fn faults_are_told_apart() {
        for (line, fault) in [
            (&b""[..], Fault::Unknown),
            (b"MAILFROM:<a@b>", Fault::Unknown),
            (b"NOOP\xff", Fault::NotAscii),
            (b"NOOP\r", Fault::Control),
            (b"NOOP \0", Fault::Control),
            (b"EHLO", Fault::NoName),
            (b"EHLO a b", Fault::BadName),
            (b"EHLO a(b)", Fault::BadName),
            (b"DATA now", Fault::NoArgument),
            (b"AUTH", Fault::NoMechanism),
            (b"MAIL <a@b>", Fault::MailForm),
            (b"MAIL FROM:a@b", Fault::MailForm),
            (b"MAIL FROM:<a@b>SIZE=1", Fault::MailForm),
            (b"MAIL FROM:<a@b> SIZE=x", Fault::Size),
            (b"MAIL FROM:<a@b> SIZE=+1", Fault::Size),
            (b"MAIL FROM:<a@b> SIZE=", Fault::Size),
            (b"MAIL FROM:<a@b> SIZE=1x", Fault::Size),
            (b"MAIL FROM:<a@b> BODY=BINARYMIME", Fault::Parameter),
            (b"MAIL FROM:<a@b> RET=FULL", Fault::Parameter),
            (b"MAIL FROM:<a>", Fault::Sender(AddressError::Unqualified)),
            (b"RCPT TO:<a@b", Fault::RcptForm),
            (b"RCPT TO:<>", Fault::Recipient(AddressError::Empty)),
            (b"RCPT TO:<a@b> NOTIFY=NEVER", Fault::Parameter),
        ] {
            assert_eq!(Command::parse(line).err(), Some(fault), "{}", line.escape_ascii());
        }
    }
}

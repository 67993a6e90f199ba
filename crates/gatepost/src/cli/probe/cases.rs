use std::net::IpAddr;

/// What the cases are filled with.
pub(super) struct Names {
    /// D: the server does not receive for it.
    pub(super) foreign: String,
    /// S: the server's name.
    pub(super) server: String,
    /// I: the server's address.
    pub(super) address: IpAddr,
    /// O: what it receives for.
    pub(super) own: Vec<String>,
}

/// One classic case: a stranger asks to have mail taken that is for the foreign domain, whatever the
/// recipient is dressed up as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// Its number in the table of cases, from 1 to 20.
    pub(super) number: u8,
    /// The reverse-path, without angle brackets.
    pub(super) from: String,
    /// The recipient, without angle brackets.
    pub(super) to: String,
    /// Where the recipient might be an odd mailbox of the server's own: a mailbox at the same place
    /// that is not there. A server that takes that one too takes every name.
    pub(super) control: Option<String>,
}

/// Number, sender and recipient, with D, S, I and O as `{d}`, `{s}`, `{i}` and `{o}`; and the domain of
/// the control, where there is one (`-` for a mailbox without a domain).
const TABLE: [(u8, &str, &str, &str); 20] = [
    (1, "", "t@{d}", ""),
    (2, "f@{d}", "t@{d}", ""),
    (3, "f@{s}", "t@{d}", ""),
    (4, "f@{i}", "t@{d}", ""),
    (5, "f@{i}", "t%{d}@{i}", "{i}"),
    (6, "f@{i}", "t%{d}@{s}", "{s}"),
    (7, "f@{i}", "\"t@{d}\"", "-"),
    (8, "f@{i}", "\"t%{d}\"", "-"),
    (9, "f@{i}", "t@{d}@{i}", "{i}"),
    (10, "f@{i}", "\"t@{d}\"@{i}", "{i}"),
    (11, "f@{i}", "t@{d}@{s}", "{s}"),
    (12, "f@{i}", "@{i}:t@{d}", ""),
    (13, "f@{i}", "@{s}:t@{d}", ""),
    (14, "f@{i}", "{d}!t", "-"),
    (15, "f@{i}", "{d}!t@{i}", "{i}"),
    (16, "f@{i}", "{d}!t@{s}", "{s}"),
    (17, "f@localhost", "t@{d}", ""),
    (18, "f", "t@{d}", ""),
    (19, "f@{o}", "t@{d}", ""),
    (20, "f@{o}", "t%{d}@{o}", "{o}"),
];

/// A mailbox that does not exist.
const NOBODY: &str = "gatepost-probe-no-such-mailbox";

/// Every case, filled in; those about the server's own domains once for each, and not at all where
/// none is known.
pub(super) fn all(names: &Names) -> Vec<Case> {
    let literal = match names.address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    let fill = |text: &str, own: &str| {
        text.replace("{d}", &names.foreign)
            .replace("{s}", &names.server)
            .replace("{i}", &literal)
            .replace("{o}", own)
    };
    let case = |&(number, from, to, control): &(u8, &str, &str, &str), own: &str| Case {
        number,
        from: fill(from, own),
        to: fill(to, own),
        control: match control {
            "" => None,
            "-" => Some(NOBODY.to_owned()),
            domain => Some(format!("{NOBODY}@{}", fill(domain, own))),
        },
    };
    let (about_own, others): (Vec<_>, Vec<_>) =
        TABLE.iter().partition(|(_, from, to, _)| from.contains("{o}") || to.contains("{o}"));
    let others = others.into_iter().map(|row| case(row, ""));
    let about_own = names.own.iter().flat_map(|own| about_own.iter().map(move |row| (row, own)));
    others.chain(about_own.map(|(row, own)| case(row, own))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(own: &[&str]) -> Names {
        Names {
            foreign: "adatum.example".into(),
            server: "relay.example".into(),
            address: "2001:db8::1".parse().unwrap(),
            own: own.iter().map(|&domain| domain.to_owned()).collect(),
        }
    }

    #[test]
    fn the_cases_are_filled_in() {
        let cases = all(&names(&["proseware.example"]));
        assert_eq!(cases.iter().map(|case| case.number).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
        assert_eq!((cases[0].from.as_str(), cases[0].to.as_str()), ("", "t@adatum.example"));
        assert_eq!(cases[11].to, "@[IPv6:2001:db8::1]:t@adatum.example");
        assert_eq!(cases[15].to, "adatum.example!t@relay.example");
        assert_eq!(cases[19].to, "t%adatum.example@proseware.example");
        assert_eq!(cases[19].control.as_deref(), Some("gatepost-probe-no-such-mailbox@proseware.example"));
        assert!(cases.iter().all(|case| !format!("{case:?}").contains('{') || !case.to.contains('{')));
    }

    #[test]
    fn the_servers_own_domains_are_each_tried() {
        assert_eq!(all(&names(&[])).len(), 18);
        assert_eq!(all(&names(&["a.example", "b.example"])).len(), 22);
    }
}

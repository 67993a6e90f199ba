use std::fmt;

use crate::reply::Status;

/// Why a request was denied or deferred: a stable word that never changes meaning.
///
/// It labels `gatepost_relay_denials_total`, log records and tickets (DESIGN.md G1).
/// Code and status here are the usual ones; configuration may turn a suspension temporary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is the word itself; `Reason::summary` explains it")]
pub enum Reason {
    RelayNotPermitted,
    LoginRequired,
    TlsRequired,
    LoginFailed,
    LoginLocked,
    SenderNotOwned,
    HeaderFromNotOwned,
    RecipientUnknown,
    RecipientDomainMissing,
    RecipientDomainNoMail,
    RoutingSyntax,
    ClientBlocked,
    SenderBlocked,
    RecipientBlocked,
    TenantSuspended,
    IdentitySuspended,
    RateLimited,
    QuotaExceeded,
    SpfFailed,
    DkimFailed,
    DmarcFailed,
    BareNewline,
    MessageTooLarge,
    TooManyRecipients,
    LoopDetected,
    SecondTenant,
    SpoolFull,
    SpoolFailed,
    ConnectionLimit,
    RecipientUnverified,
    ClientSuspended,
    LoginBusy,
    MechanismWithdrawn,
}

impl Reason {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; ROWS.len()] = {
        let mut all = [Self::RelayNotPermitted; ROWS.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = ROWS[at].reason;
            at += 1;
        }
        all
    };

    /// The word that stands in labels, log records and tickets.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().word
    }

    /// The usual reply code.
    #[must_use]
    pub fn code(self) -> u16 {
        self.row().code
    }

    /// The usual enhanced status (RFC 3463, RFC 5248).
    #[must_use]
    pub fn status(self) -> Status {
        let Row { code, status: (subject, detail), .. } = *self.row();
        Status { class: (code / 100) as u8, subject, detail }
    }

    /// One plain sentence: what happened, for documentation and explanations.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.row().summary
    }

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

/// What is fixed about a reason: its word, the usual reply, and what happened.
struct Row {
    reason: Reason,
    word: &'static str,
    code: u16,
    /// Subject and detail of the enhanced status; its class is that of the code.
    status: (u16, u16),
    summary: &'static str,
}

const fn row(
    reason: Reason,
    word: &'static str,
    code: u16,
    status: (u16, u16),
    summary: &'static str,
) -> Row {
    Row { reason, word, code, status, summary }
}

/// All reasons, in the order of the enumeration.
const ROWS: [Row; 33] = [
    row(
        Reason::RelayNotPermitted,
        "relay_not_permitted",
        550,
        (7, 1),
        "the client is in no authorised network and asked to relay to a domain we do not receive for",
    ),
    row(Reason::LoginRequired, "login_required", 530, (7, 0), "a login is required here"),
    row(Reason::TlsRequired, "tls_required", 530, (7, 0), "TLS must be started first"),
    row(Reason::LoginFailed, "login_failed", 535, (7, 8), "the name or the password is wrong"),
    row(Reason::LoginLocked, "login_locked", 454, (7, 0), "too many failed logins"),
    row(
        Reason::SenderNotOwned,
        "sender_not_owned",
        553,
        (7, 1),
        "a client that relays must own the envelope sender",
    ),
    row(
        Reason::HeaderFromNotOwned,
        "header_from_not_owned",
        550,
        (7, 1),
        "a client that relays must own the header From",
    ),
    row(Reason::RecipientUnknown, "recipient_unknown", 550, (1, 1), "no such recipient in this relay domain"),
    row(
        Reason::RecipientDomainMissing,
        "recipient_domain_missing",
        550,
        (1, 2),
        "the recipient's domain has no DNS entry",
    ),
    row(
        Reason::RecipientDomainNoMail,
        "recipient_domain_no_mail",
        556,
        (1, 10),
        "the recipient's domain says that it takes no mail (null MX)",
    ),
    row(
        Reason::RoutingSyntax,
        "routing_syntax",
        550,
        (1, 3),
        "source routes, the percent hack, bang paths and their relatives are refused",
    ),
    row(Reason::ClientBlocked, "client_blocked", 554, (7, 1), "the client is on a block list"),
    row(Reason::SenderBlocked, "sender_blocked", 554, (7, 1), "the sender is on a block list"),
    row(Reason::RecipientBlocked, "recipient_blocked", 554, (7, 1), "the recipient is on a block list"),
    row(Reason::TenantSuspended, "tenant_suspended", 550, (7, 1), "the tenant is suspended"),
    row(Reason::IdentitySuspended, "identity_suspended", 550, (7, 1), "the login is suspended"),
    row(Reason::RateLimited, "rate_limited", 450, (7, 1), "a rate limit is reached"),
    row(Reason::QuotaExceeded, "quota_exceeded", 452, (7, 1), "a quota is used up"),
    row(Reason::SpfFailed, "spf_failed", 550, (7, 23), "SPF failed"),
    row(Reason::DkimFailed, "dkim_failed", 550, (7, 20), "no valid DKIM signature"),
    row(Reason::DmarcFailed, "dmarc_failed", 550, (7, 26), "DMARC failed"),
    row(
        Reason::BareNewline,
        "bare_newline",
        550,
        (6, 11),
        "the message holds a bare CR, a bare LF or a NUL, which could smuggle a second message",
    ),
    row(Reason::MessageTooLarge, "message_too_large", 552, (3, 4), "the message is larger than the limit"),
    row(
        Reason::TooManyRecipients,
        "too_many_recipients",
        452,
        (5, 3),
        "too many recipients in one transaction",
    ),
    row(Reason::LoopDetected, "loop_detected", 554, (4, 6), "the message has been here before"),
    row(
        Reason::SecondTenant,
        "second_tenant",
        452,
        (5, 3),
        "recipients of two tenants do not share a transaction",
    ),
    row(Reason::SpoolFull, "spool_full", 452, (3, 1), "the spool has no room left for new mail"),
    row(Reason::SpoolFailed, "spool_failed", 451, (3, 0), "the spool's storage failed"),
    row(Reason::ConnectionLimit, "connection_limit", 421, (7, 0), "too many connections"),
    row(
        Reason::RecipientUnverified,
        "recipient_unverified",
        451,
        (1, 1),
        "whether the recipient exists cannot be told now",
    ),
    row(Reason::ClientSuspended, "client_suspended", 550, (7, 1), "the client's address is suspended"),
    row(Reason::LoginBusy, "login_busy", 454, (7, 0), "too many logins at once"),
    row(
        Reason::MechanismWithdrawn,
        "mechanism_withdrawn",
        454,
        (7, 0),
        "SCRAM was withdrawn while a login by it was under way",
    ),
];

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_and_unique() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert!(words.iter().all(|word| word.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())));
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
    }

    #[test]
    fn all_is_indexed_by_discriminant() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}

//! The kinds of change that would turn a denial.

use crate::rule::Rule;

/// The kind of change that would turn a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// None is needed.
    None,
    /// The client starts TLS.
    StartTls,
    /// The client logs in.
    LogIn,
    /// The client logs in on a submission listener, or its tenant adds the network.
    LogInOrAddNetwork,
    /// The client writes the recipient as `name@domain`.
    PlainAddress,
    /// The tenant adds the recipient to its list.
    ListRecipient,
    /// The tenant or the login gets the sender.
    AddSender,
    /// The client logs in as an identity that the sender is reserved for.
    UseReservedLogin,
    /// The tenant or the login may relay with `<>`.
    AllowNullSender,
    /// The client sends to this recipient in a separate transaction.
    SeparateTransaction,
    /// The client logs in with the right name and password.
    CorrectCredentials,
    /// The client waits until a limit or a lock frees.
    Wait,
    /// The client tries again: something outside could not be asked now.
    TryAgain,
    /// The keeper of the list takes the entry off it, or allows the client.
    TakeOffList,
    /// The operator of the gateway, or the tenant, lifts the suspension.
    LiftSuspension,
    /// The sender corrects the recipient's domain.
    CorrectDomain,
    /// The sender writes one of its addresses into the From field, once.
    OwnHeaderFrom,
    /// The client ends every line in CR LF.
    EndLines,
    /// The sender makes the message smaller, or the tenant's limit is raised.
    SmallerMessage,
    /// The client sends to the other recipients in another transaction.
    FewerRecipients,
    /// The operator of the hops breaks the loop.
    BreakLoop,
    /// The operator of the gateway gives the spool room, or storage that works.
    MendSpool,
}

impl Remedy {
    /// The change that turns what `rule` says, in general; [`crate::Snapshot::remedy`] names the lines of a
    /// configuration.
    #[must_use]
    pub fn sentence(self, rule: Rule) -> &'static str {
        match self {
            Self::None => "nothing here would change it",
            Self::StartTls => "start TLS before MAIL",
            Self::LogIn => "log in",
            Self::LogInOrAddNetwork => {
                "log in on a submission listener, or have the network added to a tenant's"
            }
            Self::PlainAddress => "write the recipient as name@domain, with nothing else in it",
            Self::ListRecipient => "add the recipient to the list of its relay domain",
            Self::AddSender => "send as an address that is owned, or add this one to the senders",
            Self::UseReservedLogin => "log in as an identity that the sender is reserved for",
            Self::AllowNullSender => "set null_sender = true for the tenant's networks, or for the login",
            Self::SeparateTransaction => {
                "send to this recipient in a transaction of its own: clients do so after the 452"
            }
            Self::CorrectCredentials => "log in with the right name and password",
            Self::Wait => "wait until the limit frees, or raise it",
            Self::TryAgain => "try again later: clients do so by themselves",
            Self::TakeOffList => match rule {
                Rule::SenderList => "take the entry off the list, or list the sender in allowed_senders",
                Rule::RecipientList => {
                    "take the entry off the list, or list the recipient in allowed_recipients"
                }
                _ => "take the entry off the list, or list the client in allowed_clients",
            },
            Self::LiftSuspension => "lift the suspension",
            Self::CorrectDomain => "correct the domain of the recipient, or add a route for it",
            Self::OwnHeaderFrom => "write one From field, with an address that the sender owns",
            Self::EndLines => "end every line of the message in CR LF",
            Self::SmallerMessage => "send a smaller message, or raise limits.message_size",
            Self::FewerRecipients => {
                "send to fewer recipients at once, or raise limits.recipients_per_message"
            }
            Self::BreakLoop => "break the loop: a next hop sends the mail back to this gateway",
            Self::MendSpool => "give the spool room, or storage that works",
        }
    }
}

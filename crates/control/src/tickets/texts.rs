//! What the page of a ticket says, in English and in French: each reason, what can be done about it
//! by the sender and by whoever runs the server, and each rule. Nothing here names a tenant, a
//! list, a login or a file: strangers read it.

mod reasons;

pub(crate) use reasons::about;

/// A language of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    French,
}

/// The same in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) en: &'static str,
    pub(crate) fr: &'static str,
}

impl Text {
    pub(crate) fn say(self, language: Language) -> &'static str {
        match language {
            Language::English => self.en,
            Language::French => self.fr,
        }
    }
}

const fn text(en: &'static str, fr: &'static str) -> Text {
    Text { en, fr }
}

/// What a rule asks, by its word; the word itself for one that came later than this page.
pub(crate) fn rule(word: &str, language: Language) -> &str {
    RULES.iter().find(|(name, _)| *name == word).map_or(word, |(_, text)| text.say(language))
}

pub(super) const RULES: [(&str, Text); 26] = [
    (
        "client_list",
        text("The sending computer is on no block list", "L’ordinateur n’est sur aucune liste de blocage"),
    ),
    ("connections", text("Not too many connections at once", "Pas trop de connexions simultanées")),
    (
        "tls",
        text("The connection is encrypted where it must be", "La connexion est chiffrée là où il le faut"),
    ),
    ("login_lock", text("Not too many failed sign-ins", "Pas trop d’échecs d’identification")),
    ("credential", text("Name and password are right", "Le nom et le mot de passe sont corrects")),
    ("login", text("Signed in where that is required", "Identifié là où c’est exigé")),
    ("suspension", text("Nothing is suspended", "Rien n’est suspendu")),
    ("rate", text("Within the limits", "Dans les limites")),
    ("routing_syntax", text("The recipient is a plain address", "Le destinataire est une adresse simple")),
    (
        "strict_login",
        text("Signed in where the network alone is not enough", "Identifié là où le réseau ne suffit pas"),
    ),
    (
        "relay_domain",
        text(
            "The recipient’s domain receives its mail here",
            "Le domaine du destinataire reçoit son courrier ici",
        ),
    ),
    ("recipient", text("The recipient is known", "Le destinataire est connu")),
    ("call_ahead", text("The next server knows the recipient", "Le serveur suivant connaît le destinataire")),
    (
        "responsibility",
        text("Someone known here answers for the sender", "Quelqu’un de connu ici répond de l’expéditeur"),
    ),
    ("sender", text("The sender address is the sender’s own", "L’adresse d’expéditeur est bien la sienne")),
    ("one_tenant", text("All recipients can travel together", "Les destinataires peuvent voyager ensemble")),
    (
        "dnsbl",
        text("The sending computer is on no public list", "L’ordinateur n’est sur aucune liste publique"),
    ),
    ("sender_list", text("The sender is on no block list", "L’expéditeur n’est sur aucune liste de blocage")),
    (
        "recipient_list",
        text("The recipient is on no block list", "Le destinataire n’est sur aucune liste de blocage"),
    ),
    (
        "domain_exists",
        text("The recipient’s domain takes mail", "Le domaine du destinataire accepte le courrier"),
    ),
    ("recipient_count", text("Not too many recipients", "Pas trop de destinataires")),
    ("line_ending", text("Every line ends properly", "Chaque ligne se termine correctement")),
    ("message_size", text("The message is not too large", "Le message n’est pas trop grand")),
    (
        "header_from",
        text("The From line is the sender’s own", "La ligne « De » est bien celle de l’expéditeur"),
    ),
    ("loop", text("The message has not been here before", "Le message n’est pas déjà passé ici")),
    ("spool", text("The server can store the message", "Le serveur peut enregistrer le message")),
];

#[cfg(test)]
mod tests {
    use mail::Reason;

    use super::*;

    #[test]
    fn every_rule_that_decides_is_told_in_both_languages() {
        for reason in Reason::ALL {
            let word = policy::Decision::refusal_for(reason, None).rule.as_str();
            assert_ne!(rule(word, Language::English), word);
            assert_ne!(rule(word, Language::French), rule(word, Language::English));
        }
    }
}

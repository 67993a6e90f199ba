//! What a denial is told in, English and French: the one table of the page of a ticket and of
//! `gatepost why`. Each reason, what can be done about it by the sender and by whoever runs the
//! server, each rule, and the words around them. Nothing here names a tenant, a list, a login or a
//! file: strangers read the page.

mod reasons;
mod words;

use mail::Reason;

pub use reasons::{About, about};
pub use words::*;

/// A language that denials are told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// What is spoken where nothing else is asked for.
    English,
    /// Whatever the country.
    French,
}

impl Language {
    /// The languages there are, by their tags.
    pub const TAGS: [&str; 2] = ["en", "fr"];

    /// The language of a tag (RFC 5646) or of the name of a locale (POSIX): `fr`, `fr-CA`, `fr_FR.UTF-8`.
    #[must_use]
    pub fn of_tag(tag: &str) -> Option<Self> {
        let language = tag.split(['-', '_', '.', '@']).next().unwrap_or_default();
        match language.to_ascii_lowercase().as_str() {
            "en" => Some(Self::English),
            "fr" => Some(Self::French),
            _ => None,
        }
    }

    /// Its tag (RFC 5646).
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::French => "fr",
        }
    }
}

/// The same in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// In English.
    pub en: &'static str,
    /// In French.
    pub fr: &'static str,
}

impl Text {
    /// In `language`.
    #[must_use]
    pub fn say(self, language: Language) -> &'static str {
        match language {
            Language::English => self.en,
            Language::French => self.fr,
        }
    }
}

const fn text(en: &'static str, fr: &'static str) -> Text {
    Text { en, fr }
}

/// What is said about a reason by its word; `None` for one that came later than this table.
#[must_use]
pub fn about_word(word: &str) -> Option<&'static About> {
    Reason::ALL.into_iter().find(|reason| reason.as_str() == word).map(about)
}

/// `text` with where to sign in, a host and its port, if that is known.
#[must_use]
pub fn with_port(text: Text, at: Option<(&str, u16)>, language: Language) -> String {
    let at = at.map_or_else(String::new, |(host, port)| match language {
        Language::English => format!(" on {host}, port {port}"),
        Language::French => format!(" sur {host}, port {port}"),
    });
    text.say(language).replace("{port}", &at)
}

/// What a rule said, by the word of its outcome.
#[must_use]
pub fn outcome(word: &str) -> Text {
    match word {
        "deny" => text("no", "non"),
        "skip" => text("does not apply", "sans objet"),
        _ => text("yes", "oui"),
    }
}

/// What a rule asks, by its word; the word itself for one that came later than this table.
#[must_use]
pub fn rule(word: &str, language: Language) -> &str {
    RULES.iter().find(|(name, _)| *name == word).map_or(word, |(_, text)| text.say(language))
}

const RULES: [(&str, Text); 26] = [
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
    use super::*;

    #[test]
    fn tags_and_locales_name_their_language_first() {
        for tag in ["fr", "FR-ca", "fr_FR.UTF-8", "fr@euro", "fr.UTF-8"] {
            assert_eq!(Language::of_tag(tag), Some(Language::French), "{tag}");
        }
        for tag in ["", "C", "C.UTF-8", "POSIX", "de_DE.UTF-8", "fro", "frr_DE", "de-FR"] {
            assert_eq!(Language::of_tag(tag), None, "{tag}");
        }
        for tag in Language::TAGS {
            assert_eq!(Language::of_tag(tag).map(Language::tag), Some(tag));
        }
    }

    #[test]
    fn every_rule_that_decides_is_told_in_both_languages() {
        for reason in Reason::ALL {
            let word = policy::Decision::refusal_for(reason, None).rule.as_str();
            assert_ne!(rule(word, Language::English), word);
            assert_ne!(rule(word, Language::French), rule(word, Language::English));
        }
    }
}

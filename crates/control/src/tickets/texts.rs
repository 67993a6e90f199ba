//! What a denial is told in, English and French: the one table of the page of a ticket and of
//! `gatepost why`. Each reason, what can be done about it by the sender and by the operator of the
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

/// What came of a rule, by the word of its outcome.
#[must_use]
pub fn outcome(word: &str) -> Text {
    match word {
        "deny" => text("stopped here", "arrêté ici"),
        "skip" => text("does not apply", "sans objet"),
        _ => text("passed", "validé"),
    }
}

/// What a rule looks at, by its word; the word itself for one that came later than this table.
#[must_use]
pub fn rule(word: &str, language: Language) -> &str {
    RULES.iter().find(|(name, _)| *name == word).map_or(word, |(_, text)| text.say(language))
}

const RULES: [(&str, Text); 26] = [
    ("client_list", text("Block lists: the sending computer", "Listes de blocage : l’ordinateur d’envoi")),
    ("connections", text("Connections at the same time", "Connexions simultanées")),
    ("tls", text("Encryption of the connection", "Chiffrement de la connexion")),
    ("login_lock", text("Sign-ins that failed before", "Échecs d’identification précédents")),
    ("credential", text("Name and password", "Nom et mot de passe")),
    ("login", text("Sign-in", "Identification")),
    ("suspension", text("Suspension of the sender", "Suspension de l’expéditeur")),
    ("rate", text("Limits on sending", "Limites d’envoi")),
    ("routing_syntax", text("Form of the recipient’s address", "Forme de l’adresse du destinataire")),
    ("strict_login", text("Sign-in within the network", "Identification au sein du réseau")),
    ("relay_domain", text("Mail for a domain of this server", "Courrier pour un domaine de ce serveur")),
    ("recipient", text("The recipient, as listed here", "Le destinataire, selon la liste d’ici")),
    (
        "call_ahead",
        text("The recipient, as the next server says", "Le destinataire, selon le serveur suivant"),
    ),
    ("responsibility", text("Who answers for the sender", "Qui répond de l’expéditeur")),
    ("sender", text("Right to the sender address", "Droit à l’adresse d’expéditeur")),
    ("one_tenant", text("Recipients that can travel together", "Destinataires qui peuvent voyager ensemble")),
    ("dnsbl", text("Public block lists", "Listes de blocage publiques")),
    ("sender_list", text("Block lists: the sender", "Listes de blocage : l’expéditeur")),
    ("recipient_list", text("Block lists: the recipient", "Listes de blocage : le destinataire")),
    ("domain_exists", text("The recipient’s domain", "Le domaine du destinataire")),
    ("recipient_count", text("Number of recipients", "Nombre de destinataires")),
    ("line_ending", text("Line endings of the message", "Fins de ligne du message")),
    ("message_size", text("Size of the message", "Taille du message")),
    ("header_from", text("The From line of the message", "La ligne « De » du message")),
    ("loop", text("Loops between servers", "Boucles entre serveurs")),
    ("spool", text("Storage of the message", "Enregistrement du message")),
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

//! What the page of a ticket says, in English and in French: each reason, what can be done about it
//! by the sender and by whoever runs the server, and each rule. Nothing here names a tenant, a
//! list, a login or a file: strangers read it.

use mail::Reason;

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

/// What is said about a reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    /// What happened, in one sentence.
    pub(crate) what: Text,
    /// What the sender can do; `{port}` stands for where to sign in.
    pub(crate) sender: Text,
    /// What the one who runs the mail server, or the sender's provider, can do.
    pub(crate) operator: Text,
}

const WAIT: Text = text(
    "Wait a little and send again; most mail programs do so by themselves.",
    "Patientez un peu et renvoyez le message ; la plupart des logiciels de messagerie le font d’eux-mêmes.",
);
const ASK_WHY: Text = text(
    "Write to the contact below and give the ticket.",
    "Écrivez au contact ci-dessous en indiquant le ticket.",
);
const NOTHING_HERE: Text =
    text("Nothing needs to be changed on this server.", "Il n’y a rien à modifier sur ce serveur.");
const SIGN_IN: Text = text(
    "Set your mail program to sign in with your name and password{port}. That works from any network.",
    "Réglez votre logiciel de messagerie pour qu’il s’identifie avec votre nom et votre mot de passe{port}. \
     Cela fonctionne depuis n’importe quel réseau.",
);

/// The texts of a reason.
pub(crate) fn about(reason: Reason) -> About {
    match reason {
        Reason::RelayNotPermitted
        | Reason::LoginRequired
        | Reason::TlsRequired
        | Reason::LoginFailed
        | Reason::LoginLocked
        | Reason::LoginBusy => about_access(reason),
        Reason::SenderNotOwned
        | Reason::HeaderFromNotOwned
        | Reason::SpfFailed
        | Reason::DkimFailed
        | Reason::DmarcFailed => about_sender(reason),
        Reason::RecipientUnknown
        | Reason::RecipientUnverified
        | Reason::RecipientDomainMissing
        | Reason::RecipientDomainNoMail
        | Reason::RoutingSyntax
        | Reason::SecondTenant
        | Reason::TooManyRecipients => about_recipient(reason),
        Reason::ClientBlocked | Reason::SenderBlocked | Reason::RecipientBlocked => about_list(reason),
        Reason::TenantSuspended
        | Reason::IdentitySuspended
        | Reason::ClientSuspended
        | Reason::RateLimited
        | Reason::QuotaExceeded
        | Reason::ConnectionLimit => about_limit(reason),
        Reason::BareNewline
        | Reason::MessageTooLarge
        | Reason::LoopDetected
        | Reason::SpoolFull
        | Reason::SpoolFailed => about_message(reason),
    }
}

fn about_access(reason: Reason) -> About {
    match reason {
        Reason::LoginRequired => About {
            what: text(
                "The server takes mail here only from those who have signed in, and nobody had.",
                "Le serveur n’accepte ici que le courrier de personnes identifiées, et personne ne l’était.",
            ),
            sender: SIGN_IN,
            operator: text(
                "Give the sending program a login. A device that cannot sign in belongs in an authorised network.",
                "Donnez un identifiant au programme qui envoie. Un appareil qui ne sait pas s’identifier doit se \
                 trouver dans un réseau autorisé.",
            ),
        },
        Reason::TlsRequired => About {
            what: text(
                "The server takes mail and passwords here over an encrypted connection only, and this one was not.",
                "Le serveur n’accepte ici courrier et mots de passe que par une connexion chiffrée, et celle-ci ne \
                 l’était pas.",
            ),
            sender: text(
                "Switch on encryption (STARTTLS or SSL/TLS) in your mail program and send again.",
                "Activez le chiffrement (STARTTLS ou SSL/TLS) dans votre logiciel de messagerie et renvoyez le message.",
            ),
            operator: NOTHING_HERE,
        },
        Reason::LoginFailed => About {
            what: text(
                "Someone tried to sign in, and the name or the password was wrong.",
                "Une tentative de connexion a échoué : le nom ou le mot de passe était incorrect.",
            ),
            sender: text(
                "Check the name and the password in your mail program, and capital letters too.",
                "Vérifiez le nom et le mot de passe dans votre logiciel de messagerie, majuscules comprises.",
            ),
            operator: text(
                "If the password is lost, set a new one. If nobody there tried to sign in, someone is guessing.",
                "Si le mot de passe est perdu, définissez-en un nouveau. Si personne chez vous n’a essayé, quelqu’un \
                 cherche à le deviner.",
            ),
        },
        Reason::LoginBusy => About {
            what: text(
                "So many signed in at the same time that the server could not check the password.",
                "Trop de connexions simultanées : le serveur n’a pas pu vérifier le mot de passe.",
            ),
            sender: WAIT,
            operator: NOTHING_HERE,
        },
        Reason::LoginLocked => About {
            what: text(
                "Too many attempts to sign in failed, so no more are taken for a while.",
                "Trop de tentatives de connexion ont échoué ; aucune n’est acceptée pendant un moment.",
            ),
            sender: text(
                "Correct the password in every program that uses it, wait, and sign in again.",
                "Corrigez le mot de passe dans tous les logiciels qui l’utilisent, patientez, puis recommencez.",
            ),
            operator: text(
                "Look for a device that still has an old password; each of its attempts counts.",
                "Cherchez un appareil qui garde un ancien mot de passe : chacune de ses tentatives compte.",
            ),
        },
        _ => About {
            what: text(
                "The server was asked to pass a message on to another domain by a computer that it does not know.",
                "Un ordinateur que le serveur ne connaît pas lui a demandé de transmettre un message à un autre domaine.",
            ),
            sender: SIGN_IN,
            operator: text(
                "If the sending computer has a fixed address of yours, ask for it to be added to your authorised \
                 networks. Never open the server to everyone.",
                "Si l’ordinateur qui envoie a une adresse fixe qui est la vôtre, demandez qu’elle soit ajoutée à vos \
                 réseaux autorisés. N’ouvrez jamais le serveur à tout le monde.",
            ),
        },
    }
}

fn about_sender(reason: Reason) -> About {
    match reason {
        Reason::HeaderFromNotOwned => About {
            what: text(
                "The From line of the message named an address that this sender may not use.",
                "La ligne « De » du message portait une adresse que cet expéditeur n’a pas le droit d’utiliser.",
            ),
            sender: text(
                "Write one From line, with an address of your own.",
                "N’indiquez qu’une ligne « De », avec une adresse qui est la vôtre.",
            ),
            operator: text(
                "If the address is this sender’s own, add it to the addresses that the sender may use.",
                "Si l’adresse appartient bien à cet expéditeur, ajoutez-la à celles qu’il peut utiliser.",
            ),
        },
        Reason::SpfFailed => authentication(text(
            "The sender’s domain does not allow this computer to send its mail (SPF).",
            "Le domaine de l’expéditeur n’autorise pas cet ordinateur à envoyer son courrier (SPF).",
        )),
        Reason::DkimFailed => authentication(text(
            "The message carried no valid signature of its domain (DKIM).",
            "Le message ne portait aucune signature valide de son domaine (DKIM).",
        )),
        Reason::DmarcFailed => authentication(text(
            "The message could not be shown to come from the domain in its From line (DMARC).",
            "Rien ne prouvait que le message venait du domaine indiqué à la ligne « De » (DMARC).",
        )),
        _ => About {
            what: text(
                "The message was sent with a sender address that this sender may not use.",
                "Le message portait une adresse d’expéditeur que cet expéditeur n’a pas le droit d’utiliser.",
            ),
            sender: text(
                "Send with an address of your own, or sign in as its owner{port}.",
                "Envoyez avec une adresse qui est la vôtre, ou identifiez-vous comme son propriétaire{port}.",
            ),
            operator: text(
                "If the address is this sender’s own, add it to the addresses that the sender may use.",
                "Si l’adresse appartient bien à cet expéditeur, ajoutez-la à celles qu’il peut utiliser.",
            ),
        },
    }
}

fn authentication(what: Text) -> About {
    About {
        what,
        sender: text(
            "Send through your own provider’s mail server.",
            "Envoyez par le serveur de messagerie de votre propre fournisseur.",
        ),
        operator: text(
            "Whoever runs the sender’s domain checks its SPF and DMARC records and its signature.",
            "Le responsable du domaine de l’expéditeur vérifie ses enregistrements SPF et DMARC et sa signature.",
        ),
    }
}

fn about_recipient(reason: Reason) -> About {
    match reason {
        Reason::RecipientUnverified => About {
            what: text(
                "Whether the recipient exists could not be found out at that moment.",
                "Il n’a pas été possible de savoir à ce moment-là si le destinataire existe.",
            ),
            sender: WAIT,
            operator: text(
                "Check that the mail server behind this one answers.",
                "Vérifiez que le serveur de messagerie situé derrière celui-ci répond.",
            ),
        },
        Reason::RecipientDomainMissing => About {
            what: text("The recipient’s domain does not exist.", "Le domaine du destinataire n’existe pas."),
            sender: text(
                "Check the spelling of what follows the @ sign.",
                "Vérifiez l’orthographe de ce qui suit le signe @.",
            ),
            operator: NOTHING_HERE,
        },
        Reason::RecipientDomainNoMail => About {
            what: text(
                "The recipient’s domain says that it takes no mail at all.",
                "Le domaine du destinataire déclare ne recevoir aucun courrier.",
            ),
            sender: text(
                "Ask the recipient for another address.",
                "Demandez une autre adresse au destinataire.",
            ),
            operator: NOTHING_HERE,
        },
        Reason::RoutingSyntax => About {
            what: text(
                "The recipient was written in a form that hides a second address, which is never passed on.",
                "Le destinataire était écrit sous une forme qui cache une seconde adresse ; elle n’est jamais transmise.",
            ),
            sender: text(
                "Write the recipient as name@domain, with nothing else in it.",
                "Écrivez le destinataire sous la forme nom@domaine, sans rien d’autre.",
            ),
            operator: NOTHING_HERE,
        },
        Reason::SecondTenant => About {
            what: text(
                "The message went to recipients that the server handles separately.",
                "Le message s’adressait à des destinataires que le serveur traite séparément.",
            ),
            sender: WAIT,
            operator: NOTHING_HERE,
        },
        Reason::TooManyRecipients => About {
            what: text(
                "The message had more recipients at once than the server takes.",
                "Le message avait plus de destinataires à la fois que le serveur n’en accepte.",
            ),
            sender: text(
                "Send it to fewer recipients at a time; mail servers do so by themselves.",
                "Envoyez-le à moins de destinataires à la fois ; les serveurs de messagerie le font d’eux-mêmes.",
            ),
            operator: text(
                "Raise the number of recipients that one message may have, if it is too small.",
                "Augmentez le nombre de destinataires permis par message, s’il est trop petit.",
            ),
        },
        _ => About {
            what: text(
                "There is no such recipient at this domain.",
                "Ce destinataire n’existe pas dans ce domaine.",
            ),
            sender: text(
                "Check the spelling of the address, and ask the recipient for the right one.",
                "Vérifiez l’orthographe de l’adresse, ou demandez la bonne au destinataire.",
            ),
            operator: text(
                "If the recipient exists, add it to the recipients that the domain lists.",
                "Si le destinataire existe, ajoutez-le à ceux que le domaine déclare.",
            ),
        },
    }
}

fn about_list(reason: Reason) -> About {
    let what = match reason {
        Reason::SenderBlocked => text(
            "The sender address is blocked on this server.",
            "L’adresse de l’expéditeur est bloquée sur ce serveur.",
        ),
        Reason::RecipientBlocked => {
            text("The recipient is blocked on this server.", "Le destinataire est bloqué sur ce serveur.")
        }
        _ => text(
            "The computer that sent the message is on a list of blocked addresses.",
            "L’ordinateur qui a envoyé le message figure sur une liste d’adresses bloquées.",
        ),
    };
    About {
        what,
        sender: ASK_WHY,
        operator: text(
            "If the entry is a mistake, take it off the list. A public list has a page for that.",
            "Si l’entrée est une erreur, retirez-la de la liste. Une liste publique a une page pour cela.",
        ),
    }
}

fn about_limit(reason: Reason) -> About {
    let suspended = |what| About {
        what,
        sender: ASK_WHY,
        operator: text(
            "Find out why it was suspended, a stolen password perhaps; then lift the suspension.",
            "Cherchez la cause de la suspension, un mot de passe volé peut-être, puis levez-la.",
        ),
    };
    let limited = |what| About {
        what,
        sender: WAIT,
        operator: text(
            "If this much is meant to be sent, raise the limit.",
            "S’il est normal d’envoyer autant, augmentez la limite.",
        ),
    };
    match reason {
        Reason::TenantSuspended => suspended(text(
            "Sending is suspended for the organisation that this sender belongs to.",
            "Les envois sont suspendus pour l’organisation de cet expéditeur.",
        )),
        Reason::IdentitySuspended => suspended(text(
            "Sending is suspended for this login.",
            "Les envois sont suspendus pour cet identifiant.",
        )),
        Reason::ClientSuspended => suspended(text(
            "Sending is suspended for the computer that the message came from.",
            "Les envois sont suspendus pour l’ordinateur d’où venait le message.",
        )),
        Reason::QuotaExceeded => limited(text(
            "More was sent than is allowed in this time; it is free again later.",
            "La quantité permise sur cette période est dépassée ; elle se libère plus tard.",
        )),
        Reason::ConnectionLimit => limited(text(
            "Too many connections came from the same network at the same time.",
            "Trop de connexions simultanées venaient du même réseau.",
        )),
        _ => limited(text(
            "Mail was sent faster than is allowed.",
            "Le courrier a été envoyé plus vite qu’il n’est permis.",
        )),
    }
}

fn about_message(reason: Reason) -> About {
    match reason {
        Reason::MessageTooLarge => About {
            what: text(
                "The message was larger than the server takes.",
                "Le message était plus grand que ce que le serveur accepte.",
            ),
            sender: text(
                "Send smaller attachments, or a link to them.",
                "Envoyez des pièces jointes plus petites, ou un lien vers elles.",
            ),
            operator: text(
                "Raise the size that a message may have, if it is too small.",
                "Augmentez la taille permise d’un message, si elle est trop petite.",
            ),
        },
        Reason::LoopDetected => About {
            what: text(
                "The message had been through this server before: it was going round in circles.",
                "Le message était déjà passé par ce serveur : il tournait en rond.",
            ),
            sender: ASK_WHY,
            operator: text(
                "Two servers send this mail to each other: correct the route or the forwarding of one of them.",
                "Deux serveurs se renvoient ce courrier : corrigez la route ou le transfert de l’un d’eux.",
            ),
        },
        Reason::SpoolFull => environment(text(
            "The server had no room for more mail at that moment.",
            "Le serveur n’avait plus de place pour du courrier à ce moment-là.",
        )),
        Reason::SpoolFailed => environment(text(
            "The server could not store the message safely, so it did not take it.",
            "Le serveur ne pouvait pas enregistrer le message de façon sûre ; il ne l’a donc pas accepté.",
        )),
        _ => About {
            what: text(
                "A line of the message ended in a way that could hide a second message.",
                "Une ligne du message se terminait d’une façon qui pourrait cacher un second message.",
            ),
            sender: text(
                "Update the program that made the message; mail programs of today do it right.",
                "Mettez à jour le programme qui a créé le message ; les logiciels actuels le font correctement.",
            ),
            operator: text(
                "A program of your own that sends mail must end every line with CR LF.",
                "Un programme à vous qui envoie du courrier doit terminer chaque ligne par CR LF.",
            ),
        },
    }
}

fn environment(what: Text) -> About {
    About {
        what,
        sender: WAIT,
        operator: text(
            "Look at the spool’s disk: its room, and its health.",
            "Examinez le disque de la file d’attente : sa place et son état.",
        ),
    }
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
    use super::*;

    #[test]
    fn every_reason_is_told_in_both_languages() {
        for reason in Reason::ALL {
            let About { what, sender, operator } = about(reason);
            for Text { en, fr } in [what, sender, operator] {
                assert!(en.ends_with('.') && fr.ends_with('.'), "{reason}: {en:?}, {fr:?}");
                assert_ne!(en, fr, "{reason}");
                assert_eq!(en.contains("{port}"), fr.contains("{port}"), "{reason}");
            }
        }
    }

    #[test]
    fn only_reasons_of_one_kind_share_what_happened() {
        let mut seen: Vec<&str> = Reason::ALL.iter().map(|&reason| about(reason).what.en).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), Reason::ALL.len());
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

//! What happened and what can be done about it, reason by reason.

use mail::Reason;

use super::{Text, text};

/// What is said about a reason.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// What happened, in one sentence.
    pub what: Text,
    /// What the sender can do; `{port}` stands for where to sign in.
    pub sender: Text,
    /// What the one who runs the mail server, or the sender's provider, can do.
    pub operator: Text,
}

/// The texts of a reason.
#[must_use]
pub const fn about(reason: Reason) -> &'static About {
    match reason {
        Reason::RelayNotPermitted => &RELAY_NOT_PERMITTED,
        Reason::LoginRequired => &LOGIN_REQUIRED,
        Reason::TlsRequired => &TLS_REQUIRED,
        Reason::LoginFailed => &LOGIN_FAILED,
        Reason::LoginLocked => &LOGIN_LOCKED,
        Reason::SenderNotOwned => &SENDER_NOT_OWNED,
        Reason::HeaderFromNotOwned => &HEADER_FROM_NOT_OWNED,
        Reason::RecipientUnknown => &RECIPIENT_UNKNOWN,
        Reason::RecipientDomainMissing => &RECIPIENT_DOMAIN_MISSING,
        Reason::RecipientDomainNoMail => &RECIPIENT_DOMAIN_NO_MAIL,
        Reason::RoutingSyntax => &ROUTING_SYNTAX,
        Reason::ClientBlocked => &CLIENT_BLOCKED,
        Reason::SenderBlocked => &SENDER_BLOCKED,
        Reason::RecipientBlocked => &RECIPIENT_BLOCKED,
        Reason::TenantSuspended => &TENANT_SUSPENDED,
        Reason::IdentitySuspended => &IDENTITY_SUSPENDED,
        Reason::RateLimited => &RATE_LIMITED,
        Reason::QuotaExceeded => &QUOTA_EXCEEDED,
        Reason::SpfFailed => &SPF_FAILED,
        Reason::DkimFailed => &DKIM_FAILED,
        Reason::DmarcFailed => &DMARC_FAILED,
        Reason::BareNewline => &BARE_NEWLINE,
        Reason::MessageTooLarge => &MESSAGE_TOO_LARGE,
        Reason::TooManyRecipients => &TOO_MANY_RECIPIENTS,
        Reason::LoopDetected => &LOOP_DETECTED,
        Reason::SecondTenant => &SECOND_TENANT,
        Reason::SpoolFull => &SPOOL_FULL,
        Reason::SpoolFailed => &SPOOL_FAILED,
        Reason::ConnectionLimit => &CONNECTION_LIMIT,
        Reason::RecipientUnverified => &RECIPIENT_UNVERIFIED,
        Reason::ClientSuspended => &CLIENT_SUSPENDED,
        Reason::LoginBusy => &LOGIN_BUSY,
        Reason::MechanismWithdrawn => &MECHANISM_WITHDRAWN,
    }
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

const RELAY_NOT_PERMITTED: About = About {
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
};

const LOGIN_REQUIRED: About = About {
    what: text(
        "The server takes mail here only from senders who have signed in, and this one had not.",
        "Le serveur n’accepte ici que le courrier de personnes identifiées, et personne ne l’était.",
    ),
    sender: SIGN_IN,
    operator: text(
        "Give the sending program a login. A device that cannot sign in belongs in an authorised network.",
        "Donnez un identifiant au programme qui envoie. Un appareil qui ne sait pas s’identifier doit se \
                 trouver dans un réseau autorisé.",
    ),
};

const TLS_REQUIRED: About = About {
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
};

const LOGIN_FAILED: About = About {
    what: text(
        "Someone tried to sign in, and the name or the password was wrong.",
        "Une tentative de connexion a échoué : le nom ou le mot de passe était incorrect.",
    ),
    sender: text(
        "Check the name and the password in your mail program, and capital letters too.",
        "Vérifiez le nom et le mot de passe dans votre logiciel de messagerie, majuscules comprises.",
    ),
    operator: text(
        "If the password is lost, set a new one. If no one there tried to sign in, the password is being guessed.",
        "Si le mot de passe est perdu, définissez-en un nouveau. Si personne chez vous n’a essayé, quelqu’un \
                 cherche à le deviner.",
    ),
};

const LOGIN_LOCKED: About = About {
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
};

const SENDER_NOT_OWNED: About = About {
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
};

const HEADER_FROM_NOT_OWNED: About = About {
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
};

const RECIPIENT_UNKNOWN: About = About {
    what: text("There is no such recipient at this domain.", "Ce destinataire n’existe pas dans ce domaine."),
    sender: text(
        "Check the spelling of the address, and ask the recipient for the right one.",
        "Vérifiez l’orthographe de l’adresse, ou demandez la bonne au destinataire.",
    ),
    operator: text(
        "If the recipient exists, add it to the recipients that the domain lists.",
        "Si le destinataire existe, ajoutez-le à ceux que le domaine déclare.",
    ),
};

const RECIPIENT_DOMAIN_MISSING: About = About {
    what: text("The recipient’s domain does not exist.", "Le domaine du destinataire n’existe pas."),
    sender: text(
        "Check the spelling of what follows the @ sign.",
        "Vérifiez l’orthographe de ce qui suit le signe @.",
    ),
    operator: NOTHING_HERE,
};

const RECIPIENT_DOMAIN_NO_MAIL: About = About {
    what: text(
        "The recipient’s domain says that it takes no mail at all.",
        "Le domaine du destinataire déclare ne recevoir aucun courrier.",
    ),
    sender: text("Ask the recipient for another address.", "Demandez une autre adresse au destinataire."),
    operator: NOTHING_HERE,
};

const ROUTING_SYNTAX: About = About {
    what: text(
        "The recipient was written in a form that hides a second address, which is never passed on.",
        "Le destinataire était écrit sous une forme qui cache une seconde adresse ; elle n’est jamais transmise.",
    ),
    sender: text(
        "Write the recipient as name@domain, with nothing else in it.",
        "Écrivez le destinataire sous la forme nom@domaine, sans rien d’autre.",
    ),
    operator: NOTHING_HERE,
};

const CLIENT_BLOCKED: About = listed(text(
    "The computer that sent the message is on a list of blocked addresses.",
    "L’ordinateur qui a envoyé le message figure sur une liste d’adresses bloquées.",
));

const SENDER_BLOCKED: About = listed(text(
    "The sender address is blocked on this server.",
    "L’adresse de l’expéditeur est bloquée sur ce serveur.",
));

const RECIPIENT_BLOCKED: About =
    listed(text("The recipient is blocked on this server.", "Le destinataire est bloqué sur ce serveur."));

const TENANT_SUSPENDED: About = suspended(text(
    "Sending is suspended for the organisation that this sender belongs to.",
    "Les envois sont suspendus pour l’organisation de cet expéditeur.",
));

const IDENTITY_SUSPENDED: About = suspended(text(
    "Sending is suspended for this login.",
    "Les envois sont suspendus pour cet identifiant.",
));

const RATE_LIMITED: About = limited(text(
    "Mail was sent faster than is allowed.",
    "Le courrier a été envoyé plus vite qu’il n’est permis.",
));

const QUOTA_EXCEEDED: About = limited(text(
    "More was sent than is allowed in this time; it is free again later.",
    "La quantité permise sur cette période est dépassée ; elle se libère plus tard.",
));

const SPF_FAILED: About = authentication(text(
    "The sender’s domain does not allow this computer to send its mail (SPF).",
    "Le domaine de l’expéditeur n’autorise pas cet ordinateur à envoyer son courrier (SPF).",
));

const DKIM_FAILED: About = authentication(text(
    "The message carried no valid signature of its domain (DKIM).",
    "Le message ne portait aucune signature valide de son domaine (DKIM).",
));

const DMARC_FAILED: About = authentication(text(
    "The message could not be shown to come from the domain in its From line (DMARC).",
    "Rien ne prouvait que le message venait du domaine indiqué à la ligne « De » (DMARC).",
));

const BARE_NEWLINE: About = About {
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
};

const MESSAGE_TOO_LARGE: About = About {
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
};

const TOO_MANY_RECIPIENTS: About = About {
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
};

const LOOP_DETECTED: About = About {
    what: text(
        "The message had been through this server before: it was going round in circles.",
        "Le message était déjà passé par ce serveur : il tournait en rond.",
    ),
    sender: ASK_WHY,
    operator: text(
        "Two servers send this mail to each other: correct the route or the forwarding of one of them.",
        "Deux serveurs se renvoient ce courrier : corrigez la route ou le transfert de l’un d’eux.",
    ),
};

const SECOND_TENANT: About = About {
    what: text(
        "The message went to recipients that the server handles separately.",
        "Le message s’adressait à des destinataires que le serveur traite séparément.",
    ),
    sender: WAIT,
    operator: NOTHING_HERE,
};

const SPOOL_FULL: About = environment(text(
    "The server had no room for more mail at that moment.",
    "Le serveur n’avait plus de place pour du courrier à ce moment-là.",
));

const SPOOL_FAILED: About = environment(text(
    "The server could not store the message safely, so it did not take it.",
    "Le serveur ne pouvait pas enregistrer le message de façon sûre ; il ne l’a donc pas accepté.",
));

const CONNECTION_LIMIT: About = limited(text(
    "Too many connections came from the same network at the same time.",
    "Trop de connexions simultanées venaient du même réseau.",
));

const RECIPIENT_UNVERIFIED: About = About {
    what: text(
        "Whether the recipient exists could not be found out at that moment.",
        "Il n’a pas été possible de savoir à ce moment-là si le destinataire existe.",
    ),
    sender: WAIT,
    operator: text(
        "Check that the mail server behind this one answers.",
        "Vérifiez que le serveur de messagerie situé derrière celui-ci répond.",
    ),
};

const CLIENT_SUSPENDED: About = suspended(text(
    "Sending is suspended for the computer that the message came from.",
    "Les envois sont suspendus pour l’ordinateur d’où venait le message.",
));

const LOGIN_BUSY: About = About {
    what: text(
        "So many signed in at the same time that the server could not check the password.",
        "Trop de connexions simultanées : le serveur n’a pas pu vérifier le mot de passe.",
    ),
    sender: WAIT,
    operator: NOTHING_HERE,
};

const MECHANISM_WITHDRAWN: About = About {
    what: text(
        "The way of signing in that the mail program had chosen was switched off at that moment.",
        "Le mode d’identification choisi par le logiciel de messagerie venait d’être désactivé.",
    ),
    sender: text(
        "Sign in again; most mail programs then choose another way by themselves.",
        "Identifiez-vous de nouveau ; la plupart des logiciels choisissent alors un autre mode d’eux-mêmes.",
    ),
    operator: text(
        "If signing in by SCRAM was not meant to end, give a login its SCRAM verifier again.",
        "Si l’identification par SCRAM ne devait pas cesser, redonnez à un identifiant son vérificateur SCRAM.",
    ),
};

const fn listed(what: Text) -> About {
    About {
        what,
        sender: ASK_WHY,
        operator: text(
            "If the entry is a mistake, take it off the list. A public list has a page for that.",
            "Si l’entrée est une erreur, retirez-la de la liste. Une liste publique a une page pour cela.",
        ),
    }
}

const fn suspended(what: Text) -> About {
    About {
        what,
        sender: ASK_WHY,
        operator: text(
            "Find out why it was suspended, a stolen password perhaps; then lift the suspension.",
            "Cherchez la cause de la suspension, un mot de passe volé peut-être, puis levez-la.",
        ),
    }
}

const fn limited(what: Text) -> About {
    About {
        what,
        sender: WAIT,
        operator: text(
            "If this much is meant to be sent, raise the limit.",
            "S’il est normal d’envoyer autant, augmentez la limite.",
        ),
    }
}

const fn authentication(what: Text) -> About {
    About {
        what,
        sender: text(
            "Send through your own provider’s mail server.",
            "Envoyez par le serveur de messagerie de votre propre fournisseur.",
        ),
        operator: text(
            "The operator of the sender’s domain checks its SPF and DMARC records and its signature.",
            "Le responsable du domaine de l’expéditeur vérifie ses enregistrements SPF et DMARC et sa signature.",
        ),
    }
}

const fn environment(what: Text) -> About {
    About {
        what,
        sender: WAIT,
        operator: text(
            "Look at the spool’s disk: its room, and its health.",
            "Examinez le disque de la file d’attente : sa place et son état.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told_in_both_languages() {
        for reason in Reason::ALL {
            let &About { what, sender, operator } = about(reason);
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
}

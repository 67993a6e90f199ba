//! The words around reasons and rules: headings, names of facts, and what is said where there is no
//! ticket.

use super::{Text, text};

/// The title of the page.
pub const TITLE: Text = text("Why was my mail refused?", "Pourquoi mon courrier a-t-il été refusé ?");
/// The heading of the page of a denial.
pub const NOT_TAKEN: Text = text("Your mail was not taken", "Votre courrier n’a pas été accepté");
/// The heading of the page of a deferral.
pub const NOT_TAKEN_YET: Text =
    text("Your mail was not taken yet", "Votre courrier n’a pas encore été accepté");
/// The mark of a denial.
pub const REFUSED: Text = text("Refused", "Refusé");
/// The mark of a deferral.
pub const NOT_NOW: Text = text("Not now", "Pas maintenant");
/// Goes before what the sender can do.
pub const FOR_SENDER: Text = text("If you sent it", "Si vous l’avez envoyé");
/// Goes before what the operator can do.
pub const FOR_OPERATOR: Text =
    text("If you look after the sender’s mail", "Si vous administrez la messagerie de l’expéditeur");
/// Goes before the rules.
pub const HOW_DECIDED: Text = text("How it was decided", "Comment cela a été décidé");
/// Goes before the time.
pub const WHEN: Text = text("When", "Quand");
/// Goes before the code of the reply.
pub const REPLY: Text = text("Reply", "Réponse");
/// Goes before whom to write to.
pub const CONTACT: Text =
    text("Questions? Give the ticket and write to", "Une question ? Indiquez le ticket et écrivez à");
/// The same where that is a page.
pub const CONTACT_PAGE: Text =
    text("Questions? Have the ticket at hand, and see", "Une question ? Préparez le ticket et consultez");
/// What a ticket is, where one can be typed in.
pub const HOME_WHY: Text = text(
    "A mail that this server refuses comes with a ticket: it stands at the end of the reply that your mail \
     program shows. Type it in to read what happened, and what you can do.",
    "Un message refusé par ce serveur est accompagné d’un ticket : il figure à la fin de la réponse affichée \
     par votre logiciel de messagerie. Saisissez-le pour lire ce qui s’est passé et ce que vous pouvez faire.",
);
/// Goes before the field for a ticket.
pub const YOUR_TICKET: Text = text("Your ticket", "Votre ticket");
/// The button beside it.
pub const SHOW: Text = text("Show", "Afficher");
/// Goes before an example of a ticket.
pub const LOOKS_LIKE: Text = text("It looks like this:", "Il ressemble à ceci :");
/// Goes before the time when a suspension ends.
pub const SUSPENSION_ENDS: Text = text("The suspension ends on", "La suspension prend fin le");
/// Goes before the time when it ended.
pub const SUSPENSION_ENDED: Text = text("The suspension ended on", "La suspension a pris fin le");
/// Goes after it.
pub const SEND_AGAIN: Text = text(": send the message again.", " : envoyez le message de nouveau.");
/// A suspension without an end.
pub const SUSPENSION_LASTS: Text = text(
    "The suspension has no end of its own: it lasts until someone lifts it.",
    "La suspension n’a pas de terme : elle dure jusqu’à ce que quelqu’un la lève.",
);
/// There is no such ticket.
pub const MISSING: Text = text("No such ticket", "Ticket inconnu");
/// What to do about that.
pub const MISSING_WHY: Text = text(
    "Compare it with the reply that your mail program shows: 13 letters and digits. Tickets are kept for a \
     limited time.",
    "Comparez-le avec la réponse affichée par votre logiciel de messagerie : 13 lettres et chiffres. Les \
     tickets sont conservés pour un temps limité.",
);
/// Too many tickets were asked for.
pub const TOO_MANY: Text = text("Too many tries", "Trop d’essais");
/// What to do about that.
pub const TOO_MANY_WHY: Text = text(
    "Too many tickets that do not exist were asked for from your address. Try again in a minute.",
    "Trop de tickets inexistants ont été demandés depuis votre adresse. Réessayez dans une minute.",
);

/// Goes after a heading.
pub const COLON: Text = text(":", " :");
/// Goes before the reason of a denial.
pub const DENIED: Text = text("denied:", "refusé :");
/// Goes before the reason of a deferral.
pub const DEFERRED: Text = text("deferred:", "différé :");
/// Goes before the client's address.
pub const CLIENT: Text = text("Client", "Client");
/// How the session ran.
pub const OVER_TLS: Text = text("over TLS", "par TLS");
/// How the session ran.
pub const WITHOUT_TLS: Text = text("without TLS", "sans TLS");
/// Goes before the name of a listener.
pub const ON_LISTENER: Text = text("on listener", "sur l’interface d’écoute");
/// Goes before a login.
pub const LOGIN: Text = text("Login", "Identifiant");
/// Goes before the logins that a mailbox login opened the relay for.
pub const GRANTS: Text = text("Grants", "Accès accordés");
/// Goes before the envelope sender.
pub const FROM: Text = text("From", "De");
/// Goes before the recipients.
pub const TO: Text = text("To", "À");
/// Goes before the number of recipients that are not listed.
pub const AND: Text = text("and", "et");
/// Goes after it.
pub const MORE: Text = text("more", "de plus");
/// Goes before how often the same was denied again.
pub const REPEATED: Text = text("Again", "Encore");
/// Goes after it.
pub const TIMES_MORE: Text = text(
    "times more in that second, for the same cause, with this same ticket",
    "fois dans la même seconde, pour la même cause, avec ce même ticket",
);
/// Goes before a tenant.
pub const TENANT: Text = text("Tenant", "Locataire");
/// Goes before what the gateway recorded of the rule that decided.
pub const RECORDED: Text = text("Recorded", "Consigné, en anglais");
/// Goes before the change that the gateway recorded.
pub const REMEDY: Text = text("To have it accepted", "Pour le faire accepter, en anglais");

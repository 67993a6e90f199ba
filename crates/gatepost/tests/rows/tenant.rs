//! Changes to the tenant of the house, and how a denial reads.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use testbed::Configuration;
use testbed::dialog::Reply;
use testbed::proseware::{CONTACT, PASSWORD, PUBLIC_URL};

/// Writes keys at the top of the tenant's file.
pub(crate) fn write_keys(configuration: &mut Configuration, keys: &str) {
    let file = &mut configuration.tenants[0].1;
    *file = format!("{keys}\n{file}");
}

/// Writes sections at the end of the tenant's file.
pub(crate) fn write_sections(configuration: &mut Configuration, sections: &str) {
    configuration.tenants[0].1.push_str(sections);
}

/// Another login of the tenant, with the password of the first.
pub(crate) fn write_login(configuration: &mut Configuration, login: &str, keys: &str) {
    let file = &configuration.tenants[0].1;
    let password = file.lines().find(|line| line.starts_with("password")).expect("the first login has one");
    let identity = format!("\n[[identity]]\nlogin = \"{login}\"\n{password}\n{keys}\n");
    write_sections(configuration, &identity);
}

/// `AUTH PLAIN` with the password that all logins have.
pub(crate) fn auth(login: &str) -> String {
    format!("AUTH PLAIN {}", BASE64_STANDARD.encode(format!("\0{login}\0{PASSWORD}")))
}

/// A refusal's code and lines, with the ticket as `T`: what the page of reasons promises.
pub(crate) fn worded(reply: &Reply) -> String {
    let text = reply.text();
    let Some((before, rest)) = text.split_once("ticket ") else { return format!("{} {text}", reply.code) };
    let (ticket, url) = rest.split_once(' ').expect("the page of the ticket follows it");
    assert_eq!(url, format!("{PUBLIC_URL}/{}", ticket.replace('-', "")));
    format!("{} {before}ticket T", reply.code)
}

/// The words that end the second line of a refusal after an advice.
pub(crate) fn or_write() -> String {
    format!("or write to {CONTACT}; ticket T")
}

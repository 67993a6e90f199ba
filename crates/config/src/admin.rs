//! `[admin]`: where the admin API is served, and who may use it over the network.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use policy::Sourced;

use crate::error::{ConfigErrors, Report};
use crate::file::File;
use crate::node::address;
use crate::section::{Keys, Section, parse};
use crate::token::{self, TokenDigest};

const ADMIN: Keys = Keys { known: &["socket", "address", "tokens"], later: &[] };
const TOKENS: Keys = Keys { known: &["token"], later: &[] };
const TOKEN: Keys = Keys { known: &["name", "sha256", "token", "role", "tenant"], later: &[] };

/// `[admin]`; the default serves nothing.
#[derive(Clone, Debug, Default)]
pub struct AdminConfig {
    /// The unix socket of the command line.
    pub socket: Option<PathBuf>,
    /// Where the API is served to holders of a token.
    pub address: Option<SocketAddr>,
    /// Who may use it there.
    pub tokens: Vec<AdminToken>,
}

/// A `[[token]]` of the tokens file.
#[derive(Clone, Debug)]
pub struct AdminToken {
    /// What the log calls its holder.
    pub name: Box<str>,
    /// What it is recognised by.
    pub digest: TokenDigest,
    /// What its holder may do.
    pub role: AdminRole,
    /// The one tenant that it is for, by name; `None` for all.
    pub tenant: Option<Box<str>>,
}

/// What the holder of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminRole {
    /// Look.
    Read,
    /// Look and change.
    Admin,
}

/// Reads `[admin]` of the node file, and the tokens file that it names.
pub(crate) fn read(top: &Section<'_>, report: &mut Report) -> AdminConfig {
    let Some(section) = top.section("admin", &ADMIN, report) else { return AdminConfig::default() };
    let address = if section.has("address") { address(&section, report) } else { None };
    let tokens = section.string("tokens", report);
    if tokens.is_none() && address.is_some() {
        let message = "nobody can use the address without a token: only the tenants' grant tokens open it";
        report.warn(&section.origin, "admin.address", message);
    }
    AdminConfig {
        socket: socket(&section, report),
        address,
        tokens: tokens.map_or_else(Vec::new, |tokens| read_tokens(&section, &tokens, report)),
    }
}

/// The admin socket of the node file at `path`, and nothing else of it: the command line must reach
/// a running gateway whatever has since become of the rest.
///
/// # Errors
/// When the file cannot be read, is no TOML, or names no socket.
pub fn admin_socket(path: &Path) -> Result<PathBuf, ConfigErrors> {
    let mut report = Report::default();
    let socket = File::read(path, &mut report).and_then(|file| {
        let table = parse(&file, &mut report)?;
        let mut ignored = Report::default();
        let top = Section::part(&file, table.get_ref());
        let admin = top.section("admin", &ADMIN, &mut ignored);
        let socket = admin.as_ref().and_then(|admin| socket(admin, &mut ignored));
        if socket.is_none() {
            let remedy = "add [admin] with socket = \"/run/gatepost/admin.sock\", and restart the gateway";
            report.error(&top.origin, "admin.socket", "names no socket to reach the gateway by", remedy);
        }
        socket
    });
    socket.ok_or_else(|| report.into_errors())
}

fn socket(section: &Section<'_>, report: &mut Report) -> Option<PathBuf> {
    section.string("socket", report).map(|socket| section.file.resolve(&socket.value))
}

fn read_tokens(section: &Section<'_>, named: &Sourced<String>, report: &mut Report) -> Vec<AdminToken> {
    let path = section.file.resolve(&named.value);
    if !path.is_file() {
        let message = format!("there is no file {}", path.display());
        let remedy = "create it with a [[token]], made with `gatepost token`, or remove the key";
        report.error(&named.origin, section.key("tokens"), message, remedy);
        return Vec::new();
    }
    let Some(file) = File::read(&path, report) else { return Vec::new() };
    let Some(table) = parse(&file, report) else { return Vec::new() };
    let top = Section::top(&file, table.get_ref(), &TOKENS, report);
    let sections = top.sections("token", &TOKEN, report);
    sections.iter().filter_map(|section| read_token(section, report)).collect()
}

fn read_token(section: &Section<'_>, report: &mut Report) -> Option<AdminToken> {
    let name = section.required("name", "\"monitoring\"", report);
    section.demand("role", "\"read\" or \"admin\"", report);
    let roles = [("admin", AdminRole::Admin), ("read", AdminRole::Read)];
    let role = section.choice("role", &roles, report);
    let tenant = section.string("tenant", report);
    if !section.has("token") {
        section.demand("sha256", "\"the digest that `gatepost token` prints\"", report);
    }
    let digest = token::read(section, report)?;
    Some(AdminToken {
        name: name?.value.into(),
        digest,
        role: role?.value,
        tenant: tenant.map(|tenant| tenant.value.into()),
    })
}

//! `[admin]`: where the admin API is served, and who may use it over the network.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use policy::Sourced;
use rustix::fs::Access;
use rustix::io::Errno;

use crate::Purpose;
use crate::error::{ConfigErrors, Report};
use crate::file::File;
use crate::ports::{Port, port};
use crate::section::{Keys, Section, parse};
use crate::token::{self, TokenDigest};

/// What the kernel takes for the path of a socket (unix(7)), without the zero that ends it.
const SOCKET_PATH_BYTES_MAX: usize = 107;

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
pub(crate) fn read(
    top: &Section<'_>,
    ports: &mut Vec<Port>,
    purpose: Purpose,
    report: &mut Report,
) -> AdminConfig {
    let Some(section) = top.section("admin", &ADMIN, report) else { return AdminConfig::default() };
    let address = match section.has("address") {
        true => port(&section, "[admin]", "admin.address", ports, report),
        false => None,
    };
    let tokens = section.string("tokens", report);
    if tokens.is_none() && address.is_some() {
        let message = "no client can use the address without a token: only the tenants' grant tokens open it";
        report.warn(&section.origin, "admin.address", message);
    }
    AdminConfig {
        socket: socket(&section, report).map(|socket| look(socket, purpose, report)),
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
        let socket = admin.as_ref().and_then(|admin| socket(admin, &mut ignored)).map(|socket| socket.value);
        if socket.is_none() {
            let remedy = "add [admin] with socket = \"/run/gatepost/admin.sock\", and restart the gateway";
            report.error(&top.origin, "admin.socket", "names no socket to reach the gateway by", remedy);
        }
        socket
    });
    socket.ok_or_else(|| report.into_errors())
}

fn socket(section: &Section<'_>, report: &mut Report) -> Option<Sourced<PathBuf>> {
    let socket = section.string("socket", report)?;
    Some(Sourced::new(section.file.resolve(&socket.value), socket.origin))
}

/// Whether the socket can be made there. On another host than the gateway's that is worth a warning.
fn look(socket: Sourced<PathBuf>, purpose: Purpose, report: &mut Report) -> PathBuf {
    let above = socket.value.parent().filter(|above| *above != Path::new("")).unwrap_or(Path::new("."));
    let fault = match rustix::fs::access(above, Access::WRITE_OK | Access::EXEC_OK) {
        _ if purpose == Purpose::Reload => None,
        _ if socket.value.as_os_str().len() > SOCKET_PATH_BYTES_MAX => {
            let message = format!("{} is too long for a socket", socket.value.display());
            Some((message, "choose a path of 107 bytes at most"))
        }
        Ok(()) if socket.value.is_dir() => {
            Some((format!("{} is a directory", socket.value.display()), "name a file in it"))
        }
        Ok(()) => None,
        Err(Errno::NOENT) => {
            let remedy =
                "create it, owned by the user that runs Gatepost (RuntimeDirectory= of systemd does)";
            Some((format!("there is no directory {}", above.display()), remedy))
        }
        Err(error) => {
            let message =
                format!("this user may not write to {}: {}", above.display(), io::Error::from(error));
            Some((message, "let the user that runs Gatepost write there, or choose another admin.socket"))
        }
    };
    match fault {
        None => {}
        Some((message, remedy)) if purpose == Purpose::Review => {
            report.warn(&socket.origin, "admin.socket", format!("{message}, on this host; {remedy}"));
        }
        Some((message, remedy)) => report.error(&socket.origin, "admin.socket", message, remedy),
    }
    socket.value
}

fn read_tokens(section: &Section<'_>, named: &Sourced<String>, report: &mut Report) -> Vec<AdminToken> {
    let path = section.file.resolve(&named.value);
    if !path.exists() {
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

//! Whose a file is that this user may not use, and what to do about it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The sentence for `what`, a socket or a directory at `path`, that the system closes to this user.
pub(super) fn closed(what: &str, path: &Path) -> String {
    let us = rustix::process::geteuid().as_raw();
    // What lies in a directory that is closed cannot be looked at; whose the directory is, it is too.
    let owner = path.ancestors().find_map(|path| fs::metadata(path).ok()).map_or(0, |found| found.uid());
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let (user, us) = (name(owner, &users), name(us, &users));
    let remedy = match owner {
        0 => "run the command as root".to_owned(),
        _ => format!("run the command as {user}, with `sudo -u {user}`, or as root"),
    };
    format!("{what} {} belongs to user {user}, and this is user {us}; {remedy}", path.display())
}

/// The name of a user, or its number with a # as sudo takes it (passwd(5)).
fn name(user: u32, users: &str) -> String {
    let named = users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, number) = (parts.next()?, parts.nth(1)?);
        (number.parse() == Ok(user)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("#{user}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_called_by_their_name_where_there_is_one() {
        let users = "root:x:0:0:root:/root:/bin/sh\ngatepost:x:998:998::/:/usr/sbin/nologin\n";
        assert_eq!(name(998, users), "gatepost");
        assert_eq!(name(99, users), "#99");
    }
}

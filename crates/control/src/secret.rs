//! The secret that the salts of unknown logins are drawn from.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use argon2::password_hash::rand_core::{OsRng, RngCore as _};
use aws_lc_rs::digest::{SHA256, digest};

const FILE: &str = "login.secret";

/// The secret that a person wrote, as a key.
#[must_use]
pub fn of_text(text: &str) -> [u8; 32] {
    digest(&SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The secret of this spool, made when it is asked for the first time: after a restart an unknown
/// login meets the salt that it met before.
///
/// # Errors
/// When it can neither be read nor made, or is no secret.
pub fn of_spool(spool: &Path) -> io::Result<[u8; 32]> {
    let path = spool.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => bytes.try_into().map_err(|_| {
            let text = format!("{} does not have 32 bytes; remove it", path.display());
            io::Error::new(ErrorKind::InvalidData, text)
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut secret = [0; 32];
            OsRng.fill_bytes(&mut secret);
            // Whole or not at all: a crash in between must not leave half a secret.
            let made = spool.join(format!("{FILE}.new"));
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&made)?;
            file.write_all(&secret)?;
            file.sync_all()?;
            fs::rename(&made, &path)?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_spool_keeps_its_secret_to_itself() {
        let (spool, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = of_spool(spool.path()).unwrap();
        assert_eq!(of_spool(spool.path()).unwrap(), secret);
        assert_ne!(of_spool(other.path()).unwrap(), secret);
        let mode = fs::metadata(spool.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_secret_is_not_used() {
        let spool = tempfile::tempdir().unwrap();
        fs::write(spool.path().join(FILE), "short").unwrap();
        assert!(of_spool(spool.path()).unwrap_err().to_string().contains("remove it"));
    }
}

//! The unix socket of the command line.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::StartError;
use crate::door::BACKLOG;

/// A bound socket; its file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, so that another's file is not removed in its place.
    file: (u64, u64),
}

impl AdminSocket {
    /// Binds, in place of a socket that a killed gateway left. No other user can connect, at any time.
    pub(crate) fn bind(path: &Path) -> Result<Self, StartError> {
        let failed = |error| StartError::AdminSocket { path: path.to_owned(), error };
        remove_stale(path).map_err(failed)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        socket.bind(&SockAddr::unix(path).map_err(failed)?).map_err(failed)?;
        // Until it listens every connection is refused: no client slips in before the mode is set.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        socket.listen(BACKLOG).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        let file = (metadata.dev(), metadata.ino());
        Ok(Self { listener: socket.into(), path: path.to_owned(), file })
    }

    /// To serve; in the runtime.
    pub(super) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if is_ours {
            // One that stays behind is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes what is there if it is a socket that no process serves, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway answers there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_this_users_alone_and_goes_with_its_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let taken = AdminSocket::bind(&path).unwrap_err().to_string();
        assert!(taken.contains("another gateway answers there") && taken.contains("admin.sock"), "{taken}");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_gateway_left_is_replaced_and_anything_else_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        let socket = AdminSocket::bind(&path).unwrap();
        // Another's file in our place is not ours to remove.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a letter").unwrap();
        drop(socket);
        let refused = AdminSocket::bind(&path).unwrap_err().to_string();
        assert!(refused.contains("no socket") && refused.contains("admin.socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a letter");
        let nowhere = AdminSocket::bind(&folder.path().join("missing/admin.sock")).unwrap_err().to_string();
        assert!(nowhere.contains("create the directory"), "{nowhere}");
    }
}

//! ext4 on a loop device, made, mounted and broken.

use std::fs::File;
use std::path::{Path, PathBuf};

use testbed::net::eventually;

use crate::stand::PATIENCE;
use crate::tools;

/// EXT4_IOC_SHUTDOWN (`linux/ext4.h`), `_IOR('X', 125, __u32)`.
const SHUTDOWN: &str = "0x8004587d";
/// EXT4_GOING_FLAGS_NOLOGFLUSH: what the journal has not on disk is gone.
const NO_LOG_FLUSH: &str = "2";

/// A separate ext4 in a file, mounted; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Ext4 {
    image: PathBuf,
    mounted_at: PathBuf,
    is_mounted: bool,
}

impl Ext4 {
    /// Makes a sparse image of `bytes` at `image`, an ext4 in it, and mounts it beside it.
    pub(crate) fn create(image: &Path, bytes: u64) -> Self {
        make(image, bytes);
        let mut ext4 = Self::of(image);
        ext4.mount();
        ext4
    }

    /// The ext4 that is in `image` (a file or a device), not mounted yet.
    pub(crate) fn of(image: &Path) -> Self {
        let mounted_at = image.with_extension("mounted");
        std::fs::create_dir_all(&mounted_at).expect("the work folder can be written");
        Self { image: image.to_owned(), mounted_at, is_mounted: false }
    }

    /// Mounts it; ext4 replays its journal.
    pub(crate) fn mount(&mut self) {
        self.try_mount().unwrap_or_else(|sentence| panic!("{sentence}"));
    }

    /// The same for a device that may fail; the sentence says how it did.
    pub(crate) fn try_mount(&mut self) -> Result<(), String> {
        assert!(!self.is_mounted, "{} is mounted", self.image.display());
        // The loop device that `mount` makes goes with the mount.
        let words = ["mount", "-o", "loop,errors=remount-ro", text(&self.image), text(&self.mounted_at)];
        tools::try_run(&words)?;
        self.is_mounted = true;
        Ok(())
    }

    /// Unmounts it; no process may use it then.
    pub(crate) fn unmount(&mut self) {
        if std::mem::take(&mut self.is_mounted) {
            // The kernel takes a killed gateway's ring apart, and its files with it, after the process is gone.
            let mut last = String::new();
            let is_gone = eventually(PATIENCE, || {
                let outcome = tools::try_run(&["umount", text(&self.mounted_at)]);
                outcome.map_err(|sentence| last = sentence).is_ok()
            });
            assert!(is_gone, "{last}");
        }
    }

    /// Shuts it down at once without flushing its log: as if its device were gone from now on.
    pub(crate) fn shut_down(&self) {
        let script = format!(
            "open(my $f, '<', $ARGV[0]) or die \"open: $!\\n\"; my $how = pack('L', {NO_LOG_FLUSH}); \
             ioctl($f, {SHUTDOWN}, $how) or die \"ioctl: $!\\n\";"
        );
        tools::run(&["perl", "-e", &script, text(&self.mounted_at)]);
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mounted_at
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // A scenario that failed may have left a process in it: the end of the namespace unmounts it then.
        if self.is_mounted {
            let _ = tools::try_run(&["umount", "--lazy", text(&self.mounted_at)]);
        }
    }
}

/// A sparse image of `bytes` with an ext4 in it, made so that little of it is written.
pub(crate) fn make(image: &Path, bytes: u64) {
    let file = File::create(image).expect("the work folder can be written");
    file.set_len(bytes).expect("the image can be as large");
    drop(file);
    // No background work on the tables: the only writes are those of the run.
    let words = [
        "mkfs.ext4",
        "-q",
        "-F",
        "-b",
        "4096",
        "-E",
        "lazy_itable_init=0,lazy_journal_init=0",
        "-J",
        "size=4",
    ];
    tools::run(&[&words[..], &[text(image)]].concat());
}

/// A path as a word of a command.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("the run's own paths are text")
}

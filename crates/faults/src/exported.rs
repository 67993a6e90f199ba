//! An image as a separate file, with something between the two that watches or fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use testbed::net::eventually;

use crate::device::text;
use crate::stand::PATIENCE;
use crate::tools;

/// An image that `qemu-storage-daemon` exports by FUSE; no longer when dropped.
#[derive(Debug)]
pub(crate) struct Exported {
    daemon: Child,
    path: PathBuf,
}

impl Exported {
    /// Exports the node `disk` of `nodes`, which stand upon the node `image`, each as `--blockdev` takes it.
    pub(crate) fn start(image: &Path, nodes: &[String]) -> Self {
        let path = image.with_extension("exported");
        File::create(&path).expect("the work folder can be written");
        let file = format!("driver=file,node-name=image,filename={}", text(image));
        let export = format!("fuse,id=disk,node-name=disk,mountpoint={},writable=on", text(&path));
        let nodes = [file].into_iter().chain(nodes.iter().cloned());
        let daemon = tools::command(&["qemu-storage-daemon"])
            .args(nodes.flat_map(|node| ["--blockdev".to_owned(), node]))
            .args(["--export", &export])
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("qemu-storage-daemon: {error}"));
        let length = fs::metadata(image).expect("the image was made").len();
        let is_exported = eventually(PATIENCE, || fs::metadata(&path).is_ok_and(|file| file.len() == length));
        assert!(is_exported, "qemu-storage-daemon does not export {}", image.display());
        Self { daemon, path }
    }

    /// The file that is the disk.
    pub(crate) fn disk(&self) -> &Path {
        &self.path
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = tools::try_run(&["umount", "--lazy", text(&self.path)]);
    }
}

//! The disk of one host: what its programs see, and what would be left after a power cut.
//!
//! Every file has its visible content, its durable content, and the changes between the two. Names
//! likewise: a directory's creations, renames and removals are durable once it is synced. A power
//! cut ([`HostDisk::crash`]) lets a seed choose among the changes that were not synced: of each write
//! nothing, all or some sectors, whatever became of earlier ones; of names a journal's prefix, or any.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::faults::DiskFaults;
use super::inode::{Change, Inode, cut, extend, overlay, survive};
use super::random::Random;
use crate::{BLOCK_BYTES, File};

pub(super) type InodeId = u32;

pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(InodeId),
}

/// A change of a directory that a crash may still undo.
#[derive(Debug)]
struct NameChange {
    /// The name that goes, if any.
    gone: Option<PathBuf>,
    /// The name that comes, if any.
    come: Option<(PathBuf, Node)>,
}

impl NameChange {
    fn touches(&self, directory: &Path) -> bool {
        let within = |path: &Path| path.parent() == Some(directory);
        self.gone.as_deref().is_some_and(within) || self.come.as_ref().is_some_and(|(path, _)| within(path))
    }

    /// The directory whose journal it belongs to.
    fn directory(&self) -> PathBuf {
        let path = self.come.as_ref().map(|(path, _)| path).or(self.gone.as_ref());
        path.and_then(|path| path.parent()).map(Path::to_path_buf).unwrap_or_default()
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, Node>) {
        if let Some(path) = self.gone
            && names.remove(&path) == Some(Node::Directory)
        {
            names.retain(|name, _| !name.starts_with(&path));
        }
        if let Some((path, node)) = self.come {
            names.insert(path, node);
        }
    }
}

#[derive(Debug)]
pub(super) struct HostDisk {
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    name_changes: Vec<NameChange>,
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    /// Who took which lock last: the ring and its text. Whether it still holds it is for the world to say.
    pub(super) locks: BTreeMap<PathBuf, (u32, String)>,
    /// The same for files: by which opening.
    pub(super) file_locks: BTreeMap<InodeId, File>,
    pub(super) capacity_bytes: u64,
    pub(super) faults: DiskFaults,
}

impl HostDisk {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        Self {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            locks: BTreeMap::new(),
            file_locks: BTreeMap::new(),
            capacity_bytes,
            faults: DiskFaults::default(),
        }
    }

    /// The files with a name that is meant.
    pub(super) fn named_files(&self, is_meant: &dyn Fn(&Path) -> bool) -> Vec<(PathBuf, InodeId)> {
        let files = self.names.iter().filter_map(|(path, node)| match node {
            Node::File(inode) if is_meant(path) && !self.content(*inode).is_empty() => {
                Some((path.clone(), *inode))
            }
            _ => None,
        });
        files.collect()
    }

    /// Changes bits of a byte, as it is seen and as it is stored.
    pub(super) fn flip(&mut self, inode: InodeId, at: usize, bits: u8) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            for content in [&mut inode.content, &mut inode.durable] {
                if let Some(byte) = content.get_mut(at) {
                    *byte ^= bits;
                }
            }
        }
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.parent().is_none() || self.names.get(path) == Some(&Node::Directory)
    }

    pub(super) fn file_at(&self, path: &Path) -> io::Result<InodeId> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Directory) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    fn check_parent(&self, path: &Path) -> io::Result<()> {
        if path.parent().is_some_and(|parent| self.is_directory(parent)) {
            Ok(())
        } else {
            Err(errno(libc::ENOENT))
        }
    }

    fn change_names(&mut self, gone: Option<&Path>, come: Option<(&Path, Node)>) {
        let change = || NameChange {
            gone: gone.map(Path::to_path_buf),
            come: come.map(|(path, node)| (path.to_path_buf(), node)),
        };
        change().apply(&mut self.names);
        self.name_changes.push(change());
    }

    pub(super) fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        if !self.is_directory(directory) {
            return Err(errno(libc::ENOENT));
        }
        let within = self.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(within.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    /// Directories are durable at once: they are laid out before the service starts.
    pub(super) fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        for part in path.ancestors().filter(|part| part.parent().is_some()) {
            match self.names.get(part) {
                Some(Node::Directory) => {}
                Some(Node::File(_)) => return Err(errno(libc::ENOTDIR)),
                None => {
                    self.names.insert(part.to_path_buf(), Node::Directory);
                    self.durable_names.insert(part.to_path_buf(), Node::Directory);
                    self.name_changes.retain(|change| change.gone.as_deref() != Some(part));
                }
            }
        }
        Ok(())
    }

    /// Opens a file and holds it.
    pub(super) fn open(&mut self, path: &Path, create_new: bool) -> io::Result<InodeId> {
        let inode = if create_new {
            if self.names.contains_key(path) {
                return Err(errno(libc::EEXIST));
            }
            self.create(path)?
        } else {
            self.file_at(path)?
        };
        self.hold(inode);
        Ok(inode)
    }

    fn create(&mut self, path: &Path) -> io::Result<InodeId> {
        self.check_parent(path)?;
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.change_names(None, Some((path, Node::File(inode))));
        Ok(inode)
    }

    pub(super) fn hold(&mut self, inode: InodeId) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.holds += 1;
        }
    }

    pub(super) fn let_go(&mut self, inode: InodeId) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.holds = inode.holds.saturating_sub(1);
        }
        self.collect();
    }

    /// Forgets files that have no name, seen or durable or on the way to either, and no holder.
    fn collect(&mut self) {
        let coming = self.name_changes.iter().filter_map(|change| change.come.as_ref().map(|(_, node)| node));
        let named: Vec<InodeId> = (self.names.values().chain(self.durable_names.values()).chain(coming))
            .filter_map(|node| if let Node::File(inode) = node { Some(*inode) } else { None })
            .collect();
        self.inodes.retain(|id, inode| inode.holds > 0 || named.contains(id));
        self.file_locks.retain(|id, _| self.inodes.contains_key(id));
    }

    pub(super) fn content(&self, inode: InodeId) -> &[u8] {
        self.inodes.get(&inode).map_or(&[], |inode| &inode.content)
    }

    pub(super) fn read(&self, inode: InodeId, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let content = self.content(inode);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let count = bytes.len().min(content.len() - start);
        if self.faults.prevents_read(inode, offset, count as u64) {
            return Err(errno(libc::EIO));
        }
        bytes[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    pub(super) fn free_bytes(&self) -> u64 {
        let named: Vec<InodeId> = (self.names.values())
            .filter_map(|node| if let Node::File(inode) = node { Some(*inode) } else { None })
            .collect();
        let used: u64 = (self.inodes.iter())
            .filter(|(id, inode)| inode.holds > 0 || named.contains(id))
            .map(|(_, inode)| inode.content.len() as u64)
            .sum();
        self.capacity_bytes.saturating_sub(used)
    }

    /// Room for a file of `length` bytes.
    pub(super) fn reserve(&self, inode: InodeId, length: u64) -> io::Result<()> {
        let growth = length.saturating_sub(self.content(inode).len() as u64);
        if growth > 0 && growth > self.free_bytes() { Err(errno(libc::ENOSPC)) } else { Ok(()) }
    }

    /// What of a write finds room, in whole blocks of the file system: the kernel writes that much, and
    /// says ENOSPC when it is asked for the rest.
    fn fitting<'a>(&self, inode: InodeId, offset: u64, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let Err(full) = self.reserve(inode, offset + bytes.len() as u64) else { return Ok(bytes) };
        let end = (self.content(inode).len() as u64).saturating_add(self.free_bytes());
        let end = end - end % BLOCK_BYTES as u64;
        match bytes.len().min(end.saturating_sub(offset) as usize) {
            0 => Err(full),
            count => Ok(&bytes[..count]),
        }
    }

    /// A buffered write, of as much as finds room: visible now, durable after a sync.
    pub(super) fn write(&mut self, inode: InodeId, offset: u64, bytes: &[u8], at: u64) -> io::Result<usize> {
        let bytes = self.fitting(inode, offset, bytes)?;
        self.faults.written(inode, offset, bytes.len() as u64);
        let inode = self.inode(inode)?;
        overlay(&mut inode.content, offset, bytes);
        inode.changes.push((at, Change::Write { offset, bytes: bytes.to_vec() }));
        Ok(bytes.len())
    }

    /// A durable write, of as much as finds room. Older buffered writes to the same range are superseded by it.
    pub(super) fn write_durable(&mut self, inode: InodeId, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let bytes = self.fitting(inode, offset, bytes)?;
        self.faults.written(inode, offset, bytes.len() as u64);
        let inode = self.inode(inode)?;
        overlay(&mut inode.content, offset, bytes);
        overlay(&mut inode.durable, offset, bytes);
        let changes = std::mem::take(&mut inode.changes);
        for (at, change) in changes {
            cut(change, offset..offset + bytes.len() as u64, |rest| inode.changes.push((at, rest)));
        }
        Ok(bytes.len())
    }

    /// A write that failed, or that a power cut met: the seed says what is on the disk now.
    pub(super) fn write_maimed(&mut self, inode: InodeId, offset: u64, bytes: &[u8], random: &mut Random) {
        if self.reserve(inode, offset + bytes.len() as u64).is_err() {
            return;
        }
        if let Some(inode) = self.inodes.get_mut(&inode) {
            survive(&mut inode.durable, offset, bytes, random);
            let end = inode.durable.len().min((offset as usize).saturating_add(bytes.len()));
            let start = (offset as usize).min(end);
            overlay(&mut inode.content, start as u64, &inode.durable[start..end]);
        }
    }

    pub(super) fn allocate(&mut self, inode: InodeId, length: u64, at: u64) -> io::Result<()> {
        self.reserve(inode, length)?;
        let inode = self.inode(inode)?;
        extend(&mut inode.content, length);
        inode.changes.push((at, Change::Extend { length }));
        Ok(())
    }

    /// Makes durable what was changed before `before`.
    pub(super) fn sync(&mut self, inode: InodeId, before: u64) -> io::Result<()> {
        let inode = self.inode(inode)?;
        let changes = std::mem::take(&mut inode.changes);
        for (at, change) in changes {
            if at >= before {
                inode.changes.push((at, change));
                continue;
            }
            match change {
                Change::Write { offset, bytes } => overlay(&mut inode.durable, offset, &bytes),
                Change::Extend { length } => extend(&mut inode.durable, length),
            }
        }
        Ok(())
    }

    /// A flush that failed: pages count as clean from now on, whether or not they reached the disk,
    /// so that a second flush succeeds and proves nothing.
    pub(super) fn sync_failed(&mut self, inode: InodeId, random: &mut Random) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.lose_some(random);
        }
    }

    pub(super) fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        if !self.is_directory(directory) {
            return Err(errno(libc::ENOENT));
        }
        let mut others: Vec<NameChange> = Vec::new();
        for change in std::mem::take(&mut self.name_changes) {
            if !change.touches(directory) {
                others.push(change);
                continue;
            }
            // A rename out of another directory takes that name's earlier history with it.
            others.retain(|other| {
                other.come.as_ref().is_none_or(|(path, _)| Some(path.as_path()) != change.gone.as_deref())
            });
            // A directory that is gone takes what happened in it along.
            others.retain(|other| !change.gone.as_deref().is_some_and(|gone| other.touches(gone)));
            change.apply(&mut self.durable_names);
        }
        self.name_changes = others;
        self.collect();
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = Node::File(self.file_at(from)?);
        self.check_parent(to)?;
        if self.names.get(to) == Some(&Node::Directory) {
            return Err(errno(libc::EISDIR));
        }
        if from != to {
            self.change_names(Some(from), Some((to, node)));
            self.collect();
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file_at(path)?;
        self.change_names(Some(path), None);
        self.collect();
        Ok(())
    }

    /// Removes a directory without names. When its removal lasts, so do those of the names it had.
    pub(super) fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        if self.names.get(path) != Some(&Node::Directory) {
            return Err(errno(if self.names.contains_key(path) { libc::ENOTDIR } else { libc::ENOENT }));
        }
        if self.names.keys().any(|name| name.parent() == Some(path)) {
            return Err(errno(libc::ENOTEMPTY));
        }
        self.change_names(Some(path), None);
        Ok(())
    }

    /// Takes a directory's name away with all names in it, open files or not.
    pub(super) fn remove_tree(&mut self, path: &Path) {
        self.change_names(Some(path), None);
        self.collect();
    }

    /// Gives the lock to a process: none holds it any more.
    pub(super) fn lock(&mut self, path: &Path, ring: u32, owner: &str) -> io::Result<()> {
        let inode = if self.names.contains_key(path) { self.file_at(path)? } else { self.create(path)? };
        self.inode(inode)?.content = owner.as_bytes().to_vec();
        self.locks.insert(path.to_path_buf(), (ring, owner.to_owned()));
        Ok(())
    }

    /// The power is gone and back: what was not durable is lost, kept or torn.
    pub(super) fn crash(&mut self, random: &mut Random, names_are_ordered: bool) {
        self.faults.power_cuts += 1;
        (self.faults.fails_in, self.faults.dies_in, self.faults.frozen_until) = (None, None, None);
        // Within a directory a journal keeps its order: a prefix of the changes survives. Without one
        // each survives by itself.
        let mut stopped: Vec<PathBuf> = Vec::new();
        for change in std::mem::take(&mut self.name_changes) {
            let directory = change.directory();
            if stopped.contains(&directory) {
                continue;
            }
            if random.coin() {
                change.apply(&mut self.durable_names);
            } else if names_are_ordered {
                stopped.push(directory);
            }
        }
        self.names = self.durable_names.clone();
        self.locks.clear();
        self.file_locks.clear();
        for inode in self.inodes.values_mut() {
            inode.lose_some(random);
            inode.content = inode.durable.clone();
            inode.holds = 0;
        }
        self.collect();
    }

    fn inode(&mut self, inode: InodeId) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| errno(libc::EBADF))
    }
}

//! What a disk holds, and what it would still hold if the power failed now.
//!
//! One copy of the contents, as the running process sees them, and for every
//! file and directory the way back: an undo for each change since it was last
//! synced. A sync forgets undos; a power cut applies them.
//!
//! A file is made durable by syncing it, a name by syncing the directory it is
//! in; neither does the other's work. That is all POSIX promises. Linux's
//! journaling filesystems usually keep more (syncing a new file keeps its name
//! too), and software that needs the more is caught out here on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use rand::RngExt as _;
use rand::rngs::StdRng;

/// Names a file or directory for as long as the disk exists; never reused.
pub(super) type Ino = u64;

/// The top directory, as FUSE numbers it.
pub(super) const ROOT: Ino = 1;

/// The place of one change in the order of all changes to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark(u64);

/// What a power cut takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Every change that was not synced.
    Everything,
    /// All but a random beginning of each file's and each directory's unsynced
    /// changes, the last write kept being cut at a random byte: a torn write.
    Torn,
}

/// What a power cut took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Unsynced changes to files, undone whole or in part.
    pub writes: u64,
    /// Bytes that those changes had written.
    pub bytes: u64,
    /// Unsynced changes to directories, undone.
    pub names: u64,
    /// Writes of which only a beginning stayed.
    pub torn: u64,
}

/// Why the disk did not do what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NotFound,
    Exists,
    NotEmpty,
    NotADirectory,
    IsADirectory,
}

/// All files and directories of one disk.
pub(super) struct Image {
    inodes: BTreeMap<Ino, Inode>,
    next_ino: Ino,
    changes: u64,
}

struct Inode {
    body: Body,
    /// Open descriptors: an unlinked file lives until the last is closed.
    open: u32,
}

enum Body {
    File { bytes: Vec<u8>, undo: Vec<(Mark, FileUndo)> },
    Directory { parent: Ino, names: BTreeMap<OsString, Ino>, undo: Vec<(Mark, NamesUndo)> },
}

/// The way back over one change of a file.
struct FileUndo {
    /// Where the change began.
    offset: usize,
    /// What stood there before, as far as the file reached.
    old: Vec<u8>,
    /// How long the file was.
    length: usize,
    /// Bytes written; 0 for a change of length alone.
    written: usize,
}

/// The way back over one change of a directory: each name and whom it named.
type NamesUndo = Vec<(OsString, Option<Ino>)>;

/// What there is to know about an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) directory: bool,
    pub(super) size: u64,
    pub(super) links: u32,
}

impl Image {
    /// An empty disk.
    pub(super) fn new() -> Self {
        let root = Inode { body: Body::directory(ROOT), open: 0 };
        Self { inodes: BTreeMap::from([(ROOT, root)]), next_ino: ROOT + 1, changes: 0 }
    }

    /// Everything done so far is at or before this mark.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.changes)
    }

    // Asking.

    pub(super) fn stat(&self, ino: Ino) -> Result<Stat, Fault> {
        Ok(match &self.inodes.get(&ino).ok_or(Fault::NotFound)?.body {
            Body::File { bytes, .. } => {
                Stat { directory: false, size: bytes.len() as u64, links: self.links(ino) }
            }
            Body::Directory { .. } => Stat { directory: true, size: 0, links: 2 },
        })
    }

    pub(super) fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Ino, Fault> {
        self.names(parent)?.1.get(name).copied().ok_or(Fault::NotFound)
    }

    /// The directory's own parent, and what is in it.
    pub(super) fn names(&self, ino: Ino) -> Result<(Ino, &BTreeMap<OsString, Ino>), Fault> {
        match &self.inodes.get(&ino).ok_or(Fault::NotFound)?.body {
            Body::Directory { parent, names, .. } => Ok((*parent, names)),
            Body::File { .. } => Err(Fault::NotADirectory),
        }
    }

    pub(super) fn read(&self, ino: Ino, offset: u64, length: u32) -> Result<&[u8], Fault> {
        match &self.inodes.get(&ino).ok_or(Fault::NotFound)?.body {
            Body::File { bytes, .. } => {
                let start = to_size(offset).min(bytes.len());
                let end = start.saturating_add(length as usize).min(bytes.len());
                Ok(&bytes[start..end])
            }
            Body::Directory { .. } => Err(Fault::IsADirectory),
        }
    }

    // Changing.

    pub(super) fn open(&mut self, ino: Ino) -> Result<(), Fault> {
        self.inodes.get_mut(&ino).ok_or(Fault::NotFound)?.open += 1;
        Ok(())
    }

    pub(super) fn close(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.open = inode.open.saturating_sub(1);
        }
    }

    pub(super) fn create(&mut self, parent: Ino, name: &OsStr) -> Result<Ino, Fault> {
        self.add(parent, name, Body::File { bytes: Vec::new(), undo: Vec::new() })
    }

    pub(super) fn make_directory(&mut self, parent: Ino, name: &OsStr) -> Result<Ino, Fault> {
        self.add(parent, name, Body::directory(parent))
    }

    /// Gives a file one more name.
    pub(super) fn link(&mut self, ino: Ino, parent: Ino, name: &OsStr) -> Result<(), Fault> {
        if self.stat(ino)?.directory {
            return Err(Fault::IsADirectory);
        }
        if self.names(parent)?.1.contains_key(name) {
            return Err(Fault::Exists);
        }
        self.rename_within(parent, vec![(name.to_owned(), Some(ino))])
    }

    pub(super) fn unlink(&mut self, parent: Ino, name: &OsStr) -> Result<(), Fault> {
        if self.stat(self.lookup(parent, name)?)?.directory {
            return Err(Fault::IsADirectory);
        }
        self.rename_within(parent, vec![(name.to_owned(), None)])
    }

    pub(super) fn remove_directory(&mut self, parent: Ino, name: &OsStr) -> Result<(), Fault> {
        if !self.names(self.lookup(parent, name)?)?.1.is_empty() {
            return Err(Fault::NotEmpty);
        }
        self.rename_within(parent, vec![(name.to_owned(), None)])
    }

    /// Moves a name, replacing what had the new one.
    ///
    /// Within a directory a power cut leaves the old state or the new, never a
    /// mixture. A move between directories is durable at once, with everything
    /// else pending in both: half a move must not lose the file, and no
    /// engine under test moves files that way.
    pub(super) fn rename(
        &mut self,
        parent: Ino,
        name: &OsStr,
        new_parent: Ino,
        new_name: &OsStr,
    ) -> Result<(), Fault> {
        let ino = self.lookup(parent, name)?;
        if let Ok(replaced) = self.lookup(new_parent, new_name) {
            if replaced == ino {
                return Ok(());
            }
            match (self.stat(ino)?.directory, self.stat(replaced)?.directory) {
                (true, false) => return Err(Fault::NotADirectory),
                (false, true) => return Err(Fault::IsADirectory),
                (true, true) if !self.names(replaced)?.1.is_empty() => return Err(Fault::NotEmpty),
                _ => {}
            }
        }
        let (leave, arrive) = ((name.to_owned(), None), (new_name.to_owned(), Some(ino)));
        if parent == new_parent {
            return self.rename_within(parent, vec![leave, arrive]);
        }
        self.names(new_parent)?;
        self.rename_within(parent, vec![leave])?;
        self.rename_within(new_parent, vec![arrive])?;
        if let Some(Inode { body: Body::Directory { parent, .. }, .. }) = self.inodes.get_mut(&ino)
        {
            *parent = new_parent;
        }
        let now = self.mark();
        self.sync(parent, now);
        self.sync(new_parent, now);
        Ok(())
    }

    pub(super) fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<(), Fault> {
        let offset = to_size(offset);
        self.change(ino, |bytes| {
            let length = bytes.len();
            let end = offset.saturating_add(data.len());
            let old = bytes[offset.min(length)..end.min(length)].to_vec();
            bytes.resize(length.max(end), 0);
            bytes[offset..end].copy_from_slice(data);
            FileUndo { offset, old, length, written: data.len() }
        })
    }

    /// Cuts the file short, or lengthens it with zeros.
    pub(super) fn set_length(&mut self, ino: Ino, length: u64) -> Result<(), Fault> {
        let to = to_size(length);
        self.change(ino, |bytes| {
            let length = bytes.len();
            let old = bytes[to.min(length)..].to_vec();
            bytes.resize(to, 0);
            FileUndo { offset: to.min(length), old, length, written: 0 }
        })
    }

    /// Lengthens the file with zeros to at least `length`.
    pub(super) fn extend(&mut self, ino: Ino, length: u64) -> Result<(), Fault> {
        if self.stat(ino)?.size < length { self.set_length(ino, length) } else { Ok(()) }
    }

    // Keeping and losing.

    /// Makes durable what was done to this file, or to this directory's names,
    /// up to `until`.
    pub(super) fn sync(&mut self, ino: Ino, until: Mark) {
        let Some(inode) = self.inodes.get_mut(&ino) else { return };
        match &mut inode.body {
            Body::File { undo, .. } => undo.retain(|(mark, _)| *mark > until),
            Body::Directory { undo, .. } => {
                undo.retain(|(mark, _)| *mark > until);
                self.forget_unreachable();
            }
        }
    }

    /// The power fails. No process has anything open afterwards.
    pub(super) fn lose(&mut self, loss: Loss, random: &mut StdRng) -> Lost {
        let mut lost = Lost::default();
        for inode in self.inodes.values_mut() {
            inode.open = 0;
            match &mut inode.body {
                Body::File { bytes, undo } => {
                    lose_writes(bytes, std::mem::take(undo), loss, random, &mut lost);
                }
                Body::Directory { names, undo, .. } => {
                    let undo = std::mem::take(undo);
                    let kept = keep(undo.len(), loss, random);
                    for (_, changes) in undo.into_iter().skip(kept).rev() {
                        lost.names += 1;
                        changes.into_iter().rev().for_each(|(name, ino)| put(names, name, ino));
                    }
                }
            }
        }
        self.forget_unreachable();
        lost
    }

    fn add(&mut self, parent: Ino, name: &OsStr, body: Body) -> Result<Ino, Fault> {
        if self.names(parent)?.1.contains_key(name) {
            return Err(Fault::Exists);
        }
        let ino = self.next_ino;
        self.next_ino += 1;
        self.inodes.insert(ino, Inode { body, open: 0 });
        self.rename_within(parent, vec![(name.to_owned(), Some(ino))])?;
        Ok(ino)
    }

    /// Changes names of one directory, all or none.
    fn rename_within(
        &mut self,
        directory: Ino,
        changes: Vec<(OsString, Option<Ino>)>,
    ) -> Result<(), Fault> {
        let mark = self.next_mark();
        match self.inodes.get_mut(&directory).map(|inode| &mut inode.body) {
            Some(Body::Directory { names, undo, .. }) => {
                let before =
                    changes.iter().map(|(name, _)| (name.clone(), names.get(name).copied()));
                undo.push((mark, before.collect()));
                changes.into_iter().for_each(|(name, ino)| put(names, name, ino));
                Ok(())
            }
            Some(Body::File { .. }) => Err(Fault::NotADirectory),
            None => Err(Fault::NotFound),
        }
    }

    fn change(
        &mut self,
        ino: Ino,
        change: impl FnOnce(&mut Vec<u8>) -> FileUndo,
    ) -> Result<(), Fault> {
        let mark = self.next_mark();
        match self.inodes.get_mut(&ino).map(|inode| &mut inode.body) {
            Some(Body::File { bytes, undo }) => {
                let back = change(bytes);
                undo.push((mark, back));
                Ok(())
            }
            Some(Body::Directory { .. }) => Err(Fault::IsADirectory),
            None => Err(Fault::NotFound),
        }
    }

    fn next_mark(&mut self) -> Mark {
        self.changes += 1;
        self.mark()
    }

    fn links(&self, ino: Ino) -> u32 {
        let named = self.inodes.values().filter_map(|inode| match &inode.body {
            Body::Directory { names, .. } => Some(names.values()),
            Body::File { .. } => None,
        });
        named.flatten().filter(|named| **named == ino).count() as u32
    }

    /// Frees what nothing names, nothing could name again, and nobody has open.
    fn forget_unreachable(&mut self) {
        let mut reachable = BTreeSet::from([ROOT]);
        for inode in self.inodes.values() {
            if let Body::Directory { names, undo, .. } = &inode.body {
                reachable.extend(names.values());
                let named = undo.iter().flat_map(|(_, changes)| changes);
                reachable.extend(named.filter_map(|(_, ino)| *ino));
            }
        }
        self.inodes.retain(|ino, inode| inode.open > 0 || reachable.contains(ino));
    }
}

impl Body {
    fn directory(parent: Ino) -> Self {
        Self::Directory { parent, names: BTreeMap::new(), undo: Vec::new() }
    }
}

fn lose_writes(
    bytes: &mut Vec<u8>,
    undo: Vec<(Mark, FileUndo)>,
    loss: Loss,
    random: &mut StdRng,
    lost: &mut Lost,
) {
    let kept = keep(undo.len(), loss, random);
    let first_lost = undo.len() - kept;
    for (nth, (_, change)) in undo.into_iter().skip(kept).rev().enumerate() {
        let is_first_lost = nth + 1 == first_lost;
        let stays = match loss {
            Loss::Torn if is_first_lost && change.written > 0 => {
                random.random_range(0..change.written)
            }
            _ => 0,
        };
        lost.writes += 1;
        lost.bytes += (change.written - stays) as u64;
        lost.torn += u64::from(stays > 0);
        let reached = if stays > 0 { change.offset + stays } else { 0 };
        bytes.resize(change.length.max(reached), 0);
        if let Some(old) = change.old.get(stays..) {
            let from = change.offset + stays;
            bytes[from..from + old.len()].copy_from_slice(old);
        }
    }
}

/// How many of `changes` unsynced changes stay.
fn keep(changes: usize, loss: Loss, random: &mut StdRng) -> usize {
    match loss {
        Loss::Everything => 0,
        Loss::Torn => random.random_range(0..=changes),
    }
}

fn put(names: &mut BTreeMap<OsString, Ino>, name: OsString, ino: Option<Ino>) {
    match ino {
        Some(ino) => names.insert(name, ino),
        None => names.remove(&name),
    };
}

/// Offsets fit: the machines this runs on are 64-bit.
fn to_size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

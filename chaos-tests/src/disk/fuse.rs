//! The disk as the kernel sees it: FUSE requests in, [`Image`] operations out.
//!
//! Writes reach the image before write(2) returns (no write-back cache), so a
//! killed process has handed over exactly what it wrote. Locks are the
//! kernel's own, and end with the process.

use std::ffi::OsStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::image::{Fault, Image, Ino, Stat};
use super::{Power, Shared};

/// Every change comes through the kernel that caches, so its cache cannot go stale.
const CACHED: Duration = Duration::from_secs(3600);
const BLOCK_BYTES: u32 = 4096;
/// What the disk claims to have free, in blocks: 64 GiB.
const BLOCKS: u64 = 16 << 20;
const NAME_BYTES_MAX: u32 = 255;
const NO_HANDLE: FileHandle = FileHandle(0);

/// fallocate(2): allocate without changing the length.
const KEEP_SIZE: i32 = 1;

/// Serves one mounted disk.
pub(super) struct Server {
    shared: Arc<Shared>,
}

impl Server {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn image(&self) -> MutexGuard<'_, Image> {
        self.shared.image.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sync keeps what was written before it began, once it has taken its time.
    fn sync(&self, ino: INodeNo, reply: ReplyEmpty) {
        let began = self.image().mark();
        self.shared.syncing.fetch_add(1, Ordering::Relaxed);
        if !self.shared.sync_time.is_zero() {
            std::thread::sleep(self.shared.sync_time);
        }
        self.shared.syncing.fetch_sub(1, Ordering::Relaxed);
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        let power = self.shared.power.lock().unwrap_or_else(PoisonError::into_inner);
        let is_failing = |power: &mut Power| *power == Power::Failing;
        // Held until the sync has taken effect, so that it does so before a power cut or not at all.
        let power = self
            .shared
            .power_changed
            .wait_while(power, is_failing)
            .unwrap_or_else(PoisonError::into_inner);
        if *power == Power::Off {
            return reply.error(Errno::EIO);
        }
        if !self.shared.ignores_syncs.load(Ordering::Relaxed) {
            self.image().sync(ino.0, began);
        }
        drop(power);
        reply.ok();
    }
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let image = self.image();
        let found = image.lookup(parent.0, name);
        answer_entry(reply, found.and_then(|ino| attr(&image, ino)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attr(reply, attr(&self.image(), ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut image = self.image();
        let done = size.map_or(Ok(()), |size| image.set_length(ino.0, size));
        answer_attr(reply, done.and_then(|()| attr(&image, ino.0)));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let mut image = self.image();
        let made = image.make_directory(parent.0, name);
        answer_entry(reply, made.and_then(|ino| attr(&image, ino)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.image().unlink(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.image().remove_directory(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        answer(reply, self.image().rename(parent.0, name, new_parent.0, new_name));
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let mut image = self.image();
        let linked = image.link(ino.0, new_parent.0, new_name);
        answer_entry(reply, linked.and_then(|()| attr(&image, ino.0)));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.image().open(ino.0) {
            Ok(()) => reply.opened(NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut image = self.image();
        let created = image.create(parent.0, name).and_then(|ino| {
            image.open(ino)?;
            attr(&image, ino)
        });
        match created {
            Ok(attr) => reply.created(
                &CACHED,
                &attr,
                Generation(0),
                NO_HANDLE,
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.image().close(ino.0);
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.image().read(ino.0, offset, size) {
            Ok(bytes) => reply.data(bytes),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.image().write(ino.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        match mode {
            0 => answer(reply, self.image().extend(ino.0, offset.saturating_add(length))),
            // Room is never short here, so reserving it is nothing to do.
            KEEP_SIZE => reply.ok(),
            _ => reply.error(Errno::EOPNOTSUPP),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Closing a file does not sync it.
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.sync(ino, reply);
    }

    fn fsyncdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.sync(ino, reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let image = self.image();
        let (parent, names) = match image.names(ino.0) {
            Ok(found) => found,
            Err(fault) => return reply.error(errno(fault)),
        };
        let dots = [(ino.0, OsStr::new(".")), (parent, OsStr::new(".."))];
        let named = names.iter().map(|(name, ino)| (*ino, name.as_os_str()));
        for (place, (ino, name)) in dots.into_iter().chain(named).enumerate().skip(offset as usize)
        {
            let kind = image.stat(ino).map_or(FileType::RegularFile, kind);
            if reply.add(INodeNo(ino), place as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let files = u64::from(u32::MAX);
        reply.statfs(
            BLOCKS,
            BLOCKS,
            BLOCKS,
            files,
            files,
            BLOCK_BYTES,
            NAME_BYTES_MAX,
            BLOCK_BYTES,
        );
    }
}

fn attr(image: &Image, ino: Ino) -> Result<FileAttr, Fault> {
    let stat = image.stat(ino)?;
    Ok(FileAttr {
        ino: INodeNo(ino),
        size: stat.size,
        blocks: stat.size.div_ceil(512),
        // Nothing under test looks at times, and none are kept.
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: kind(stat),
        perm: if stat.directory { 0o700 } else { 0o600 },
        nlink: stat.links,
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    })
}

fn kind(stat: Stat) -> FileType {
    if stat.directory { FileType::Directory } else { FileType::RegularFile }
}

fn answer(reply: ReplyEmpty, result: Result<(), Fault>) {
    match result {
        Ok(()) => reply.ok(),
        Err(fault) => reply.error(errno(fault)),
    }
}

fn answer_entry(reply: ReplyEntry, result: Result<FileAttr, Fault>) {
    match result {
        Ok(attr) => reply.entry(&CACHED, &attr, Generation(0)),
        Err(fault) => reply.error(errno(fault)),
    }
}

fn answer_attr(reply: ReplyAttr, result: Result<FileAttr, Fault>) {
    match result {
        Ok(attr) => reply.attr(&CACHED, &attr),
        Err(fault) => reply.error(errno(fault)),
    }
}

fn errno(fault: Fault) -> Errno {
    match fault {
        Fault::NotFound => Errno::ENOENT,
        Fault::Exists => Errno::EEXIST,
        Fault::NotEmpty => Errno::ENOTEMPTY,
        Fault::NotADirectory => Errno::ENOTDIR,
        Fault::IsADirectory => Errno::EISDIR,
    }
}

//! A file system in memory that can lose power and fail on demand, the same way for the same seed.
//!
//! Each file has *durable* bytes, which a power cut leaves alone, and the changes since its last successful
//! [`VfsFile::sync_data`]. Each directory likewise has durable names and changes since its last [`Vfs::sync_dir`]; that a
//! file was synced says nothing about its name. [`SimVfs::crash`] is the power cut: of each file's and each directory's
//! pending changes a random number survives, first ones first, and the first write that did not survive may leave a
//! part of itself. All handles are dead afterwards and the next engine starts from what is left.
//!
//! Operations are counted from 0. [`SimVfs::inject`] makes one of them, or all from one on, fail; reading counts as well,
//! so a sweep over [`SimVfs::operations`] meets every place where an engine touches a file.
//!
//! Copies are cheap: [`SimVfs::fork`] shares files, contents and names with its original until one of the two changes them. So
//! sweeps can afford a file system of its own for each of a million cases.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;

use bytes::Bytes;

use crate::{DirEntry, Metadata, Result, Vfs, VfsError, VfsFile, VfsLock};

/// What goes wrong with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Input/output error; nothing is done. A failed sync also drops the changes it should have made durable: they can
    /// be read until the next crash and are never made durable.
    Io,
    /// No space left on device. Of a write, nothing is done; operations that need no space are not affected.
    NoSpace,
    /// A write writes half of its bytes and then finds no space; operations that need no space are not affected.
    ShortWrite,
    /// Too many open files, for operations that open one; others are not affected.
    TooManyFiles,
    /// The power is off: nothing is done, and nothing works until [`SimVfs::crash`].
    PowerOff,
}

/// Which operations fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    first: u64,
    count: u64,
    fault: Fault,
}

/// See [`SimVfs::watch`].
#[derive(Clone)]
struct Watcher(Arc<Watch>);

/// What [`SimVfs::watch`] calls: with the file system, the verb of the operation and its path.
type Watch = dyn Fn(&SimVfs, &'static str, &Path) + Send + Sync;

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

/// Operations that change nothing that a crash could show.
const READING: [&str; 7] = ["open", "read", "map", "stat", "stat file system of", "read directory", "allocate"];

/// The file system. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct SimVfs(Arc<Mutex<State>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Dir,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Truncate { len: u64 },
}

/// Contents of a file, shared until they are changed.
type Contents = Arc<Vec<u8>>;

/// What [`SimVfs::map`] gives: contents as they were.
struct Mapped(Contents);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Contents,
    current: Contents,
    pending: Vec<Change>,
    /// Reserved by [`VfsFile::allocate`]: counts as used, as far as it is more than the length.
    allocated: u64,
}

impl Inode {
    /// Bytes that it takes on the disk.
    fn used(&self) -> u64 {
        self.allocated.max(self.current.len() as u64)
    }

    /// Makes a change that a crash may undo.
    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// A tree of names, by full path. The root `/` is always there.
type Tree = BTreeMap<PathBuf, Node>;

#[derive(Debug)]
struct State {
    inodes: Vec<Arc<Inode>>,
    current: Arc<Tree>,
    durable: Arc<Tree>,
    /// By directory, oldest first. A rename belongs to the directory of the new name.
    pending: BTreeMap<PathBuf, Vec<NameChange>>,
    locked: BTreeSet<PathBuf>,
    plan: Option<Plan>,
    operations: u64,
    capacity: Option<u64>,
    watcher: Option<Watcher>,
    /// Counts crashes; handles of earlier lives are dead.
    life: u64,
    random: u64,
}

impl SimVfs {
    /// An empty file system. The seed decides what crashes leave.
    pub fn new(seed: u64) -> SimVfs {
        SimVfs(Arc::new(Mutex::new(State {
            inodes: Vec::new(),
            current: Arc::new(Tree::from([(PathBuf::from("/"), Node::Dir)])),
            durable: Arc::new(Tree::from([(PathBuf::from("/"), Node::Dir)])),
            pending: BTreeMap::new(),
            locked: BTreeSet::new(),
            plan: None,
            operations: 0,
            capacity: None,
            watcher: None,
            life: 0,
            random: seed,
        })))
    }

    /// An independent copy of everything as it is now, with another seed.
    pub fn fork(&self, seed: u64) -> SimVfs {
        let s = self.0.lock();
        SimVfs(Arc::new(Mutex::new(State {
            inodes: s.inodes.clone(),
            current: Arc::clone(&s.current),
            durable: Arc::clone(&s.durable),
            pending: s.pending.clone(),
            locked: BTreeSet::new(),
            plan: None,
            operations: s.operations,
            capacity: s.capacity,
            watcher: None,
            life: s.life,
            random: seed,
        })))
    }

    /// How many operations there were so far.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Makes `count` operations fail, from number `first` on. `u64::MAX` means for ever. Replaces an earlier plan.
    pub fn inject(&self, first: u64, count: u64, fault: Fault) {
        self.0.lock().plan = Some(Plan { first, count, fault });
    }

    /// Calls `watch` before every operation that changes something. It may fork the file system, and let the fork crash:
    /// that is how a single run meets a crash before each of its operations. Forks are not watched.
    pub fn watch(&self, watch: impl Fn(&SimVfs, &'static str, &Path) + Send + Sync + 'static) {
        self.0.lock().watcher = Some(Watcher(Arc::new(watch)));
    }

    /// The paths of all files, ascending. Not counted as an operation.
    pub fn files(&self) -> Vec<PathBuf> {
        let s = self.0.lock();
        s.current.iter().filter(|(_, node)| matches!(node, Node::File(_))).map(|(path, _)| path.clone()).collect()
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.0.lock().plan = None;
    }

    /// Lets files have at most `bytes` together; `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity = bytes;
    }

    /// Cuts the power and starts again with what is left. Faults are healed.
    pub fn crash(&self) {
        self.0.lock().crash();
    }

    /// The process dies and the system stays: all that was written is still there, locks are free, handles are dead.
    pub fn kill(&self) {
        self.0.lock().restart();
    }

    /// Puts a file there as if it had always been there, or replaces one; makes directories as needed. Not counted as an
    /// operation and never failing, for tests that prepare or damage files.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let s = &mut *self.0.lock();
        let contents = Arc::new(bytes.to_vec());
        let node = s.add(Inode { durable: Arc::clone(&contents), current: contents, ..Inode::default() });
        for tree in [&mut s.current, &mut s.durable] {
            let tree = Arc::make_mut(tree);
            for dir in path.ancestors().skip(1) {
                tree.insert(dir.to_owned(), Node::Dir);
            }
            tree.insert(path.to_owned(), node);
        }
    }

    /// The present contents of a file, not counted as an operation; `None` if there is no such file.
    pub fn get(&self, path: &Path) -> Option<Vec<u8>> {
        let s = self.0.lock();
        match s.current.get(path)? {
            Node::File(inode) => Some(s.inodes[*inode].current.to_vec()),
            Node::Dir => None,
        }
    }

    fn op<T>(&self, op: &'static str, path: &Path, run: impl FnOnce(&mut State) -> io::Result<T>) -> Result<T> {
        let mut s = self.0.lock();
        if !READING.contains(&op)
            && let Some(Watcher(watch)) = s.watcher.clone()
        {
            drop(s);
            watch(self, op, path);
            s = self.0.lock();
        }
        let result = match s.next_fault() {
            Some(Fault::Io | Fault::PowerOff) => Err(Errno::IO.into()),
            Some(Fault::TooManyFiles)
                if matches!(op, "open" | "create" | "read directory" | "lock" | "sync directory") =>
            {
                Err(Errno::MFILE.into())
            }
            Some(Fault::NoSpace | Fault::ShortWrite) if matches!(op, "create" | "create directory" | "link") => {
                Err(Errno::NOSPC.into())
            }
            _ => run(&mut s),
        };
        result.map_err(|e| VfsError::new(op, path, e))
    }
}

impl Change {
    fn apply(&self, contents: &mut Contents) {
        let bytes = Arc::make_mut(contents);
        match self {
            Change::Write { offset, bytes: new } => {
                let (start, end) = (*offset as usize, *offset as usize + new.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(new);
            }
            Change::Truncate { len } => bytes.resize(*len as usize, 0),
        }
    }
}

impl NameChange {
    /// Applies to a tree from which names may be missing, because changes of other directories are not durable (yet).
    fn apply(&self, tree: &mut Arc<Tree>) {
        let tree = Arc::make_mut(tree);
        match self {
            NameChange::Add(path, node) => {
                tree.insert(path.clone(), *node);
            }
            NameChange::Remove(path) => {
                let below = subtree(tree, path);
                tree.remove(path);
                for path in below {
                    tree.remove(&path);
                }
            }
            NameChange::Rename(from, to) => {
                for path in subtree(tree, from) {
                    let node = tree.remove(&path).expect("listed just now");
                    tree.insert(to.join(path.strip_prefix(from).expect("below it")), node);
                }
                if let Some(node) = tree.remove(from) {
                    tree.insert(to.clone(), node);
                }
            }
        }
    }
}

/// The paths below `path`, which itself is not listed.
fn subtree(tree: &Tree, path: &Path) -> Vec<PathBuf> {
    let after = (Bound::Excluded(path.to_owned()), Bound::Unbounded);
    tree.range::<PathBuf, _>(after).map(|(p, _)| p).take_while(|p| p.starts_with(path)).cloned().collect()
}

impl State {
    fn next_fault(&mut self) -> Option<Fault> {
        let number = self.operations;
        self.operations += 1;
        let plan = self.plan?;
        let hit = number >= plan.first && number - plan.first < plan.count;
        if hit && plan.fault == Fault::PowerOff {
            self.plan = Some(Plan { first: number, count: u64::MAX, fault: Fault::PowerOff });
        }
        hit.then_some(plan.fault)
    }

    /// SplitMix64: small, and good enough to choose survivors.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of 0 to `max`, the ends more often than the rest because most mistakes show there.
    fn survivors(&mut self, max: usize) -> usize {
        match self.random() % 4 {
            0 => 0,
            1 => max,
            _ => (self.random() % (max as u64 + 1)) as usize,
        }
    }

    fn crash(&mut self) {
        for i in 0..self.inodes.len() {
            // Nothing is lost of most files, and they stay shared.
            if self.inodes[i].pending.is_empty() && Arc::ptr_eq(&self.inodes[i].current, &self.inodes[i].durable) {
                continue;
            }
            let pending = std::mem::take(&mut self.inode(i).pending);
            if !pending.is_empty() {
                let whole = self.survivors(pending.len());
                for change in &pending[..whole] {
                    change.apply(&mut self.inode(i).durable);
                }
                if let Some(Change::Write { offset, bytes }) = pending.get(whole) {
                    let torn = self.survivors(bytes.len());
                    Change::Write { offset: *offset, bytes: bytes[..torn].to_vec() }.apply(&mut self.inode(i).durable);
                }
            }
            let inode = self.inode(i);
            inode.current = Arc::clone(&inode.durable);
        }
        for (_, changes) in std::mem::take(&mut self.pending) {
            let survivors = self.survivors(changes.len());
            for change in &changes[..survivors] {
                change.apply(&mut self.durable);
            }
        }
        // A name below a directory whose own name was lost cannot be reached. Parents come before what is below them.
        let lost = |tree: &Tree, path: &Path| path.parent().is_some_and(|p| tree.get(p) != Some(&Node::Dir));
        if self.durable.keys().any(|path| lost(&self.durable, path)) {
            let mut reached = Tree::new();
            for (path, node) in self.durable.iter() {
                if !lost(&reached, path) {
                    reached.insert(path.clone(), *node);
                }
            }
            self.durable = Arc::new(reached);
        }
        self.current = Arc::clone(&self.durable);
        self.restart();
    }

    fn restart(&mut self) {
        self.locked.clear();
        self.plan = None;
        self.life += 1;
    }

    /// An inode, to be changed.
    fn inode(&mut self, number: usize) -> &mut Inode {
        Arc::make_mut(&mut self.inodes[number])
    }

    /// Adds an inode, whose node this is.
    fn add(&mut self, inode: Inode) -> Node {
        self.inodes.push(Arc::new(inode));
        Node::File(self.inodes.len() - 1)
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.current);
        let (NameChange::Add(path, _) | NameChange::Remove(path) | NameChange::Rename(_, path)) = &change;
        self.pending.entry(super::parent(path).to_owned()).or_default().push(change);
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.current.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(Errno::ISDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    fn dir(&self, path: &Path) -> io::Result<()> {
        match self.current.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// Bytes that can still be written.
    fn free(&self) -> u64 {
        let Some(capacity) = self.capacity else { return u64::MAX };
        let files: BTreeSet<usize> = self
            .current
            .values()
            .filter_map(|node| match node {
                Node::File(inode) => Some(*inode),
                Node::Dir => None,
            })
            .collect();
        capacity.saturating_sub(files.iter().map(|i| self.inodes[*i].used()).sum())
    }
}

impl SimVfs {
    fn handle(&self, path: &Path, s: &State, inode: usize, writable: bool) -> Box<dyn VfsFile> {
        Box::new(SimFile { vfs: self.clone(), path: path.to_owned(), inode, writable, life: s.life })
    }
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path) -> Result<Box<dyn VfsFile>> {
        self.op("open", path, |s| Ok(self.handle(path, s, s.file(path)?, false)))
    }

    fn open_rw(&self, path: &Path) -> Result<Box<dyn VfsFile>> {
        self.op("open", path, |s| Ok(self.handle(path, s, s.file(path)?, true)))
    }

    fn map(&self, path: &Path) -> Result<Bytes> {
        self.op("map", path, |s| Ok(Bytes::from_owner(Mapped(Arc::clone(&s.inodes[s.file(path)?].current)))))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn VfsFile>> {
        self.op("create", path, |s| {
            s.dir(super::parent(path))?;
            let inode = match s.current.get(path) {
                Some(Node::Dir) => return Err(Errno::ISDIR.into()),
                Some(Node::File(inode)) => {
                    let inode = *inode;
                    s.inode(inode).change(Change::Truncate { len: 0 });
                    inode
                }
                None => {
                    let node = s.add(Inode::default());
                    s.change_names(NameChange::Add(path.to_owned(), node));
                    s.inodes.len() - 1
                }
            };
            Ok(self.handle(path, s, inode, true))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.op("rename", from, |s| {
            s.dir(super::parent(to))?;
            match (s.current.get(from), s.current.get(to)) {
                (None, _) => Err(Errno::NOENT.into()),
                (Some(Node::Dir), Some(_)) | (Some(Node::File(_)), Some(Node::Dir)) => Err(Errno::EXIST.into()),
                _ => {
                    s.change_names(NameChange::Rename(from.to_owned(), to.to_owned()));
                    Ok(())
                }
            }
        })
    }

    fn hard_link(&self, file: &Path, link: &Path) -> Result<()> {
        self.op("link", link, |s| {
            s.dir(super::parent(link))?;
            let inode = s.file(file)?;
            if s.current.contains_key(link) {
                return Err(Errno::EXIST.into());
            }
            s.change_names(NameChange::Add(link.to_owned(), Node::File(inode)));
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.op("remove", path, |s| {
            s.file(path)?;
            s.change_names(NameChange::Remove(path.to_owned()));
            Ok(())
        })
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.op("create directory", path, |s| {
            s.dir(super::parent(path))?;
            match s.current.get(path) {
                Some(Node::Dir) => Ok(()),
                Some(Node::File(_)) => Err(Errno::EXIST.into()),
                None => {
                    s.change_names(NameChange::Add(path.to_owned(), Node::Dir));
                    Ok(())
                }
            }
        })
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.op("remove directory", path, |s| {
            s.dir(path)?;
            if !subtree(&s.current, path).is_empty() {
                return Err(Errno::NOTEMPTY.into());
            }
            s.change_names(NameChange::Remove(path.to_owned()));
            Ok(())
        })
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.op("read directory", path, |s| {
            s.dir(path)?;
            let mut entries = Vec::new();
            for below in subtree(&s.current, path).iter().filter(|p| p.parent() == Some(path)) {
                let name = below.file_name().unwrap_or_default().to_string_lossy().into_owned();
                entries.push(DirEntry { name, is_dir: s.current[below] == Node::Dir });
            }
            entries.sort();
            Ok(entries)
        })
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        self.op("stat", path, |s| {
            Ok(s.current.get(path).map(|node| match node {
                Node::File(inode) => Metadata { len: s.inodes[*inode].current.len() as u64, is_dir: false },
                Node::Dir => Metadata { len: 0, is_dir: true },
            }))
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.op("sync directory", path, |s| {
            s.dir(path)?;
            for change in s.pending.remove(path).unwrap_or_default() {
                change.apply(&mut s.durable);
            }
            Ok(())
        })
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        self.op("stat file system of", path, |s| Ok(s.free()))
    }

    fn total_bytes(&self, path: &Path) -> Result<u64> {
        self.op("stat file system of", path, |s| Ok(s.capacity.unwrap_or(u64::MAX)))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn VfsLock>> {
        self.op("lock", path, |s| {
            s.dir(super::parent(path))?;
            if s.locked.contains(path) {
                return Err(Errno::WOULDBLOCK.into());
            }
            let existed = s.file(path).is_ok();
            if !existed {
                let node = s.add(Inode::default());
                s.change_names(NameChange::Add(path.to_owned(), node));
            }
            s.locked.insert(path.to_owned());
            Ok(Box::new(SimLock { vfs: self.clone(), path: path.to_owned(), existed, life: s.life })
                as Box<dyn VfsLock>)
        })
    }
}

#[derive(Debug)]
struct SimFile {
    vfs: SimVfs,
    path: PathBuf,
    inode: usize,
    writable: bool,
    life: u64,
}

impl SimFile {
    fn op<T>(&self, op: &'static str, run: impl FnOnce(&mut State) -> io::Result<T>) -> Result<T> {
        self.vfs.op(op, &self.path, |s| if s.life == self.life { run(s) } else { Err(Errno::BADF.into()) })
    }

    /// As [`SimFile::op`], for changes.
    fn change<T>(&self, op: &'static str, run: impl FnOnce(&mut State) -> io::Result<T>) -> Result<T> {
        self.op(op, |s| if self.writable { run(s) } else { Err(Errno::BADF.into()) })
    }
}

impl VfsFile for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64> {
        self.op("stat", |s| Ok(s.inodes[self.inode].current.len() as u64))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.op("read", |s| {
            let bytes = s.inodes[self.inode].current.get(offset as usize..).unwrap_or_default();
            let n = bytes.len().min(buf.len());
            buf[..n].copy_from_slice(&bytes[..n]);
            Ok(n)
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.change("write", |s| {
            let planned = s.plan.filter(|p| s.operations > p.first && s.operations - 1 - p.first < p.count);
            let growth = (offset + buf.len() as u64).saturating_sub(s.inodes[self.inode].used());
            let missing = growth.saturating_sub(s.free()) as usize;
            let written = match planned.map(|p| p.fault) {
                Some(Fault::NoSpace) => 0,
                Some(Fault::ShortWrite) => buf.len() / 2,
                _ => buf.len().saturating_sub(missing),
            };
            let change = Change::Write { offset, bytes: buf[..written].to_vec() };
            if written > 0 {
                s.inode(self.inode).change(change);
            }
            if written < buf.len() { Err(Errno::NOSPC.into()) } else { Ok(()) }
        })
    }

    fn truncate(&self, len: u64) -> Result<()> {
        self.change("truncate", |s| {
            let inode = s.inode(self.inode);
            inode.allocated = 0;
            inode.change(Change::Truncate { len });
            Ok(())
        })
    }

    fn sync_data(&self) -> Result<()> {
        let mut reached = false;
        let result = self.op("sync", |s| {
            reached = true;
            let inode = s.inode(self.inode);
            for change in std::mem::take(&mut inode.pending) {
                change.apply(&mut inode.durable);
            }
            Ok(())
        });
        if !reached {
            let mut s = self.vfs.0.lock();
            // Without power nothing is decided yet: the crash chooses what survives.
            if s.life == self.life && s.plan.is_none_or(|p| p.fault != Fault::PowerOff) {
                s.inode(self.inode).pending.clear();
            }
        }
        result
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.change("allocate", |s| {
            let growth = len.saturating_sub(s.inodes[self.inode].used());
            if growth > s.free() {
                return Err(Errno::NOSPC.into());
            }
            let inode = s.inode(self.inode);
            inode.allocated = inode.allocated.max(len);
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SimLock {
    vfs: SimVfs,
    path: PathBuf,
    existed: bool,
    life: u64,
}

impl VfsLock for SimLock {
    fn existed(&self) -> bool {
        self.existed
    }

    fn release(self: Box<Self>) -> Result<()> {
        self.vfs.op("remove", &self.path, |s| {
            if s.life != self.life {
                return Err(Errno::BADF.into());
            }
            s.file(&self.path)?;
            s.change_names(NameChange::Remove(self.path.clone()));
            Ok(())
        })
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut s = self.vfs.0.lock();
        if s.life == self.life {
            s.locked.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(seed: u64) -> (SimVfs, Box<dyn VfsFile>) {
        let vfs = SimVfs::new(seed);
        let file = vfs.create(Path::new("/a")).expect("create");
        vfs.sync_dir(Path::new("/")).expect("sync directory");
        (vfs, file)
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_survives_as_a_prefix() {
        let mut lengths = BTreeSet::new();
        for seed in 0..200 {
            let (vfs, file) = start(seed);
            file.write_at(b"durable", 0).expect("write");
            file.sync_data().expect("sync");
            file.write_at(b"one", 7).expect("write");
            file.write_at(b"two", 10).expect("write");
            vfs.crash();
            assert!(file.len().is_err(), "a handle from before the crash");
            let left = vfs.get(Path::new("/a")).expect("the name was synced");
            assert!(b"durableonetwo".starts_with(&left) && left.len() >= 7, "{seed}: {left:?}");
            lengths.insert(left.len());
        }
        assert_eq!(lengths.len(), 7, "every torn length is met: {lengths:?}");
    }

    #[test]
    fn names_survive_only_when_their_directory_was_synced() {
        let outcomes: BTreeSet<(bool, bool)> = (0..100)
            .map(|seed| {
                let vfs = SimVfs::new(seed);
                vfs.create(Path::new("/a")).expect("create").sync_data().expect("sync");
                vfs.create(Path::new("/b")).expect("create");
                vfs.crash();
                (vfs.get(Path::new("/a")).is_some(), vfs.get(Path::new("/b")).is_some())
            })
            .collect();
        assert_eq!(outcomes, BTreeSet::from([(false, false), (true, false), (true, true)]));
    }

    #[test]
    fn a_rename_is_undone_or_done_but_never_half() {
        let outcomes: BTreeSet<_> = (0..50)
            .map(|seed| {
                let (vfs, file) = start(seed);
                file.write_at(b"old", 0).expect("write");
                file.sync_data().expect("sync");
                super::super::write_file_atomic(&vfs, Path::new("/b"), b"new").expect("write");
                vfs.rename(Path::new("/b"), Path::new("/a")).expect("rename");
                vfs.crash();
                (vfs.get(Path::new("/a")), vfs.get(Path::new("/b")))
            })
            .collect();
        let expected = [(Some(b"new".to_vec()), None), (Some(b"old".to_vec()), Some(b"new".to_vec()))];
        assert_eq!(outcomes, BTreeSet::from(expected));
    }

    #[test]
    fn a_failed_sync_loses_what_it_should_have_kept() {
        let (vfs, file) = start(3);
        file.write_at(b"lost", 0).expect("write");
        vfs.inject(vfs.operations(), 1, Fault::Io);
        assert!(file.sync_data().is_err());
        assert_eq!(vfs.get(Path::new("/a")).expect("file"), b"lost", "still readable");
        file.sync_data().expect("the second sync has nothing to do and succeeds");
        vfs.crash();
        assert_eq!(vfs.get(Path::new("/a")).expect("file"), b"");
    }

    #[test]
    fn space_runs_out_in_the_middle_of_a_write() {
        let (vfs, file) = start(3);
        vfs.set_capacity(Some(5));
        assert_eq!(vfs.free_bytes(Path::new("/")).expect("free"), 5);
        assert!(file.write_at(b"1234567", 0).expect_err("full").is_no_space());
        assert_eq!(vfs.get(Path::new("/a")).expect("file"), b"12345");
        assert!(file.allocate(6).expect_err("full").is_no_space());
        file.truncate(1).expect("truncate");
        file.allocate(4).expect("room");
        assert_eq!((vfs.free_bytes(Path::new("/")).expect("free"), file.len().expect("length")), (1, 1));
        file.write_at(b"xyz", 1).expect("reserved");
        assert_eq!(vfs.free_bytes(Path::new("/")).expect("free"), 1);
        file.truncate(1).expect("the reserve is given back as well");
        file.write_at(b"xy", 1).expect("there is room again");
        vfs.set_capacity(None);
        vfs.inject(vfs.operations(), 1, Fault::ShortWrite);
        assert!(file.write_at(b"abcd", 3).expect_err("short").is_no_space());
        assert_eq!(vfs.get(Path::new("/a")).expect("file"), b"1xyab");
    }

    #[test]
    fn faults_hit_the_operations_they_are_meant_for() {
        let (vfs, file) = start(3);
        let first = vfs.operations() + 1;
        vfs.inject(first, 2, Fault::Io);
        assert!(file.len().is_ok());
        assert!(file.len().is_err());
        assert!(vfs.open(Path::new("/a")).is_err());
        assert!(file.len().is_ok());
        vfs.inject(vfs.operations(), u64::MAX, Fault::TooManyFiles);
        assert!(vfs.open(Path::new("/a")).is_err());
        assert!(file.write_at(b"x", 0).is_ok());
        vfs.inject(vfs.operations(), 1, Fault::PowerOff);
        assert!(file.len().is_err());
        assert!(file.len().is_err(), "the power stays off");
        vfs.crash();
        assert!(vfs.open(Path::new("/a")).is_ok());
    }

    #[test]
    fn a_watcher_sees_what_is_there_before_each_change() {
        let (vfs, file) = start(1);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        vfs.watch(move |vfs, op, path| {
            let fork = vfs.fork(9);
            fork.kill();
            log.lock().push((op, path.to_owned(), fork.get(Path::new("/a")).map(|b| b.len()), fork.files().len()));
        });
        file.write_at(b"abc", 0).expect("write");
        assert_eq!(file.len().expect("len"), 3);
        file.sync_data().expect("sync");
        vfs.rename(Path::new("/a"), Path::new("/b")).expect("rename");
        let a = || PathBuf::from("/a");
        let expected = [("write", a(), Some(0), 1), ("sync", a(), Some(3), 1), ("rename", a(), Some(3), 1)];
        assert_eq!(*seen.lock(), expected);
        assert_eq!(vfs.files(), [PathBuf::from("/b")]);
    }

    #[test]
    fn the_same_seed_leaves_the_same_bytes() {
        let run = |seed| {
            let (vfs, file) = start(seed);
            for i in 0..20 {
                file.write_at(&[i; 10], u64::from(i) * 10).expect("write");
            }
            vfs.crash();
            vfs.get(Path::new("/a")).expect("file")
        };
        assert_eq!(run(7), run(7));
        assert!((0..20).map(run).collect::<BTreeSet<_>>().len() > 5);
    }
}

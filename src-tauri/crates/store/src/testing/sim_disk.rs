//! A disk in memory that remembers what was synced, fails on demand and loses its power on demand.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{ALIGNMENT, Disk, DiskFile, Listed, Lock, Patience};

/// What goes wrong, and at which operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This one operation fails; a write does half of its work first.
    Once(usize),
    /// This one operation finds the disk full, a sync too; a write does half of its work first.
    Full(usize),
    /// This one write does half of its work and says so.
    Short(usize),
    /// From here on nothing reaches the disk.
    PowerCut(usize),
}

/// What a power cut leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftover {
    Nothing,
    Everything,
    /// Every second write of a file, the later ones too.
    EverySecond,
    /// All but the first write of a file: a hole.
    AllButTheFirst,
    /// Everything, the last write by half.
    Torn,
    /// The bytes, not the names.
    BytesOnly,
    /// The names, not the bytes.
    NamesOnly,
}

pub(crate) const LEFTOVERS: [Leftover; 7] = [
    Leftover::Nothing,
    Leftover::Everything,
    Leftover::EverySecond,
    Leftover::AllButTheFirst,
    Leftover::Torn,
    Leftover::BytesOnly,
    Leftover::NamesOnly,
];

/// What reads past the cache do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum DirectReads {
    #[default]
    Right,
    /// The file system has none.
    None,
    /// They do not give what was written.
    Wrong,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    n_ops: usize,
    fault: Option<Fault>,
    capacity: Option<u64>,
    is_read_only: bool,
    is_cold: bool,
    direct_reads: DirectReads,
    most_bytes: u64,
    now: u64,
}

/// The disk; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, bytes) => {
            let end = *offset as usize + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset as usize..end].copy_from_slice(bytes);
        }
        Change::Truncate(n_bytes) => content.resize(*n_bytes as usize, 0),
    }
}

/// What one operation meets.
enum Luck {
    Good,
    Half,
    HalfThenFail(io::ErrorKind),
}

impl State {
    fn used(&self) -> u64 {
        self.names
            .values()
            .map(|inode| (self.inodes[*inode].content.len() as u64).div_ceil(4096) * 4096)
            .sum()
    }

    fn step(&mut self, is_change: bool) -> io::Result<Luck> {
        let op = self.n_ops;
        self.n_ops += 1;
        if is_change && self.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        match self.fault {
            Some(Fault::Once(at)) if at == op => Ok(Luck::HalfThenFail(io::ErrorKind::Other)),
            Some(Fault::Full(at)) if at == op => Ok(Luck::HalfThenFail(io::ErrorKind::StorageFull)),
            Some(Fault::Short(at)) if at == op => Ok(Luck::Half),
            Some(Fault::PowerCut(at)) if op >= at => Err(io::Error::other("no power")),
            _ => Ok(Luck::Good),
        }
    }

    /// Write to a file, if there is room.
    fn put(&mut self, inode: usize, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        if self.capacity.is_some_and(|capacity| self.used() + bytes.len() as u64 > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let change = Change::Write(offset, bytes);
        let inode = &mut self.inodes[inode];
        apply(&mut inode.content, &change);
        inode.pending.push(change);
        self.most_bytes = self.most_bytes.max(self.used());
        Ok(())
    }

    /// An operation that happens or does not.
    fn whole_step(&mut self, is_change: bool) -> io::Result<()> {
        match self.step(is_change)? {
            Luck::HalfThenFail(kind) => Err(io::Error::new(kind, "an operation that fails once")),
            _ => Ok(()),
        }
    }
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// Bytes that the disk holds; `None` is no limit.
    pub(crate) fn set_capacity(&self, capacity: Option<u64>) {
        self.state().capacity = capacity;
    }

    /// Whether every read has to wait for the disk.
    pub(crate) fn set_cold(&self, is_cold: bool) {
        self.state().is_cold = is_cold;
    }

    pub(crate) fn set_direct_reads(&self, direct_reads: DirectReads) {
        self.state().direct_reads = direct_reads;
    }

    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        self.state().is_read_only = is_read_only;
    }

    pub(crate) fn set_now(&self, now: u64) {
        self.state().now = now;
    }

    pub(crate) fn n_ops(&self) -> usize {
        self.state().n_ops
    }

    /// The most that all files ever took together, in whole blocks.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.state().most_bytes
    }

    /// Names and contents as a reader sees them.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        state.names.iter().map(|(path, inode)| (path.clone(), state.inodes[*inode].content.clone())).collect()
    }

    /// A disk that holds these files, all durable.
    pub(crate) fn with_files(files: &BTreeMap<PathBuf, Vec<u8>>) -> SimDisk {
        let disk = SimDisk::default();
        {
            let mut state = disk.state();
            for (path, content) in files {
                let inode = Inode { content: content.clone(), durable: content.clone(), pending: Vec::new() };
                state.inodes.push(inode);
                let inode = state.inodes.len() - 1;
                state.names.insert(path.clone(), inode);
                state.durable_names.insert(path.clone(), inode);
            }
        }
        disk
    }

    /// What is there after the power comes back.
    pub(crate) fn after_power_cut(&self, leftover: Leftover) -> SimDisk {
        let state = self.state();
        let keeps_names = !matches!(leftover, Leftover::Nothing | Leftover::BytesOnly);
        let names = if keeps_names { &state.names } else { &state.durable_names };
        let content = |inode: &Inode| {
            let mut content = inode.durable.clone();
            let last = inode.pending.len().saturating_sub(1);
            for (idx, change) in inode.pending.iter().enumerate() {
                match (leftover, change) {
                    (Leftover::Nothing | Leftover::NamesOnly, _) => {}
                    (Leftover::EverySecond, _) if idx % 2 == 0 => {}
                    (Leftover::AllButTheFirst, _) if idx == 0 => {}
                    (Leftover::Torn, Change::Write(offset, bytes)) if idx == last => {
                        apply(&mut content, &Change::Write(*offset, bytes[..bytes.len() / 2].to_vec()));
                    }
                    _ => apply(&mut content, change),
                }
            }
            content
        };
        let files =
            names.iter().map(|(path, inode)| (path.clone(), content(&state.inodes[*inode]))).collect();
        SimDisk::with_files(&files)
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        self.state().whole_step(false)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let mut state = self.state();
        state.whole_step(false)?;
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let listed = |(path, inode): (&PathBuf, &usize)| {
            let n_bytes = state.inodes[*inode].content.len() as u64;
            Listed { name: name(path), n_bytes, allocated_bytes: n_bytes.div_ceil(4096) * 4096 }
        };
        Ok(inside.map(listed).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.whole_step(true)?;
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.names.insert(path.to_owned(), inode);
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if self.state().names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.whole_step(false)?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_step(true)?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_step(true)?;
        state.names.remove(path).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.whole_step(false)?;
        let State { names, durable_names, .. } = &mut *state;
        durable_names.retain(|path, _| path.parent() != Some(dir));
        let inside = names.iter().filter(|(path, _)| path.parent() == Some(dir));
        durable_names.extend(inside.map(|(path, inode)| (path.clone(), *inode)));
        Ok(())
    }

    fn lock(&self, _dir: &Path) -> io::Result<Box<dyn Lock>> {
        self.state().whole_step(false)?;
        Ok(Box::new(self.clone()))
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let mut state = self.state();
        state.whole_step(false)?;
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn now(&self) -> u64 {
        self.state().now
    }
}

/// Its directories are always there.
impl Lock for SimDisk {
    fn is_of(&self, _dir: &Path) -> io::Result<bool> {
        self.state().whole_step(false)?;
        Ok(true)
    }
}

impl DiskFile for SimFile {
    fn len_at(&self, path: &Path) -> io::Result<Option<u64>> {
        let mut state = self.disk.state();
        state.whole_step(false)?;
        let is_there = state.names.get(path) == Some(&self.inode);
        Ok(is_there.then(|| state.inodes[self.inode].content.len() as u64))
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.whole_step(false)?;
        Ok(state.inodes[self.inode].content.len() as u64)
    }

    fn read_at(
        &self,
        first: &mut [u8],
        second: &mut [u8],
        offset: u64,
        patience: Patience,
    ) -> io::Result<usize> {
        let mut state = self.disk.state();
        if patience == Patience::NoWait && state.is_cold {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.whole_step(false)?;
        let content = &state.inodes[self.inode].content;
        let rest = content.get(offset as usize..).unwrap_or_default();
        // One of the two a call: short reads are allowed, and have to be borne.
        let buffer = if first.is_empty() { second } else { first };
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn read_direct(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let lengths = [buffer.as_ptr() as usize, buffer.len(), offset as usize];
        assert!(lengths.iter().all(|length| length.is_multiple_of(ALIGNMENT)), "{lengths:?}");
        let direct_reads = self.disk.state().direct_reads;
        if direct_reads == DirectReads::None {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let n = self.read_at(buffer, &mut [], offset, Patience::Wait)?;
        if direct_reads == DirectReads::Wrong {
            buffer.iter_mut().step_by(100).for_each(|byte| *byte ^= 1);
        }
        Ok(n)
    }

    fn set_aside(&self, n_bytes: u64, offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let luck = state.step(true)?;
        let end = match luck {
            Luck::HalfThenFail(_) => offset + n_bytes / 2,
            _ => offset + n_bytes,
        };
        let n_new = end.saturating_sub(state.inodes[self.inode].content.len() as u64);
        state.put(self.inode, end - n_new, vec![0; n_new as usize])?;
        match luck {
            Luck::HalfThenFail(kind) => Err(io::Error::new(kind, "room that is found for one half")),
            _ => Ok(()),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let luck = state.step(true)?;
        let n = if matches!(luck, Luck::Good) { bytes.len() } else { bytes.len().div_ceil(2) };
        state.put(self.inode, offset, bytes[..n].to_vec())?;
        match luck {
            Luck::HalfThenFail(kind) => Err(io::Error::new(kind, "a write that fails half way")),
            _ => Ok(n),
        }
    }

    fn truncate(&self, n_bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.whole_step(true)?;
        let inode = &mut state.inodes[self.inode];
        apply(&mut inode.content, &Change::Truncate(n_bytes));
        inode.pending.push(Change::Truncate(n_bytes));
        Ok(())
    }

    /// A sync that fails loses what it was to make durable, and the next one says nothing of it.
    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let done = state.whole_step(false);
        let inode = &mut state.inodes[self.inode];
        if done.is_ok() {
            inode.durable = inode.content.clone();
            inode.pending.clear();
        } else if !matches!(state.fault, Some(Fault::PowerCut(_))) {
            let inode = &mut state.inodes[self.inode];
            inode.pending.clear();
        }
        done
    }
}

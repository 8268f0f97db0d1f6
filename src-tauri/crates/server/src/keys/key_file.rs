//! The file of a data folder with the keys that have names: their digests, never they themselves.
//!
//! A key has 160 random bits, so a digest that is fast to compute says nothing of it to anybody. Whoever changes the file
//! holds a lock beside it and puts a new file in its place, so that a reader sees one state or the other.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::scope::Scope;

/// The form of the file.
const VERSION: u32 = 1;
/// Bytes of the file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// More keys than anybody gives out.
pub(crate) const MAX_KEYS: usize = 1_000;
/// Characters of a key's name.
const MAX_NAME_CHARS: usize = 64;
/// Digits of a key.
const N_DIGITS: usize = 40;
/// More than any key is used in a minute.
pub(crate) const MAX_A_MINUTE: u32 = 1_000_000;

/// A file of keys.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

/// A key by its name, with what it is for. Who it is compared with is a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// What its owner calls it.
    pub name: String,
    /// What it opens; one at least.
    pub scopes: BTreeSet<Scope>,
    /// How many requests a minute it may make; absent = any number.
    pub requests_per_minute: Option<NonZeroU32>,
    /// When it was made.
    pub created_at: SystemTime,
    pub(crate) digest: blake3::Hash,
}

/// What a key is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What its owner calls it: 1 to 64 letters, digits, dots, underscores or hyphens.
    pub name: String,
    /// What it opens.
    pub scopes: BTreeSet<Scope>,
    /// How many requests a minute it may make; absent = any number.
    pub requests_per_minute: Option<NonZeroU32>,
}

/// Why a key is not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error("key file {}: {cause}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A name that no key can have.
    #[error("a key's name has 1 to {} letters, digits, dots, underscores or hyphens", MAX_NAME_CHARS)]
    BadName,
    /// There is one of this name.
    #[error("there is a key `{0}` already; remove it first, or choose another name")]
    NameTaken(String),
    /// There is none of this name.
    #[error("there is no key `{0}`")]
    NoSuchKey(String),
    /// It would open nothing.
    #[error("a key must be for something: {}", Scope::NAMES.join(" or "))]
    NoScope,
    /// A limit beyond all use.
    #[error("a key may make at most {} requests a minute, or be without a limit", MAX_A_MINUTE)]
    BadLimit,
    /// There are too many.
    #[error("there are {} keys already", MAX_KEYS)]
    TooMany,
}

/// What tells a file from what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file_no: u64,
    changed: (i64, i64),
    n_bytes: u64,
    mode: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    keys: Vec<WrittenKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKey {
    name: String,
    blake3: String,
    scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<NonZeroU32>,
    /// In seconds since 1970.
    created_at: u64,
}

impl KeyFile {
    /// The file of this path, which need not be there yet.
    pub fn new(path: PathBuf) -> KeyFile {
        KeyFile { path }
    }

    /// All keys, in the order in which they were made.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, or it is no file of keys.
    pub fn list(&self) -> Result<Vec<NamedKey>, KeyFileError> {
        let bytes = match self.bytes() {
            Ok(bytes) => bytes,
            Err(error) if is_not_there(&error) => return Ok(Vec::new()),
            Err(error) => return Err(self.unusable(error)),
        };
        let written: Written = serde_json::from_slice(&bytes).map_err(|error| self.unusable(error))?;
        if written.version != VERSION {
            return Err(
                self.unusable(format!("its form is {}, this program knows {VERSION}", written.version))
            );
        }
        let keys = written.keys.into_iter().map(NamedKey::read).collect::<Option<Vec<_>>>();
        keys.ok_or_else(|| self.unusable("an entry is no key"))
    }

    /// Make a key. What clients must show is given back once and kept nowhere.
    ///
    /// # Errors
    /// It cannot be so, or the file cannot be changed.
    pub fn add(&self, new: NewKey) -> Result<(NamedKey, String), KeyFileError> {
        let NewKey { name, scopes, requests_per_minute } = new;
        if !is_name(&name) {
            return Err(KeyFileError::BadName);
        }
        if scopes.is_empty() {
            return Err(KeyFileError::NoScope);
        }
        if requests_per_minute.is_some_and(|limit| limit.get() > MAX_A_MINUTE) {
            return Err(KeyFileError::BadLimit);
        }
        let _lock = self.lock()?;
        let mut keys = self.list()?;
        if keys.iter().any(|key| key.name == name) {
            return Err(KeyFileError::NameTaken(name));
        }
        if keys.len() >= MAX_KEYS {
            return Err(KeyFileError::TooMany);
        }
        let secret = secret();
        let digest = blake3::hash(secret.as_bytes());
        let key = NamedKey { name, scopes, requests_per_minute, created_at: SystemTime::now(), digest };
        keys.push(key.clone());
        self.write(&keys)?;
        Ok((key, secret))
    }

    /// Take a key away: nobody is let in by it any more.
    ///
    /// # Errors
    /// There is none of this name, or the file cannot be changed.
    pub fn remove(&self, name: &str) -> Result<(), KeyFileError> {
        let _lock = self.lock()?;
        let mut keys = self.list()?;
        let n_keys = keys.len();
        keys.retain(|key| key.name != name);
        if keys.len() == n_keys {
            return Err(KeyFileError::NoSuchKey(name.to_owned()));
        }
        self.write(&keys)
    }

    /// What tells the file from what it was; none where it is not there.
    pub(super) fn stamp(&self) -> io::Result<Option<Stamp>> {
        match fs::metadata(&self.path) {
            Ok(file) => Ok(Some(Stamp {
                file_no: file.ino(),
                changed: (file.mtime(), file.mtime_nsec()),
                n_bytes: file.len(),
                mode: file.mode(),
            })),
            Err(error) if is_not_there(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        // Opening must not wait for the other end of a pipe.
        let no_waiting = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(no_waiting).open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is no plain file"));
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(io::Error::other(format!("others may use it (mode {mode:o}); chmod 600 it")));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "it is too long"));
        }
        Ok(bytes)
    }

    /// Until it is dropped nobody else changes the file.
    fn lock(&self) -> Result<File, KeyFileError> {
        let locked = || -> io::Result<File> {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let lock = own_file(&self.path.with_extension("lock"))?;
            lock.lock()?;
            Ok(lock)
        };
        locked().map_err(|error| self.unusable(error))
    }

    /// Call with the lock.
    fn write(&self, keys: &[NamedKey]) -> Result<(), KeyFileError> {
        let written = Written { version: VERSION, keys: keys.iter().map(WrittenKey::from).collect() };
        let text = serde_json::to_string_pretty(&written).map_err(|error| self.unusable(error))?;
        let put = || -> io::Result<()> {
            let temporary = self.path.with_extension("tmp");
            // One that is left of a broken try may be anybody's.
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = own_file(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            match self.path.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        put().map_err(|error| self.unusable(error))
    }

    fn unusable(&self, cause: impl ToString) -> KeyFileError {
        KeyFileError::Unusable { path: self.path.clone(), cause: cause.to_string() }
    }
}

impl NamedKey {
    fn read(written: WrittenKey) -> Option<NamedKey> {
        let WrittenKey { name, blake3, scopes, requests_per_minute, created_at } = written;
        let scopes = scopes.iter().map(|name| Scope::named(name)).collect::<Option<BTreeSet<Scope>>>()?;
        let digest = blake3::Hash::from_hex(blake3).ok()?;
        let created_at = UNIX_EPOCH.checked_add(Duration::from_secs(created_at))?;
        (is_name(&name) && !scopes.is_empty()).then_some(NamedKey {
            name,
            scopes,
            requests_per_minute,
            created_at,
            digest,
        })
    }
}

impl From<&NamedKey> for WrittenKey {
    fn from(key: &NamedKey) -> WrittenKey {
        WrittenKey {
            name: key.name.clone(),
            blake3: key.digest.to_hex().to_string(),
            scopes: key.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
            requests_per_minute: key.requests_per_minute,
            created_at: key.created_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }
}

/// Letters, digits and `. _ -`: it goes into paths, logs and tables.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !matches!(name, "." | "..")
}

/// A key that nobody has had before. Programs made for OpenAI want it to begin like this.
fn secret() -> String {
    let random = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat();
    format!("sk-{}", &blake3::hash(&random).to_hex()[..N_DIGITS])
}

/// Whether there is no file, and none could be: what should be a folder on its way may be none.
fn is_not_there(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A file that only its owner may read, made where there is none.
fn own_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn new(name: &str) -> NewKey {
        NewKey { name: name.into(), scopes: [Scope::Generate].into(), requests_per_minute: None }
    }

    fn in_folder() -> (tempfile::TempDir, KeyFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::new(folder.path().join("data").join("keys.json"));
        (folder, file)
    }

    #[test]
    fn a_key_that_was_made_is_listed_and_gone_when_it_was_removed() {
        let (_folder, file) = in_folder();
        assert_eq!(file.list().unwrap(), []);
        let limited = NewKey {
            scopes: [Scope::Admin, Scope::Generate].into(),
            requests_per_minute: NonZeroU32::new(60),
            ..new("laptop")
        };
        let (laptop, first) = file.add(limited).unwrap();
        let (phone, second) = file.add(new("phone")).unwrap();
        assert_ne!(first, second);
        let listed = file.list().unwrap();
        assert_eq!((&listed[0].name, &listed[0].scopes), (&laptop.name, &laptop.scopes));
        assert_eq!((listed[0].digest, listed[1].digest), (laptop.digest, phone.digest));
        assert_eq!(listed[0].requests_per_minute, NonZeroU32::new(60));
        assert_eq!(blake3::hash(first.as_bytes()), laptop.digest);
        file.remove("laptop").unwrap();
        assert_eq!(file.list().unwrap().len(), 1);
        assert!(matches!(file.remove("laptop"), Err(KeyFileError::NoSuchKey(name)) if name == "laptop"));
    }

    #[test]
    fn no_key_is_in_its_file_and_the_file_is_its_owners_alone() {
        let (_folder, file) = in_folder();
        let (_, secret) = file.add(new("a")).unwrap();
        let digits = secret.strip_prefix("sk-").unwrap();
        assert!(digits.len() == N_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let folder = file.path.parent().unwrap();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            assert!(!fs::read_to_string(entry.path()).unwrap().contains(digits), "{entry:?}");
            assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{entry:?}");
        }
        fs::set_permissions(&file.path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(file.list().unwrap_err().to_string().contains("chmod 600"));
        assert!(file.add(new("b")).is_err());
    }

    #[test]
    fn a_key_that_cannot_be_is_refused_by_what_is_wrong() {
        let (_folder, file) = in_folder();
        for name in ["", ".", "..", "two words", "a/b", "ü", &"x".repeat(65)] {
            assert!(matches!(file.add(new(name)), Err(KeyFileError::BadName)), "{name}");
        }
        let nothing = NewKey { scopes: BTreeSet::new(), ..new("a") };
        assert!(file.add(nothing).unwrap_err().to_string().contains("generate or admin"));
        let often = NewKey { requests_per_minute: NonZeroU32::new(MAX_A_MINUTE + 1), ..new("a") };
        assert!(matches!(file.add(often), Err(KeyFileError::BadLimit)));
        file.add(new("a")).unwrap();
        assert!(matches!(file.add(new("a")), Err(KeyFileError::NameTaken(_))));
    }

    #[test]
    fn a_file_that_is_none_of_keys_is_an_error_and_is_left_as_it_is() {
        let (_folder, file) = in_folder();
        fs::create_dir_all(file.path.parent().unwrap()).unwrap();
        for text in [
            "",
            "{",
            "[]",
            r#"{"version":2,"keys":[]}"#,
            r#"{"version":1,"keys":[{"name":"a b","blake3":"00","scopes":["generate"],"created_at":1}]}"#,
            r#"{"version":1,"keys":[],"more":1}"#,
        ] {
            fs::remove_file(&file.path).ok();
            own_file(&file.path).unwrap().write_all(text.as_bytes()).unwrap();
            assert!(matches!(file.list(), Err(KeyFileError::Unusable { .. })), "{text}");
            assert!(file.add(new("a")).is_err() && file.remove("a").is_err(), "{text}");
            assert_eq!(fs::read_to_string(&file.path).unwrap(), text);
        }
    }

    #[test]
    fn many_at_a_time_lose_no_key() {
        let (_folder, file) = in_folder();
        std::thread::scope(|scope| {
            for i in 0..8 {
                let file = &file;
                scope.spawn(move || (0..5).for_each(|j| drop(file.add(new(&format!("{i}-{j}"))).unwrap())));
            }
        });
        assert_eq!(file.list().unwrap().len(), 40);
    }
}

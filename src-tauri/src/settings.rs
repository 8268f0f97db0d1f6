//! Settings: the only reader of flags, of the environment and of the settings file.
//!
//! A flag wins over the environment, that over `settings.toml`, that over the default. Every value is parsed by the
//! same function wherever it comes from, and remembers where it came from for `samovar config`. The layers are our own
//! although there are crates: those merge values and forget whose each was, which errors and that command name.

pub(crate) mod flags;
pub(crate) mod folders;
pub(crate) mod keys;
pub(crate) mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use server::KeyFile;

use crate::small_file;
use flags::Flags;
use folders::{Folders, NOWHERE};
use keys::{KEYS, Key};
use values::{Amount, Device, GpuProofs, Kernels, Switch};

/// Bytes of a settings file at most.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Everything that can be set, parsed and bounded.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where models, logs and the settings file lie.
    pub(crate) folders: Folders,
    /// The address the server listens on, or `localhost`, which is two.
    pub(crate) host: String,
    /// The address the server listens on and clients connect to.
    pub(crate) address: SocketAddr,
    /// A path, or a name in the models folder; absent = the only one there.
    pub(crate) model: Option<String>,
    /// Bytes of the KV pool.
    pub(crate) kv_pool: Amount<u64>,
    /// Tokens of a KV block.
    pub(crate) block_tokens: usize,
    /// How KV values are stored.
    pub(crate) kv_dtype: scheduler::KvDtype,
    /// How long a drain waits for running answers.
    pub(crate) drain_timeout: Duration,
    /// What computes.
    pub(crate) device: Device,
    /// When a GPU proves itself.
    pub(crate) gpu_proofs: GpuProofs,
    /// Threads that compute.
    pub(crate) threads: Amount<usize>,
    /// How exactly quantised weights are multiplied.
    pub(crate) precision: model::Precision,
    /// The CPU kernels' instruction set.
    pub(crate) kernels: Kernels,
    /// Requests in flight, running and waiting.
    pub(crate) max_requests: usize,
    /// Sequences in one step.
    pub(crate) max_batch: usize,
    /// How long a request waits for room.
    pub(crate) queue_timeout: Duration,
    /// Prompt tokens of one sequence in one step.
    pub(crate) prefill_chunk: usize,
    /// How tokens are chosen where a request does not say; what is absent is the model's recommendation, or ours.
    pub(crate) sampling: engine::SamplingChoices,
    /// Whether KV is kept on disk.
    pub(crate) store: Switch,
    /// Bytes that the store takes on disk at most.
    pub(crate) store_max: u64,
    /// Bytes of the disk that the store leaves free.
    pub(crate) store_floor: u64,
    /// The file with the API key.
    pub(crate) api_key_file: Option<PathBuf>,
    /// Host names that clients may use beside the loopback ones.
    pub(crate) allow_host: Vec<String>,
    /// Origins of web pages that may call the API.
    pub(crate) allow_origin: Vec<String>,
    /// Names in requests that mean the loaded model; `*` stands for any text.
    pub(crate) model_aliases: Vec<String>,
    /// The log's filter.
    pub(crate) log: String,
    /// Where tests hold the engine; never set in a release build.
    #[cfg_attr(not(debug_assertions), expect(dead_code, reason = "only debug builds have hold points"))]
    pub(crate) hold_dir: Option<PathBuf>,
    /// Each setting with its value and where it came from, in the order of [`KEYS`].
    pub(crate) rows: Vec<SettingRow>,
}

/// One line of `samovar config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettingRow {
    /// The key in the settings file.
    pub(crate) key: &'static str,
    /// The value as it was written.
    pub(crate) value: String,
    /// Where it came from.
    pub(crate) source: Source,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    Flag,
    /// An environment variable.
    Environment(String),
    /// The settings file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("flag"),
            Source::Environment(name) => f.write_str(name),
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

/// Why the settings cannot be used; one line that names the key and its source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file is there and cannot be read or is no TOML.
    #[error("settings file {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A key that no setting has.
    #[error("settings file {}: unknown key `{key}`{hint}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The nearest known key, as a question; may be empty.
        hint: String,
    },
    /// A value that the setting cannot take.
    #[error("{}: `{value}`: {cause}", place(key, from))]
    BadValue {
        /// The key.
        key: &'static str,
        /// Where the value came from.
        from: Source,
        /// The value.
        value: String,
        /// What it may be.
        cause: String,
    },
}

impl SettingsError {
    /// Whether the command line is to blame, which is exit code 2.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, SettingsError::BadValue { from: Source::Flag, .. })
    }
}

fn place(key: &str, source: &Source) -> String {
    match source {
        Source::Flag => format!("--{}", key.replace('_', "-")),
        Source::Environment(name) => format!("environment variable {name}"),
        Source::File(path) => format!("settings file {}: key `{key}`", path.display()),
        Source::Default => format!("default of {key}"),
    }
}

impl Settings {
    /// Read the environment and the settings file, and put `flags` on top.
    ///
    /// # Errors
    /// The file cannot be read, or some value cannot be used.
    pub(crate) fn load(flags: Flags) -> Result<Settings, SettingsError> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with("SAMOVAR_"))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect();
        let data_dir = flags
            .values
            .get("data_dir")
            .and_then(|v| v.first())
            .or_else(|| environment.get("SAMOVAR_DATA_DIR").filter(|v| !v.is_empty()))
            .map(PathBuf::from);
        let folders = match data_dir {
            Some(dir) => Folders::under(&std::path::absolute(&dir).unwrap_or(dir)),
            // What would lie there is done without: it is no condition for serving.
            None => Folders::of_this_user().unwrap_or_else(|| Folders::under(Path::new(NOWHERE))),
        };
        let file = read_file(&folders.settings_file)?;
        // One that cannot be read is told of by the server, which has to know what is in it.
        let has_keys = KeyFile::new(folders.keys.clone()).list().map_or(true, |keys| !keys.is_empty());
        Settings::resolve(Layers { flags, environment, file, folders, has_keys })
    }

    /// Decide every setting; pure.
    fn resolve(layers: Layers) -> Result<Settings, SettingsError> {
        let mut r = Resolver { layers: &layers, rows: Vec::new() };
        r.refuse_unknown_keys()?;
        r.note_data_dir();
        let host: IpAddr = r.one("host", values::host)?;
        let port: u16 = r.one("port", values::port)?;
        let model = r.optional("model", |text| Ok(text.to_owned()))?;
        let kv_pool = r.one("kv_pool", values::kv_pool)?;
        let block_tokens = r.one("block_tokens", values::block_tokens)?;
        let kv_dtype = r.one("kv_dtype", values::kv_dtype)?;
        let drain_timeout = r.one("drain_timeout", values::duration)?;
        let device = r.one("device", values::device)?;
        let gpu_proofs = r.one("gpu_proofs", values::gpu_proofs)?;
        let threads = r.one("threads", values::threads)?;
        let precision = r.one("precision", values::precision)?;
        let kernels = r.one("kernels", values::kernels)?;
        let max_requests = r.one("max_requests", |text| values::count(text, 1..=10_000))?;
        let max_batch = r.one("max_batch", |text| values::count(text, 1..=256))?;
        let queue_timeout = r.one("queue_timeout", values::duration)?;
        let prefill_chunk = r.one("prefill_chunk", |text| values::count(text, 1..=8192))?;
        let sampling = engine::SamplingChoices {
            temperature: r.one("temperature", |text| values::number_or_auto(text, 0.0..=2.0))?,
            top_p: r.one("top_p", |text| values::number_or_auto(text, 0.01..=1.0))?,
            top_k: r.one("top_k", |text| values::count_or_auto(text, 0..=100_000))?,
            min_p: r.one("min_p", |text| values::number_or_auto(text, 0.0..=1.0))?,
            repetition_penalty: r
                .one("repetition_penalty", |text| values::number_or_auto(text, 0.5..=2.0))?,
            ..engine::SamplingChoices::default()
        };
        let store = r.one("store", values::switch)?;
        let store_max = r.one("store_max", values::disk_bytes)?;
        let store_floor = r.one("store_floor", values::disk_bytes)?;
        let api_key_file = r.optional("api_key_file", |text| Ok(PathBuf::from(text)))?;
        let allow_host = r.many("allow_host", values::host_name)?;
        let allow_origin = r.many("allow_origin", values::origin)?;
        let model_aliases = r.many("model_aliases", values::model_alias)?;
        let log = r.one("log", values::log_filter)?;
        let hold_dir = layers.hold_dir();
        let rows = r.rows;
        let is_localhost =
            rows.iter().any(|row| row.key == "host" && row.value.eq_ignore_ascii_case(values::LOCALHOST));
        if !host.is_loopback() && api_key_file.is_none() && !layers.has_keys {
            return Err(SettingsError::BadValue {
                key: "host",
                from: rows
                    .iter()
                    .find(|row| row.key == "host")
                    .map_or(Source::Default, |row| row.source.clone()),
                value: host.to_string(),
                cause: "an address that others can reach needs a key: `samovar keys add` one first, or set api_key_file"
                    .to_owned(),
            });
        }
        let folders = layers.folders;
        // A relative path means the folder of whoever wrote it: the file's own, or the shell's.
        let from_file =
            rows.iter().any(|row| row.key == "api_key_file" && matches!(row.source, Source::File(_)));
        let api_key_file =
            api_key_file.map(|path| if from_file { folders.beside_settings(&path) } else { path });
        Ok(Settings {
            folders,
            host: if is_localhost { values::LOCALHOST.to_owned() } else { host.to_string() },
            address: SocketAddr::new(host, port),
            model,
            kv_pool,
            block_tokens,
            kv_dtype,
            precision,
            drain_timeout,
            device,
            gpu_proofs,
            threads,
            kernels,
            max_requests,
            max_batch,
            queue_timeout,
            prefill_chunk,
            sampling,
            store,
            store_max,
            store_floor,
            api_key_file,
            allow_host,
            allow_origin,
            model_aliases,
            log,
            hold_dir,
            rows,
        })
    }
}

/// Whether a window can be shown: elsewhere than on macOS it needs a display server, which the session names in the
/// environment.
#[cfg(feature = "desktop")]
pub(crate) fn has_display() -> bool {
    cfg!(target_os = "macos")
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// The four places a value can come from; the defaults are in [`KEYS`].
struct Layers {
    flags: Flags,
    environment: BTreeMap<String, String>,
    file: Option<SettingsFile>,
    folders: Folders,
    /// Whether clients were given keys that have names.
    has_keys: bool,
}

impl Layers {
    #[cfg(debug_assertions)]
    fn hold_dir(&self) -> Option<PathBuf> {
        self.environment.get("SAMOVAR_HOLD_DIR").map(PathBuf::from)
    }

    #[cfg(not(debug_assertions))]
    fn hold_dir(&self) -> Option<PathBuf> {
        None
    }
}

/// The settings file as read, before any key is looked at.
struct SettingsFile {
    path: PathBuf,
    table: toml::Table,
}

fn read_file(path: &Path) -> Result<Option<SettingsFile>, SettingsError> {
    let fail = |cause: String| SettingsError::File { path: path.to_owned(), cause };
    let bytes = match small_file::read(path, MAX_FILE_BYTES) {
        Ok(bytes) => bytes,
        // Below something that is no folder there is nothing either.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(fail(format!("cannot be read: {error}"))),
    };
    let text = String::from_utf8(bytes).map_err(|_| fail("is not UTF-8 text".to_owned()))?;
    parse_file(path, &text).map(Some)
}

fn parse_file(path: &Path, text: &str) -> Result<SettingsFile, SettingsError> {
    let table = text.parse::<toml::Table>().map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line_no = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        let cause = error.message().replace('\n', ", ");
        SettingsError::File { path: path.to_owned(), cause: format!("line {line_no}: {cause}") }
    })?;
    Ok(SettingsFile { path: path.to_owned(), table })
}

struct Resolver<'a> {
    layers: &'a Layers,
    rows: Vec<SettingRow>,
}

impl Resolver<'_> {
    fn refuse_unknown_keys(&self) -> Result<(), SettingsError> {
        let Some(file) = &self.layers.file else { return Ok(()) };
        for key in file.table.keys() {
            if !KEYS.iter().any(|known| known.name == key && known.in_file) {
                let hint = match keys::nearest(key) {
                    Some(known) => format!(" (did you mean `{known}`?)"),
                    None => String::new(),
                };
                return Err(SettingsError::UnknownKey { path: file.path.clone(), key: key.clone(), hint });
            }
        }
        Ok(())
    }

    /// The data folder has been decided before the file in it was read; it is only listed here.
    fn note_data_dir(&mut self) {
        let source = if self.layers.flags.values.contains_key("data_dir") {
            Source::Flag
        } else if self.layers.environment.get("SAMOVAR_DATA_DIR").is_some_and(|v| !v.is_empty()) {
            Source::Environment("SAMOVAR_DATA_DIR".to_owned())
        } else {
            Source::Default
        };
        let value = self.layers.folders.data.display().to_string();
        self.rows.push(SettingRow { key: "data_dir", value, source });
    }

    fn one<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, SettingsError> {
        let key = known(name);
        let (texts, source) = self.find(key)?;
        let value = texts.last().map_or_else(|| key.default.to_owned(), Clone::clone);
        let parsed = parse(value.trim()).map_err(|cause| SettingsError::BadValue {
            key: key.name,
            from: source.clone(),
            value: value.clone(),
            cause,
        })?;
        self.rows.push(SettingRow { key: key.name, value, source });
        Ok(parsed)
    }

    fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, SettingsError> {
        self.one(name, |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) })
    }

    fn many<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, SettingsError> {
        let key = known(name);
        let (texts, source) = self.find(key)?;
        let mut parsed = Vec::new();
        for text in texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
            parsed.push(parse(text).map_err(|cause| SettingsError::BadValue {
                key: key.name,
                from: source.clone(),
                value: text.to_owned(),
                cause,
            })?);
        }
        self.rows.push(SettingRow { key: key.name, value: texts.join(", "), source });
        Ok(parsed)
    }

    /// The texts of a key from the first place that has it; none from the default.
    fn find(&self, key: &Key) -> Result<(Vec<String>, Source), SettingsError> {
        if let Some(texts) = self.layers.flags.values.get(key.name) {
            return Ok((texts.clone(), Source::Flag));
        }
        let variable = key.variable();
        if let Some(text) = self.layers.environment.get(&variable).filter(|text| !text.is_empty()) {
            let texts =
                if key.many { text.split(',').map(str::to_owned).collect() } else { vec![text.clone()] };
            return Ok((texts, Source::Environment(variable)));
        }
        if let Some(file) = &self.layers.file
            && let Some(value) = file.table.get(key.name)
        {
            let source = Source::File(file.path.clone());
            let texts = texts_of(value, key.many).ok_or_else(|| SettingsError::BadValue {
                key: key.name,
                from: source.clone(),
                value: value.to_string().replace('\n', " "),
                cause: if key.many { "a list of strings is wanted" } else { "a string or number is wanted" }
                    .to_owned(),
            })?;
            return Ok((texts, source));
        }
        Ok((Vec::new(), Source::Default))
    }
}

fn texts_of(value: &toml::Value, many: bool) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Float(number) => Some(vec![number.to_string()]),
        toml::Value::Array(items) if many => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        }
        _ => None,
    }
}

fn known(name: &str) -> &'static Key {
    KEYS.iter().find(|key| key.name == name).expect("every setting that is resolved is in the table of keys")
}

#[cfg(test)]
#[path = "settings/tests.rs"]
mod tests;

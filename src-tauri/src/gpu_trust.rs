//! Remembers how GPUs have proved themselves on models, so that one proves itself once and not at every load.
//!
//! A verdict counts for one GPU, build of the system, program, model and format of KV; with any other of them the GPU
//! proves itself anew. It is kept as a line of a file: a digest of what it counts for, and what came of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use engine::{GpuRefusal, GpuRefusalKind};
use scheduler::KvDtype;

use crate::small_file;

/// Verdicts that are remembered at most.
const MAX_VERDICTS: usize = 256;

/// Bytes of a reason that are kept.
const MAX_REASON_BYTES: usize = 400;

/// Bytes that such a list has at most, with room to spare.
const MAX_LIST_BYTES: u64 = 1 << 18;

/// How a verdict is written that speaks for the GPU; the others are kinds of refusal.
const PASSED: &str = "passed";

/// Where macOS says which build it is.
const SYSTEM_VERSION: &str = "/System/Library/CoreServices/SystemVersion.plist";

/// What came of a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The GPU may serve.
    Passed,
    /// It must not.
    Failed(GpuRefusal),
}

/// What a verdict counts for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The GPU's name.
    pub(crate) gpu: &'a str,
    /// The model's digest.
    pub(crate) model: &'a [u8; 32],
    pub(crate) kv_dtype: KvDtype,
}

/// The verdicts of this program on this system, in a file of the data folder.
#[derive(Debug, Clone)]
pub(crate) struct GpuTrust {
    path: PathBuf,
    /// The system's build and the program's digest; absent where either is not known, and then nothing is remembered.
    ground: Option<(String, [u8; 32])>,
}

impl GpuTrust {
    pub(crate) fn in_folder(data: &Path) -> GpuTrust {
        static GROUND: OnceLock<Option<(String, [u8; 32])>> = OnceLock::new();
        let ground = GROUND.get_or_init(|| system_build().zip(this_program()));
        GpuTrust { path: data.join("gpu-verdicts"), ground: ground.clone() }
    }

    /// What is remembered of `subject`.
    pub(crate) fn find(&self, subject: &Subject<'_>) -> Option<Verdict> {
        let key = self.key(subject)?;
        let list = small_file::read_text(&self.path, MAX_LIST_BYTES).ok()?;
        let line = list.lines().rev().find_map(|line| line.strip_prefix(key.as_str())?.strip_prefix(' '))?;
        parse(line)
    }

    /// Remember what came of a proof, in the place of an earlier one.
    ///
    /// # Errors
    /// The list cannot be written; then the GPU proves itself at the next load too.
    pub(crate) fn remember(&self, subject: &Subject<'_>, verdict: &Verdict) -> io::Result<()> {
        let Some(key) = self.key(subject) else { return Ok(()) };
        let old = small_file::read_text(&self.path, MAX_LIST_BYTES).unwrap_or_default();
        let others: Vec<&str> = old.lines().filter(|line| !line.starts_with(&key)).collect();
        let kept = &others[others.len().saturating_sub(MAX_VERDICTS - 1)..];
        let mut text = kept.iter().fold(String::new(), |text, line| text + line + "\n");
        text += &match verdict {
            Verdict::Passed => format!("{key} {PASSED}\n"),
            Verdict::Failed(GpuRefusal { kind, text }) => {
                let reason: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                format!("{key} {} {}\n", kind.name(), &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)])
            }
        };
        small_file::replace(&self.path, &text)
    }

    /// What the line of `subject` begins with.
    fn key(&self, subject: &Subject<'_>) -> Option<String> {
        let (system, program) = self.ground.as_ref()?;
        let mut hasher = blake3::Hasher::new_derive_key("samovar gpu verdict 1");
        let Subject { gpu, model, kv_dtype } = *subject;
        for part in [gpu.as_bytes(), system.as_bytes(), program, model, kv_dtype.name().as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Some(hasher.finalize().to_hex().to_string())
    }
}

fn parse(line: &str) -> Option<Verdict> {
    let (word, reason) = line.split_once(' ').unwrap_or((line, ""));
    if word == PASSED {
        return Some(Verdict::Passed);
    }
    let kind = GpuRefusalKind::ALL.into_iter().find(|kind| kind.name() == word)?;
    Some(Verdict::Failed(GpuRefusal::new(kind, reason)))
}

/// The build of the system, where it says so: GPU drivers come with it.
fn system_build() -> Option<String> {
    build_of(&small_file::read_text(Path::new(SYSTEM_VERSION), 1 << 16).ok()?)
}

fn build_of(property_list: &str) -> Option<String> {
    let (_, rest) = property_list.split_once("<key>ProductBuildVersion</key>")?;
    let (build, _) = rest.trim_start().strip_prefix("<string>")?.split_once("</string>")?;
    Some(build.trim().to_owned())
}

/// The digest of the running program.
fn this_program() -> Option<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(std::env::current_exe().ok()?).ok()?).ok()?;
    Some(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject<'_> = Subject { gpu: "Apple M2", model: &[1; 32], kv_dtype: KvDtype::F16 };

    fn trust(folder: &Path, system: &str, program: u8) -> GpuTrust {
        let ground = Some((system.to_owned(), [program; 32]));
        GpuTrust { path: folder.join("gpu-verdicts"), ground }
    }

    fn wrong() -> Verdict {
        Verdict::Failed(GpuRefusal::new(GpuRefusalKind::Wrong, "layer 3: off by 0.5"))
    }

    #[test]
    fn a_verdict_is_kept_and_counts_for_one_gpu_system_program_model_and_format() {
        let folder = tempfile::tempdir().unwrap();
        let here = trust(folder.path(), "23G93", 7);
        assert_eq!(here.find(&SUBJECT), None);
        here.remember(&SUBJECT, &wrong()).unwrap();
        let again = trust(folder.path(), "23G93", 7);
        assert_eq!(again.find(&SUBJECT), Some(wrong()));
        for subject in [
            Subject { gpu: "Apple M3", ..SUBJECT },
            Subject { model: &[2; 32], ..SUBJECT },
            Subject { kv_dtype: KvDtype::Q8, ..SUBJECT },
        ] {
            assert_eq!(here.find(&subject), None, "{subject:?}");
        }
        assert_eq!(trust(folder.path(), "24A335", 7).find(&SUBJECT), None);
        assert_eq!(trust(folder.path(), "23G93", 8).find(&SUBJECT), None);

        again.remember(&SUBJECT, &Verdict::Passed).unwrap();
        assert_eq!(here.find(&SUBJECT), Some(Verdict::Passed));
        assert_eq!(std::fs::read_to_string(&here.path).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_damaged_list_is_no_verdict_and_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let here = trust(folder.path(), "23G93", 7);
        let key = here.key(&SUBJECT).unwrap();
        for text in ["", "\n\n", &key, &format!("{key}passed"), &format!("{key} maybe"), &key[1..]] {
            std::fs::write(&here.path, text).unwrap();
            assert_eq!(here.find(&SUBJECT), None, "{text:?}");
        }
        std::fs::write(&here.path, [0xff; 9]).unwrap();
        assert_eq!(here.find(&SUBJECT), None);
        here.remember(&SUBJECT, &wrong()).unwrap();
        assert_eq!(here.find(&SUBJECT), Some(wrong()));
        std::fs::File::create(&here.path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(here.find(&SUBJECT), None);
        here.remember(&SUBJECT, &wrong()).unwrap();
        assert_eq!(here.find(&SUBJECT), Some(wrong()));
    }

    #[test]
    fn the_list_is_bounded_and_so_is_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let here = trust(folder.path(), "23G93", 7);
        let reason = "one\ntwo ".to_owned() + &"é".repeat(10_000);
        let long = Verdict::Failed(GpuRefusal::new(GpuRefusalKind::Broke, reason));
        for n in 0..=MAX_VERDICTS {
            here.remember(&Subject { model: &[n as u8; 32], gpu: &n.to_string(), ..SUBJECT }, &long).unwrap();
        }
        let of = |n: usize| here.find(&Subject { model: &[n as u8; 32], gpu: &n.to_string(), ..SUBJECT });
        assert_eq!(of(0), None);
        let Some(Verdict::Failed(kept)) = of(MAX_VERDICTS) else { panic!("the last one is there") };
        assert!(kept.text.starts_with("one two éé") && kept.text.len() <= MAX_REASON_BYTES, "{}", kept.text);
        assert!(std::fs::metadata(&here.path).unwrap().len() < MAX_LIST_BYTES);
    }

    #[test]
    fn where_nothing_can_be_written_or_the_ground_is_not_known_nothing_is_remembered() {
        let here = trust(Path::new("/dev/null"), "23G93", 7);
        assert!(here.remember(&SUBJECT, &wrong()).is_err());
        assert_eq!(here.find(&SUBJECT), None);
        let folder = tempfile::tempdir().unwrap();
        let unknown = GpuTrust { ground: None, ..trust(folder.path(), "", 0) };
        unknown.remember(&SUBJECT, &wrong()).unwrap();
        assert!(unknown.find(&SUBJECT).is_none() && !unknown.path.exists());
    }

    #[test]
    fn the_systems_build_is_read_from_its_property_list() {
        let list = "<dict>\n\t<key>ProductBuildVersion</key>\n\t<string>23G93</string>\n\t<key>ProductCopyright</key>";
        assert_eq!(build_of(list).as_deref(), Some("23G93"));
        assert_eq!(build_of("<key>ProductBuildVersion</key><integer>3</integer>"), None);
        assert_eq!(build_of(""), None);
    }

    #[test]
    fn the_program_has_a_digest() {
        assert!(this_program().is_some_and(|digest| Some(digest) == this_program()));
    }
}

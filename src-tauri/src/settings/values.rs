//! From a setting's text to its value. Errors say what is wanted.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use engine::Backend;
use jiff::SignedDuration;
use model::Precision;
use parse_size::Config;
use scheduler::KvDtype;
use tracing_subscriber::EnvFilter;

/// A number, or as much as fits this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount<T> {
    /// Decided when it is needed.
    Auto,
    /// As the user said.
    Fixed(T),
}

/// Which CPU kernels compute: the best this processor has, or a named set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// The best one.
    Auto,
    /// A set by name; the model says whether this processor has it.
    Named(String),
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    /// It happens.
    On,
    /// It does not.
    Off,
}

/// `on` or `off`.
pub(crate) fn switch(text: &str) -> Result<Switch, String> {
    match text {
        "on" => Ok(Switch::On),
        "off" => Ok(Switch::Off),
        _ => Err("on or off is wanted".to_owned()),
    }
}

/// Disk space: a size, or 0.
pub(crate) fn disk_bytes(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    bytes(text).map_err(|_| "a size such as 500MiB or 16G is wanted".to_owned())
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// The GPU where there is one, else the CPU.
    Auto,
    /// The CPU, whatever else there is.
    Cpu,
    /// The GPU, or nothing.
    Metal,
}

/// When a GPU proves itself on a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GpuProofs {
    /// Once, and then never again.
    Once,
    /// At every load, whatever is remembered.
    Always,
}

/// `once` or `always`.
pub(crate) fn gpu_proofs(text: &str) -> Result<GpuProofs, String> {
    match text {
        "once" => Ok(GpuProofs::Once),
        "always" => Ok(GpuProofs::Always),
        _ => Err("once or always is wanted".to_owned()),
    }
}

/// The name of both loopbacks.
pub(crate) const LOCALHOST: &str = "localhost";

/// An IP address, or `localhost`.
pub(crate) fn host(text: &str) -> Result<IpAddr, String> {
    if text.eq_ignore_ascii_case(LOCALHOST) {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "an IP address or localhost is wanted".to_owned())
}

/// A TCP port.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "a port from 0 to 65535 is wanted".to_owned())
}

/// A whole number within `range`.
pub(crate) fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let wanted = || format!("a whole number from {} to {} is wanted", range.start(), range.end());
    let number: usize = text.replace('_', "").parse().map_err(|_| wanted())?;
    if range.contains(&number) { Ok(number) } else { Err(wanted()) }
}

/// A number within `range`, which has an end on both sides.
pub(crate) fn number(text: &str, range: RangeInclusive<f32>) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("a number from {} to {} is wanted", range.start(), range.end())),
    }
}

/// `auto`, which leaves the choice to others, or a number within `range`.
pub(crate) fn number_or_auto(text: &str, range: RangeInclusive<f32>) -> Result<Option<f32>, String> {
    if text == "auto" {
        return Ok(None);
    }
    number(text, range).map(Some).map_err(|wanted| format!("auto, or {wanted}"))
}

/// `auto`, which leaves the choice to others, or a whole number within `range`.
pub(crate) fn count_or_auto(text: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, String> {
    if text == "auto" {
        return Ok(None);
    }
    count(text, range).map(Some).map_err(|wanted| format!("auto, or {wanted}"))
}

/// `auto`, or a number of threads.
pub(crate) fn threads(text: &str) -> Result<Amount<usize>, String> {
    if text == "auto" {
        return Ok(Amount::Auto);
    }
    count(text, 1..=256).map(Amount::Fixed).map_err(|wanted| format!("auto, or {wanted}"))
}

/// `auto`, or a size in bytes.
pub(crate) fn kv_pool(text: &str) -> Result<Amount<u64>, String> {
    if text == "auto" {
        return Ok(Amount::Auto);
    }
    bytes(text).map(Amount::Fixed)
}

/// A size: a number with an optional unit, which is binary: `2G`, `2GB` and `2GiB` are all 2 × 1024³ bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    const BINARY: Config = Config::new().with_binary();
    let wanted = || "auto or a size such as 512MiB or 2G is wanted".to_owned();
    // The crate takes exponents too; in `1e9` most see a gigabyte and some a ninth exabyte.
    if text.contains(['e', 'E', '_', '+']) {
        return Err(wanted());
    }
    match BINARY.parse_size(with_a_digit(text).as_ref()) {
        Ok(0) => Err("the pool needs some memory".to_owned()),
        Ok(size) => Ok(size),
        Err(parse_size::Error::PosOverflow) => Err("that is more memory than there can be".to_owned()),
        Err(_) => Err(wanted()),
    }
}

/// A length of time: seconds, or a number with `ms`, `s`, `m` or `h`; a day at most.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let is_number = text.ends_with(|c: char| c.is_ascii_digit() || c == '.');
    let text = with_a_digit(text);
    let with_unit = if is_number { format!("{text}s") } else { text.into_owned() };
    let time: SignedDuration =
        with_unit.parse().map_err(|_| "seconds, or a time such as 500ms or 2m, are wanted".to_owned())?;
    match Duration::try_from(time) {
        Ok(time) if time <= Duration::from_secs(86_400) => Ok(time),
        _ => Err("at most a day is wanted".to_owned()),
    }
}

/// `.5` is `0.5`.
fn with_a_digit(text: &str) -> Cow<'_, str> {
    if text.starts_with('.') { Cow::Owned(format!("0{text}")) } else { Cow::Borrowed(text) }
}

/// Tokens of a block.
pub(crate) fn block_tokens(text: &str) -> Result<usize, String> {
    let wanted = "a power of two from 16 to 256 is wanted";
    match text.parse::<usize>() {
        Ok(n) if n.is_power_of_two() && (16..=256).contains(&n) => Ok(n),
        _ => Err(wanted.to_owned()),
    }
}

/// How KV values are stored.
pub(crate) fn kv_dtype(text: &str) -> Result<KvDtype, String> {
    let known = [KvDtype::F16, KvDtype::Q8, KvDtype::Q4].into_iter().find(|dtype| dtype.name() == text);
    known.ok_or_else(|| "f16, q8 or q4 is wanted".to_owned())
}

/// How exactly quantised weights are multiplied.
pub(crate) fn precision(text: &str) -> Result<Precision, String> {
    let known = [Precision::Fast, Precision::Full].into_iter().find(|precision| precision.name() == text);
    known.ok_or_else(|| "fast or full is wanted".to_owned())
}

/// What computes.
pub(crate) fn device(text: &str) -> Result<Device, String> {
    match text {
        "auto" => Ok(Device::Auto),
        _ if text == Backend::Cpu.name() => Ok(Device::Cpu),
        _ if text == Backend::Metal.name() => Ok(Device::Metal),
        _ => Err("auto, cpu or metal is wanted".to_owned()),
    }
}

/// `auto`, or the name of an instruction set.
pub(crate) fn kernels(text: &str) -> Result<Kernels, String> {
    match text {
        "auto" => Ok(Kernels::Auto),
        "" => Err("auto or the name of an instruction set is wanted".to_owned()),
        name => Ok(Kernels::Named(name.to_owned())),
    }
}

/// A host name as a client's `Host` header has it, without a port.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    let valid = text.len() <= 253
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']'));
    if valid { Ok(text.to_ascii_lowercase()) } else { Err("a host name is wanted".to_owned()) }
}

/// A web page's origin, as far as it can be told from an address by mistake; the server takes it apart.
pub(crate) fn origin(text: &str) -> Result<String, String> {
    let wanted = || "an origin such as https://example.org, null, file:// or scheme://* is wanted".to_owned();
    let text = text.to_ascii_lowercase();
    if text == "null" || text == "file://" {
        return Ok(text);
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
    let plain = |s: &str| {
        !s.is_empty() && s.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '*'))
    };
    if plain(scheme) && (plain(rest) || rest == "*") { Ok(text.clone()) } else { Err(wanted()) }
}

/// A name of a model, in which `*` stands for any text.
pub(crate) fn model_alias(text: &str) -> Result<String, String> {
    let fits = (1..=256).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("a name of up to 256 bytes is wanted".to_owned()) }
}

/// A filter of the log.
pub(crate) fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map_err(|error| format!("not a log filter: {error}"))?;
    Ok(text.to_owned())
}

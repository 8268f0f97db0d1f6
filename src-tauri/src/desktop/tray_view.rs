//! What the tray shows, as a pure function of what the engine says. Nobody else sets an icon or a line.

use std::fmt::Display;
use std::time::{Duration, Instant};

use engine::{GpuRefusalKind, PoolCounts, State, Stats, readiness};

use super::action::Action;
use super::motion::Motion;
use crate::words::{
    Condition, FINISHING_MANY, FINISHING_NOTHING, FINISHING_ONE, LEFT, Mark, Offer, SAVING, Words,
    of_failure, of_gpu_refusal,
};

/// Everything the tray shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrayView {
    pub(crate) icon: Icon,
    pub(crate) tooltip: String,
    pub(crate) items: Vec<Item>,
}

/// The samovar's shapes; every state has its own, none needs colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Icon {
    /// Outline, filled from below in five steps, `0..=4`.
    Starting(u8),
    /// Solid.
    Ready,
    /// Solid with steam, in two pictures.
    Busy(Steam),
    /// Solid with a notch at the top.
    NearFull,
    /// Solid with a drop under the tap.
    Draining,
    /// Outline with a break.
    Failed,
}

/// The two pictures of steam.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steam {
    First,
    Second,
}

/// A line of the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// Said, not to be chosen.
    Text(String),
    /// To be chosen.
    Action(Action, &'static str),
    Separator,
}

/// What the engine does not know.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// The model's name, once it is known.
    pub(crate) model: Option<String>,
    /// Why no GPU computes it, where one was to be expected.
    pub(crate) gpu_refusal: Option<GpuRefusalKind>,
    /// Where clients find the server, without a scheme.
    pub(crate) address: String,
    /// When the app started; what the steam's pictures alternate by.
    pub(crate) since: Instant,
    pub(crate) motion: Motion,
    pub(crate) now: Instant,
}

/// The tray of a server that serves.
pub(crate) fn view(state: &State, stats: &Stats, around: &Surroundings) -> TrayView {
    let condition = Condition::of(state, &readiness(state, stats, around.now), stats.n_running);
    let Words { mark, word, offers } = condition.words();
    let mut line = format!("{} {word}", glyph(mark));
    if condition == Condition::Loading {
        line += &format!(" {} %", percent(stats.load.fraction() * 100.0));
    }
    if let Some(model) = &around.model {
        line += &format!(" · {model}");
    }
    let mut items = vec![Item::Text(line.clone())];
    if let State::Failed(failure) = state {
        items.push(Item::Text(of_failure(failure.kind).what.to_owned()));
    }
    if let Some(kind) = around.gpu_refusal {
        items.push(Item::Text(of_gpu_refusal(kind).to_owned()));
    }
    items.push(Item::Text(around.address.clone()));
    items.push(Item::Action(Action::CopyAddress, "Copy Address"));
    // Also while it is empty: a menu that is open when the model comes in keeps its lines.
    items.push(Item::Text(pool_line(stats)));
    items.push(Item::Separator);
    items.push(Item::Action(Action::OpenChat, "Open Chat"));
    if offers.contains(&Offer::Retry) {
        items.push(offered(Offer::Retry));
    }
    items.push(offered(Offer::OpenLogs));
    items.push(Item::Separator);
    if matches!(state, State::Draining { .. }) {
        items.push(Item::Text(drain_line(stats, around.now)));
    }
    let here_already = [Offer::Retry, Offer::OpenLogs];
    items.extend(offers.iter().filter(|offer| !here_already.contains(offer)).map(|offer| offered(*offer)));
    if condition != Condition::Finishing {
        items.push(Item::Action(Action::Quit, "Quit Samovar"));
    }
    TrayView { icon: icon(condition, stats, around), tooltip: format!("Samovar: {line}"), items }
}

fn offered(offer: Offer) -> Item {
    Item::Action(offer.into(), offer.label())
}

/// The tray of an app that cannot serve; `line` says why.
pub(crate) fn problem_view(line: &str, is_port: bool) -> TrayView {
    let mut items = vec![
        Item::Text(line.to_owned()),
        Item::Separator,
        Item::Action(Action::OpenChat, "Show"),
        Item::Action(Action::RetryPort, "Retry"),
    ];
    if is_port {
        items.push(Item::Action(Action::OtherPort, "Use Another Port"));
    }
    items.push(offered(Offer::OpenLogs));
    items.push(Item::Separator);
    items.push(Item::Action(Action::Quit, "Quit Samovar"));
    TrayView { icon: Icon::Failed, tooltip: format!("Samovar: {line}"), items }
}

/// A menu's line has no place for a picture.
fn glyph(mark: Mark) -> char {
    match mark {
        Mark::Ready | Mark::Busy => '●',
        Mark::Starting | Mark::Away => '○',
        Mark::Finishing | Mark::Paused => '◐',
        Mark::Failed => '×',
    }
}

fn icon(condition: Condition, stats: &Stats, around: &Surroundings) -> Icon {
    match condition {
        Condition::NoModel => Icon::Starting(0),
        Condition::Loading => Icon::Starting((stats.load.fraction() * 5.0).clamp(0.0, 4.0) as u8),
        Condition::Ready => Icon::Ready,
        Condition::Answering => Icon::Busy(steam(around)),
        Condition::NearlyFull => Icon::NearFull,
        Condition::NotResponding | Condition::Failed => Icon::Failed,
        Condition::Finishing | Condition::Pausing | Condition::Paused | Condition::Quit => Icon::Draining,
    }
}

/// One picture a second, or always the same.
fn steam(around: &Surroundings) -> Steam {
    let seconds = around.now.saturating_duration_since(around.since).as_secs();
    if around.motion == Motion::Moving && seconds % 2 == 1 { Steam::Second } else { Steam::First }
}

/// `Pool ▓▓▓▓▓░░░░░ 46 % · 2 running · 1 waiting`
fn pool_line(stats: &Stats) -> String {
    let mut line = format!("Pool {} {} %", bar(stats.pool), percent(stats.pool.utilization()));
    if stats.n_running > 0 {
        line += &format!(" · {} running", stats.n_running);
    }
    if stats.n_waiting > 0 {
        line += &format!(" · {} waiting", stats.n_waiting);
    }
    line
}

/// Ten marks; whatever is held shows at least one.
fn bar(pool: PoolCounts) -> String {
    const MARKS: usize = 10;
    let n_full = (pool.held * MARKS).div_ceil(pool.total.max(1)).min(MARKS);
    "▓".repeat(n_full) + &"░".repeat(MARKS - n_full)
}

/// `Finishing 2 requests · 21 s left · saving 12 MB`
fn drain_line(stats: &Stats, now: Instant) -> String {
    let Some(drain) = stats.drain else { return FINISHING_NOTHING.to_owned() };
    let mut parts = Vec::new();
    if drain.n_active > 0 {
        let words = if drain.n_active == 1 { FINISHING_ONE } else { FINISHING_MANY };
        parts.push(filled(words, drain.n_active));
        // A day is no promise that anybody waits for.
        let left = drain.deadline.saturating_duration_since(now).min(Duration::from_secs(86_400));
        parts.push(filled(LEFT, format_args!("{} s", left.as_secs_f64().ceil())));
    }
    if drain.unsaved_bytes > 0 {
        parts.push(filled(SAVING, format_args!("{} MB", drain.unsaved_bytes.div_ceil(1_000_000))));
    }
    if parts.is_empty() { FINISHING_NOTHING.to_owned() } else { capitalised(&parts.join(" · ")) }
}

fn filled(words: &str, number: impl Display) -> String {
    words.replace("{}", &number.to_string())
}

fn capitalised(line: &str) -> String {
    let mut letters = line.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Whole percents; 100 only when it is all, within what a fraction of bytes is exact to.
fn percent(value: f64) -> u8 {
    (value + 1e-6).clamp(0.0, 100.0) as u8
}

#[cfg(test)]
mod tests {
    use engine::{After, DrainProgress, Failure, FailureKind, LoadProgress};

    use super::*;

    /// One line a view: the icon, then the menu.
    fn show(view: &TrayView) -> String {
        let items = view.items.iter().map(|item| match item {
            Item::Text(text) => text.clone(),
            Item::Action(_, label) => format!("[{label}]"),
            Item::Separator => "--".to_owned(),
        });
        format!("{:?}: {}", view.icon, items.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn every_state_has_its_icon_and_its_menu() {
        let since = Instant::now();
        let now = since + Duration::from_secs(60);
        let around = |model: Option<&str>| Surroundings {
            model: model.map(str::to_owned),
            gpu_refusal: None,
            address: "127.0.0.1:8642".to_owned(),
            since,
            motion: Motion::Moving,
            now,
        };
        let pool = |held| PoolCounts { held, free: 1000 - held, total: 1000, ..PoolCounts::default() };
        let stats = || Stats { heartbeat: now, ..Stats::default() };
        let serving = |held| Stats { pool: pool(held), ..stats() };
        let load = |done| Stats { load: LoadProgress { bytes_done: done, bytes_total: 100 }, ..stats() };
        let draining = |then| State::Draining { then, deadline: now + Duration::from_millis(20_400) };
        let drain = |n_active, unsaved_bytes| Stats {
            drain: Some(DrainProgress {
                n_active,
                unsaved_bytes,
                since: now,
                deadline: now + Duration::from_millis(20_400),
            }),
            n_running: n_active,
            ..serving(200)
        };
        let failed = State::Failed(Failure::new(FailureKind::NoSuchFile, "no such file"));
        let head = |line: &str| format!("{line} 127.0.0.1:8642 [Copy Address]");
        let idle = "-- [Open Chat] [Open Logs] -- [Quit Samovar]";
        let empty = "Pool ░░░░░░░░░░ 0 %";
        let rows = [
            (State::Unloaded, stats(), None, "Starting(0)", head("○ No model"), format!("{empty} {idle}")),
            (State::Loading, load(0), None, "Starting(0)", head("○ Loading 0 %"), format!("{empty} {idle}")),
            (
                State::Loading,
                load(43),
                Some("m"),
                "Starting(2)",
                head("○ Loading 43 % · m"),
                format!("{empty} {idle}"),
            ),
            (
                State::Loading,
                load(100),
                Some("m"),
                "Starting(4)",
                head("○ Loading 100 % · m"),
                format!("{empty} {idle}"),
            ),
            (State::Ready, serving(0), Some("m"), "Ready", head("● Ready · m"), format!("{empty} {idle}")),
            (
                State::Ready,
                Stats { n_running: 2, n_waiting: 1, ..serving(463) },
                Some("m"),
                "Busy(First)",
                head("● Answering · m"),
                format!("Pool ▓▓▓▓▓░░░░░ 46 % · 2 running · 1 waiting {idle}"),
            ),
            (
                State::Ready,
                Stats { n_running: 1, ..serving(901) },
                Some("m"),
                "NearFull",
                head("● Memory nearly full · m"),
                format!("Pool ▓▓▓▓▓▓▓▓▓▓ 90 % · 1 running {idle}"),
            ),
            (
                State::Ready,
                Stats { heartbeat: since, ..serving(0) },
                Some("m"),
                "Failed",
                head("× Not responding · m"),
                format!("{empty} {idle}"),
            ),
            (
                draining(After::Exit),
                drain(2, 3_500_000),
                Some("m"),
                "Draining",
                head("◐ Finishing · m"),
                "Pool ▓▓░░░░░░░░ 20 % · 2 running -- [Open Chat] [Open Logs] -- \
                 Finishing 2 requests · 21 s left · saving 4 MB [Quit Now] [Cancel Quit]"
                    .to_owned(),
            ),
            (
                draining(After::Park),
                drain(1, 0),
                Some("m"),
                "Draining",
                head("◐ Finishing · m"),
                "Pool ▓▓░░░░░░░░ 20 % · 1 running -- [Open Chat] [Open Logs] -- \
                 Finishing 1 request · 21 s left [Pause Now] [Resume] [Quit Samovar]"
                    .to_owned(),
            ),
            (
                State::Parked,
                serving(0),
                Some("m"),
                "Draining",
                head("◐ Paused · m"),
                format!("{empty} -- [Open Chat] [Open Logs] -- [Resume] [Quit Samovar]"),
            ),
            (
                failed,
                stats(),
                None,
                "Failed",
                "× Failed The model’s file is not there. 127.0.0.1:8642 [Copy Address]".to_owned(),
                format!("{empty} -- [Open Chat] [Retry] [Open Logs] -- [Quit Samovar]"),
            ),
        ];
        for (state, stats, model, icon, head, rest) in rows {
            let got = show(&view(&state, &stats, &around(model)));
            assert_eq!(got, format!("{icon}: {head} {rest}"), "{state:?}");
        }
    }

    #[test]
    fn steam_has_one_picture_a_second_and_stands_still_for_those_who_want_that() {
        let since = Instant::now();
        let icon_after = |seconds, motion| {
            let now = since + Duration::from_secs(seconds);
            let stats = Stats { n_running: 1, heartbeat: now, ..Stats::default() };
            let address = String::new();
            let around = Surroundings { model: None, gpu_refusal: None, address, since, motion, now };
            view(&State::Ready, &stats, &around).icon
        };
        assert_eq!(icon_after(4, Motion::Moving), Icon::Busy(Steam::First));
        assert_eq!(icon_after(5, Motion::Moving), Icon::Busy(Steam::Second));
        assert_eq!(icon_after(5, Motion::Still), Icon::Busy(Steam::First));
    }

    #[test]
    fn a_server_that_cannot_listen_says_who_is_in_the_way_and_offers_ways_out() {
        let port = problem_view("port 8642 is in use by python3 (pid 7)", true);
        assert_eq!(
            show(&port),
            "Failed: port 8642 is in use by python3 (pid 7) -- [Show] [Retry] [Use Another Port] \
             [Open Logs] -- [Quit Samovar]"
        );
        assert!(!show(&problem_view("no key", false)).contains("Another Port"));
    }
}

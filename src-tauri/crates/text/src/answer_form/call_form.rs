//! The parts of a form: markers around thoughts, and how a call is written.

/// Markers around thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thoughts<S> {
    /// What a template or a vocabulary that has them has of the opening.
    pub(crate) sign: &'static str,
    pub(crate) open: S,
    pub(crate) close: S,
}

/// How calls are written: `block_open (call_open body call_close)+ block_close`. An empty marker is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls<S> {
    pub(crate) name: &'static str,
    /// Around all calls that follow each other. Models forget it: a call may stand without.
    pub(crate) block_open: S,
    pub(crate) block_close: S,
    /// Around one call, or where the body is a list, around that.
    pub(crate) call_open: S,
    pub(crate) call_close: S,
    /// Whether an answer may begin with a body, without any marker.
    pub(crate) bare: Bare,
    pub(crate) body: Body<S>,
}

/// Whether a body may stand without a marker, as the first thing of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bare {
    Yes,
    No,
}

/// How a call is written within its markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body<S> {
    /// A JSON object, or a list of them: `{"name": NAME, "arguments": {…}}`; where the words are empty, `{NAME: {…}}`.
    Json { name: &'static str, arguments: &'static str },
    /// `before NAME name_end {…}`; or as [`Body::Json`], if what follows the marker is an object or a list.
    Named {
        before: &'static str,
        /// A name ends where this character stands, and what follows it up to the marker is passed over.
        cut: Option<char>,
        /// As `cut`, a marker.
        cut_at: S,
        name_end: S,
    },
    /// A name and its arguments between tags.
    Tagged(Tags<S>),
    /// `[NAME(key=value, …), …]`, literals as Python's or JSON's.
    Python,
    /// `call:NAME{key:value,…}`, where `quote` stands around strings.
    Braced { quote: S },
    /// Messages in channels; a call is one to `functions.NAME`.
    Harmony(Channels<S>),
}

/// `name_open NAME name_end (key_open KEY key_end value_open VALUE value_end)* end`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tags<S> {
    pub(crate) name_open: S,
    /// Empty where a name runs to the first key or the end of the call.
    pub(crate) name_end: S,
    pub(crate) key_open: S,
    pub(crate) key_end: S,
    pub(crate) value_open: S,
    pub(crate) value_end: S,
    pub(crate) end: S,
    /// What stands between a tag and a value's own text, on either side.
    pub(crate) padding: &'static str,
    /// What may stand around a value whose text has what means something between tags: then it ends with the second.
    pub(crate) quotes: Option<(&'static str, &'static str)>,
    /// What is written between two tags.
    pub(crate) between: &'static str,
}

/// The markers of the harmony format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channels<S> {
    pub(crate) start: S,
    pub(crate) channel: S,
    pub(crate) constrain: S,
    pub(crate) message: S,
    pub(crate) end: S,
    pub(crate) call: S,
    pub(crate) done: S,
}

/// How a form has a call's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// As one JSON document.
    Document,
    /// One by one, as JSON.
    Each,
    /// One by one; texts stand as they are, up to a marker.
    EachUnquoted,
}

impl<S> Calls<S> {
    /// How it has arguments.
    pub(crate) fn arguments(&self) -> Arguments {
        match self.body {
            Body::Tagged(_) | Body::Braced { .. } => Arguments::EachUnquoted,
            Body::Python => Arguments::Each,
            Body::Json { .. } | Body::Named { .. } | Body::Harmony(_) => Arguments::Document,
        }
    }

    pub(crate) fn is_harmony(&self) -> bool {
        matches!(self.body, Body::Harmony(_))
    }
}

impl Thoughts<&'static str> {
    pub(crate) fn map(&self, marked: impl Fn(&str) -> String) -> Thoughts<String> {
        Thoughts { sign: self.sign, open: marked(self.open), close: marked(self.close) }
    }
}

impl Calls<&'static str> {
    pub(crate) fn map(&self, marked: impl Fn(&str) -> String) -> Calls<String> {
        let body = match self.body {
            Body::Json { name, arguments } => Body::Json { name, arguments },
            Body::Named { before, cut, cut_at, name_end } => {
                Body::Named { before, cut, cut_at: marked(cut_at), name_end: marked(name_end) }
            }
            Body::Tagged(tags) => Body::Tagged(Tags {
                name_open: marked(tags.name_open),
                name_end: marked(tags.name_end),
                key_open: marked(tags.key_open),
                key_end: marked(tags.key_end),
                value_open: marked(tags.value_open),
                value_end: marked(tags.value_end),
                end: marked(tags.end),
                padding: tags.padding,
                quotes: tags.quotes,
                between: tags.between,
            }),
            Body::Python => Body::Python,
            Body::Braced { quote } => Body::Braced { quote: marked(quote) },
            Body::Harmony(channels) => Body::Harmony(Channels {
                start: marked(channels.start),
                channel: marked(channels.channel),
                constrain: marked(channels.constrain),
                message: marked(channels.message),
                end: marked(channels.end),
                call: marked(channels.call),
                done: marked(channels.done),
            }),
        };
        Calls {
            name: self.name,
            block_open: marked(self.block_open),
            block_close: marked(self.block_close),
            call_open: marked(self.call_open),
            call_close: marked(self.call_close),
            bare: self.bare,
            body,
        }
    }
}

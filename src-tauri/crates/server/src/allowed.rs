//! What the lists of hosts and origins can say, and what they admit.

/// A name and, where it was written, a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    /// Lower case, without a trailing dot; an IPv6 address in brackets.
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
}

impl Authority {
    /// `name`, `name:port`, `[v6]` or `[v6]:port`.
    pub(crate) fn parse(text: &str) -> Option<Authority> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') && (!name.contains(':') || name.ends_with(']')) => {
                // `parse` would take a sign.
                let digits = port.bytes().all(|b| b.is_ascii_digit());
                (name, Some(port.parse().ok().filter(|_| digits)?))
            }
            _ => (text, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let fits = match name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        fits.then_some(Authority { name, port })
    }

    pub(crate) fn any_port(self) -> Authority {
        Authority { port: None, ..self }
    }

    /// An entry without a port admits every port: forwarded ports are common, and a page cannot forge a name.
    pub(crate) fn admits(&self, sent: &Authority) -> bool {
        self.name == sent.name && (self.port.is_none() || self.port == sent.port)
    }
}

/// An entry of the list of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AllowedOrigin {
    /// As browsers write it.
    One(String),
    /// What pages have that no other site can be told from: files, and frames in a sandbox.
    Nameless(&'static str),
    /// All of a scheme, such as an editor's own.
    Scheme(String),
}

impl AllowedOrigin {
    /// `scheme://host[:port]`, `null`, `file://` or `scheme://*`.
    pub(crate) fn parse(text: &str) -> Option<AllowedOrigin> {
        let text = text.to_ascii_lowercase();
        if let Some(nameless) = ["null", "file://"].into_iter().find(|nameless| *nameless == text) {
            return Some(AllowedOrigin::Nameless(nameless));
        }
        let (scheme, rest) = text.split_once("://")?;
        let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        match rest {
            _ if !scheme_fits => None,
            "*" => Some(AllowedOrigin::Scheme(format!("{scheme}://"))),
            _ => Authority::parse(rest).map(|_| AllowedOrigin::One(text.clone())),
        }
    }

    /// Whether pages of strangers can have it, so that only a key tells who is who.
    pub(crate) fn means_many_pages(&self) -> bool {
        !matches!(self, AllowedOrigin::One(_))
    }

    pub(crate) fn admits(&self, sent: &str) -> bool {
        match self {
            AllowedOrigin::One(ours) => ours == sent,
            AllowedOrigin::Nameless(ours) => *ours == sent,
            AllowedOrigin::Scheme(ours) => {
                sent.strip_prefix(ours.as_str()).is_some_and(|rest| !rest.is_empty())
            }
        }
    }
}

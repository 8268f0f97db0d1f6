//! Where a request stands in its client's trace: the header `traceparent` of W3C's Trace Context.

use std::num::NonZeroU128;

use axum::http::HeaderMap;
use engine::TraceId;

const TRACEPARENT: &str = "traceparent";

/// The trace that a request is part of; none where the header is not there, twice there, or not as it should be: a
/// trace that is broken elsewhere is no reason to refuse anything here.
pub(crate) fn trace_id(headers: &HeaderMap) -> Option<TraceId> {
    let mut sent = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (sent.next(), sent.next()) else { return None };
    let text = value.to_str().ok()?;
    let fields: Vec<&str> = text.split('-').collect();
    // Later versions may have more fields, and begin with these.
    let [version, trace, parent, flags, more @ ..] = fields.as_slice() else { return None };
    let known = number(version, 2).filter(|version| *version != 0xff)?;
    let has_form = number(parent, 16).is_some_and(|parent| parent != 0) && number(flags, 2).is_some();
    let has_form = has_form && (known > 0 || more.is_empty());
    number(trace, 32).filter(|_| has_form).and_then(NonZeroU128::new).map(TraceId)
}

/// So many digits, of which none is a capital.
fn number(digits: &str, n_digits: usize) -> Option<u128> {
    let are_digits = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (digits.len() == n_digits && are_digits).then(|| u128::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().unwrap());
        }
        trace_id(&headers).map(|id| id.to_string())
    }

    #[test]
    fn a_trace_is_read_from_this_version_and_from_later_ones() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        for value in [
            format!("00-{id}-b7ad6b7169203331-01"),
            format!("00-{id}-b7ad6b7169203331-ff"),
            format!("01-{id}-b7ad6b7169203331-01"),
            format!("cc-{id}-b7ad6b7169203331-01-what-the-future-will-be-like"),
        ] {
            assert_eq!(read(&[&value]).as_deref(), Some(id), "{value}");
        }
        let small = format!("00-{:032x}-{:016x}-00", 1, 1);
        assert_eq!(read(&[&small]), Some(format!("{:032x}", 1)));
    }

    #[test]
    fn what_is_not_as_it_should_be_is_passed_over() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        for value in [
            String::new(),
            "00".to_owned(),
            format!("00-{id}-b7ad6b7169203331"),
            format!("00-{id}-b7ad6b7169203331-01-more"),
            format!("ff-{id}-b7ad6b7169203331-01"),
            format!("0-{id}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", &id[1..]),
            format!("00-+{}-b7ad6b7169203331-01", &id[1..]),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-{id}-b7ad6b716920333g-01"),
            format!("00-{id}-b7ad6b7169203331-0x"),
            format!(" 00-{id}-b7ad6b7169203331-01,"),
        ] {
            assert_eq!(read(&[&value]), None, "{value}");
        }
        let good = format!("00-{id}-b7ad6b7169203331-01");
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[&good, &good]), None, "two may mean either");
    }
}

//! What a reader of a request notices that its answer cannot show: for the request's record.

use super::fields::Fields;
use crate::calls::fault::shorten;

/// More than anybody reads.
const MOST: usize = 16;

/// Remarks, each of them once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remarks(Vec<String>);

impl Remarks {
    /// Note something, unless it is noted already or there is too much of it.
    pub(crate) fn add(&mut self, remark: impl Into<String>) {
        let remark = remark.into();
        if self.0.len() < MOST && !self.0.contains(&remark) {
            self.0.push(remark);
        }
    }

    /// Note the fields of `what` that nobody has taken: newer clients' notes to other servers.
    pub(crate) fn passed_over(&mut self, what: &str, fields: &Fields<'_>) {
        for name in fields.left() {
            self.add(format!("the field '{}' of {what} is unknown and was passed over", shorten(name)));
        }
    }

    /// All of them, in the order in which they were noticed.
    pub(crate) fn into_vec(self) -> Vec<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_made_once_and_there_are_never_many() {
        let mut remarks = Remarks::default();
        remarks.add("a");
        remarks.add("b");
        remarks.add("a");
        assert_eq!(remarks.0, ["a", "b"]);
        let mut fields = Fields::of_body(br#"{"a":1,"b":null,"c":{}}"#).unwrap();
        assert_eq!(fields.take("a"), Ok(Some(1)));
        remarks.passed_over("a tool", &fields);
        assert_eq!(remarks.0[2..], ["the field 'c' of a tool is unknown and was passed over"]);
        (0..100).for_each(|n| remarks.add(n.to_string()));
        assert_eq!(remarks.into_vec().len(), MOST);
    }
}

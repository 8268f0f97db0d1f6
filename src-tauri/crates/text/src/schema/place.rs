//! Where the reader is in a schema; written down only when something is wrong there.

use super::SchemaFault;

/// Longest pointer that is shown.
const MAX_POINTER_CHARS: usize = 300;

/// A place in a schema: the way to it, as a list that lives on the stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Root,
    Name(&'p str),
    Index(usize),
    /// A reference has led here: the segments from the root.
    Elsewhere(&'p [String]),
}

impl Place<'_> {
    pub(super) const ROOT: Place<'static> = Place { parent: None, step: Step::Root };

    pub(super) fn at<'q>(&'q self, name: &'q str) -> Place<'q> {
        Place { parent: Some(self), step: Step::Name(name) }
    }

    pub(super) fn nth(&self, i: usize) -> Place<'_> {
        Place { parent: Some(self), step: Step::Index(i) }
    }

    /// The place that a reference here leads to.
    pub(super) fn elsewhere<'q>(&'q self, segments: &'q [String]) -> Place<'q> {
        Place { parent: None, step: Step::Elsewhere(segments) }
    }

    /// The last name on the way.
    pub(super) fn last(&self) -> Option<&str> {
        match self.step {
            Step::Name(name) => Some(name),
            _ => None,
        }
    }

    /// As a JSON pointer in a URI's fragment.
    pub(super) fn pointer(&self) -> String {
        let mut steps = Vec::new();
        let mut place = Some(self);
        while let Some(this) = place {
            match this.step {
                Step::Root => {}
                Step::Name(name) => steps.push(escape(name)),
                Step::Index(i) => steps.push(i.to_string()),
                Step::Elsewhere(segments) => steps.extend(segments.iter().rev().map(|step| escape(step))),
            }
            place = this.parent;
        }
        let mut pointer = String::from("#");
        for step in steps.iter().rev() {
            pointer.push('/');
            pointer.push_str(step);
        }
        match pointer.char_indices().nth(MAX_POINTER_CHARS) {
            Some((end, _)) => format!("{}…", &pointer[..end]),
            None => pointer,
        }
    }

    pub(super) fn fault(&self, message: impl Into<String>) -> SchemaFault {
        SchemaFault { pointer: self.pointer(), message: message.into() }
    }
}

fn escape(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

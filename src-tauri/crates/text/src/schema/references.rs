//! References within a schema: where they lead, and the definitions that are made of that.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// The places that references lead to.
#[derive(Debug)]
pub(super) struct References<'a> {
    root: &'a Value,
    /// A place, as the segments from the root, to the name of its definition.
    names: HashMap<Vec<String>, String>,
    definitions: Map<String, Value>,
}

impl<'a> References<'a> {
    pub(super) fn new(root: &'a Value) -> References<'a> {
        References { root, names: HashMap::new(), definitions: Map::new() }
    }

    /// The place and the schema that a reference leads to; nothing for one that leads out of the schema or nowhere.
    pub(super) fn resolve(&self, reference: &str) -> Option<(Vec<String>, &'a Value)> {
        let own_name = self.root.get("$id").and_then(Value::as_str);
        let fragment = match reference.strip_prefix('#') {
            Some(fragment) => fragment,
            // The schema's own name, with or without a fragment.
            None => {
                let rest = reference.strip_prefix(own_name?.trim_end_matches('#'))?;
                rest.strip_prefix('#').or_else(|| rest.is_empty().then_some(""))?
            }
        };
        let fragment = percent_decoded(fragment)?;
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return anchored(self.root, &fragment);
        }
        let segments: Vec<String> = fragment
            .split('/')
            .skip(1)
            .map(|segment| segment.replace("~1", "/").replace("~0", "~"))
            .collect();
        // `#/` is a common slip for `#`.
        if segments.iter().all(String::is_empty) && self.root.get("").is_none() {
            return Some((Vec::new(), self.root));
        }
        let target = segments.iter().try_fold(self.root, |value, segment| match value {
            Value::Array(list) => list.get(segment.parse::<usize>().ok()?),
            value => value.get(segment),
        })?;
        Some((segments, target))
    }

    /// The name of the definition of what is at a place, and whether it is new.
    pub(super) fn name(&mut self, place: &[String]) -> (String, bool) {
        if let Some(name) = self.names.get(place) {
            return (name.clone(), false);
        }
        let name = format!("d{}", self.names.len());
        self.names.insert(place.to_vec(), name.clone());
        (name, true)
    }

    pub(super) fn define(&mut self, name: &str, definition: Value) {
        self.definitions.insert(name.to_owned(), definition);
    }

    pub(super) fn into_definitions(self) -> Map<String, Value> {
        self.definitions
    }
}

/// The schema that calls itself `name` by `$anchor`.
fn anchored<'a>(root: &'a Value, name: &str) -> Option<(Vec<String>, &'a Value)> {
    let mut waiting: Vec<(Vec<String>, &Value)> = vec![(Vec::new(), root)];
    while let Some((place, value)) = waiting.pop() {
        let step = |segment: String| {
            let mut place = place.clone();
            place.push(segment);
            place
        };
        match value {
            Value::Object(object) => {
                if object.get("$anchor").and_then(Value::as_str) == Some(name) {
                    return Some((place, value));
                }
                waiting.extend(object.iter().map(|(key, value)| (step(key.clone()), value)));
            }
            Value::Array(list) => {
                waiting.extend(list.iter().enumerate().map(|(i, value)| (step(i.to_string()), value)));
            }
            _ => {}
        }
    }
    None
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

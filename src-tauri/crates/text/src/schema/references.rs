//! References within a schema: where they lead, and the definitions that are made of that.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

use serde_json::{Map, Value};

/// The places that references lead to.
#[derive(Debug)]
pub(super) struct References<'a> {
    root: &'a Value,
    /// What calls itself something; looked for once, by the first reference to a name.
    anchors: OnceCell<Anchors<'a>>,
    /// A place, as the segments from the root, to the name of its definition.
    names: HashMap<Vec<String>, String>,
    definitions: Map<String, Value>,
}

impl<'a> References<'a> {
    pub(super) fn new(root: &'a Value) -> References<'a> {
        References { root, anchors: OnceCell::new(), names: HashMap::new(), definitions: Map::new() }
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
            return self.anchors.get_or_init(|| Anchors::of(self.root)).named(&fragment);
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

    /// A schema that stands in many places, as one word that can be said in each: what is made of a client's schema must
    /// not be much longer than it.
    pub(super) fn said_once(&mut self, schema: Value) -> Value {
        if schema.is_boolean() {
            return schema;
        }
        let name = format!("v{}", self.definitions.len());
        let reference = format!("#/$defs/{name}");
        self.define(&name, schema);
        serde_json::json!({"$ref": reference})
    }

    pub(super) fn define(&mut self, name: &str, definition: Value) {
        self.definitions.insert(name.to_owned(), definition);
    }

    pub(super) fn into_definitions(self) -> Map<String, Value> {
        self.definitions
    }
}

/// The schemas that call themselves something by `$anchor`.
#[derive(Debug)]
struct Anchors<'a> {
    /// All objects and lists: each by the one that it lies in and by what it is called there. The first is the root.
    steps: Vec<(usize, Cow<'a, str>)>,
    named: HashMap<&'a str, (usize, &'a Value)>,
}

impl<'a> Anchors<'a> {
    fn of(root: &'a Value) -> Anchors<'a> {
        let mut anchors = Anchors { steps: vec![(0, "".into())], named: HashMap::new() };
        let mut waiting = vec![(0, root)];
        while let Some((at, value)) = waiting.pop() {
            if let Some(name) = value.get("$anchor").and_then(Value::as_str) {
                anchors.named.entry(name).or_insert((at, value));
            }
            let within: Vec<(Cow<'a, str>, &Value)> = match value {
                Value::Object(object) => object.iter().map(|(key, value)| (key.into(), value)).collect(),
                Value::Array(list) => {
                    list.iter().enumerate().map(|(i, v)| (i.to_string().into(), v)).collect()
                }
                _ => continue,
            };
            for (name, value) in within {
                if value.is_object() || value.is_array() {
                    waiting.push((anchors.steps.len(), value));
                    anchors.steps.push((at, name));
                }
            }
        }
        anchors
    }

    fn named(&self, name: &str) -> Option<(Vec<String>, &'a Value)> {
        let &(mut at, value) = self.named.get(name)?;
        let mut place = Vec::new();
        while at != 0 {
            let (parent, step) = &self.steps[at];
            place.push(step.clone().into_owned());
            at = *parent;
        }
        place.reverse();
        Some((place, value))
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_calls_itself_something_is_found_where_it_is_however_much_there_is_and_how_often() {
        let many: Vec<Value> = (0..200_000).map(|i| json!({"$anchor": format!("a{i}")})).collect();
        let root = json!({"$defs": {"many": many, "x~/y": {"items": {"$anchor": "here"}}}});
        let references = References::new(&root);
        // To look through it each time would take hours.
        for i in 0..200_000 {
            let (place, _) = references.resolve(&format!("#a{i}")).unwrap();
            assert_eq!(place, ["$defs", "many", &i.to_string()]);
        }
        assert_eq!(references.resolve("#here").unwrap().0, ["$defs", "x~/y", "items"]);
        assert_eq!(references.resolve("#nowhere"), None);
    }
}

//! How much the grammar library makes of schemas that are combined.
//!
//! It copies each alternative of one with each of those of the others, and counts how many it makes but not how large
//! they are. Here the same is done with sizes alone, before it begins.

use serde_json::{Map, Value};

/// Bytes of what combining makes, of all schemas together.
const MAX_BYTES: usize = 64 << 20;
/// A schema of few words takes as much memory.
const SCHEMA_BYTES: usize = 64;
/// Schemas that are looked at for that.
const MAX_STEPS: usize = 1_000_000;
/// Schemas within each other that are combined; the library refuses what lies deeper.
const MAX_DEPTH: usize = 128;

/// Patterns and formats of one string: what matches all of them grows with each.
const MAX_PATTERNS: usize = 8;

/// Combining makes too much.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TooMuch {
    Bytes,
    Patterns,
}

impl TooMuch {
    pub(super) fn message(&self) -> String {
        match self {
            TooMuch::Bytes => {
                format!("schemas that are combined with each other would have more than {MAX_BYTES} bytes")
            }
            TooMuch::Patterns => format!("more than {MAX_PATTERNS} patterns are combined with each other"),
        }
    }
}

/// That what combining makes of a schema that has been read, and of its definitions, stays within bounds.
pub(super) fn check(schema: &Value) -> Result<(), TooMuch> {
    let definitions = schema.get("$defs").and_then(Value::as_object);
    let mut merging = Merging { definitions, n_bytes: 0, n_steps: 0 };
    let definitions = definitions.into_iter().flat_map(|definitions| definitions.values());
    definitions.chain([schema]).try_for_each(|schema| merging.walk(schema))
}

struct Merging<'s> {
    definitions: Option<&'s Map<String, Value>>,
    n_bytes: usize,
    n_steps: usize,
}

/// What holds for one value at the same time as others.
#[derive(Clone, Copy)]
enum Part<'s> {
    Schema(&'s Value),
    /// A schema's words without those that combine.
    Own(&'s Map<String, Value>),
    Alternatives(&'s [Value]),
    Values(&'s [Value]),
    Value(&'s Value),
}

impl<'s> Merging<'s> {
    /// Looks for schemas that are combined, in a schema and in those within it.
    fn walk(&mut self, schema: &'s Value) -> Result<(), TooMuch> {
        let Some(object) = schema.as_object() else { return Ok(()) };
        if n_groups(object) > 1 {
            self.meet(&[Part::Schema(schema)], 0)?;
        }
        for (keyword, value) in object {
            match keyword.as_str() {
                "properties" | "patternProperties" => {
                    value.as_object().into_iter().flatten().try_for_each(|(_, value)| self.walk(value))?;
                }
                "anyOf" | "oneOf" | "allOf" | "prefixItems" | "items" if value.is_array() => {
                    value.as_array().into_iter().flatten().try_for_each(|value| self.walk(value))?;
                }
                "items" | "additionalItems" | "additionalProperties" => self.walk(value)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn step(&mut self, n: usize) -> Result<(), TooMuch> {
        self.n_steps += n;
        if self.n_steps > MAX_STEPS { Err(TooMuch::Bytes) } else { Ok(()) }
    }

    fn grow(&mut self, n_bytes: usize) -> Result<(), TooMuch> {
        self.n_bytes += n_bytes;
        if self.n_bytes > MAX_BYTES { Err(TooMuch::Bytes) } else { Ok(()) }
    }

    /// Adds up what is made where all these hold.
    fn meet(&mut self, parts: &[Part<'s>], depth: usize) -> Result<(), TooMuch> {
        if depth > MAX_DEPTH {
            return Ok(());
        }
        let (mut single, alternatives) = self.flat(parts)?;
        let Some((last, others)) = alternatives.split_last() else { return self.meet_single(&single, depth) };
        single.extend(others);
        let options: Vec<Part<'s>> = match last {
            Part::Alternatives(list) => list.iter().map(Part::Schema).collect(),
            Part::Values(list) => list.iter().map(Part::Value).collect(),
            _ => Vec::new(),
        };
        for option in options {
            single.push(option);
            self.meet(&single, depth)?;
            single.pop();
        }
        Ok(())
    }

    /// The parts without combinations, and apart from them those that are alternatives.
    fn flat(&mut self, parts: &[Part<'s>]) -> Result<(Vec<Part<'s>>, Vec<Part<'s>>), TooMuch> {
        let mut waiting = parts.to_vec();
        let (mut single, mut alternatives, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(part) = waiting.pop() {
            self.step(1)?;
            let object = match part {
                Part::Schema(Value::Object(object)) => object,
                Part::Schema(_) => continue,
                Part::Alternatives(_) | Part::Values(_) => {
                    alternatives.push(part);
                    continue;
                }
                Part::Own(_) | Part::Value(_) => {
                    single.push(part);
                    continue;
                }
            };
            if has_own(object) {
                single.push(Part::Own(object));
            }
            for (keyword, value) in object {
                match (keyword.as_str(), value) {
                    ("$ref", Value::String(name)) if !seen.contains(&name) => {
                        seen.push(name);
                        waiting.extend(self.definition(name).map(Part::Schema));
                    }
                    ("allOf", Value::Array(list)) => waiting.extend(list.iter().map(Part::Schema)),
                    ("anyOf" | "oneOf", Value::Array(list)) => alternatives.push(Part::Alternatives(list)),
                    ("enum", Value::Array(list)) => alternatives.push(Part::Values(list)),
                    ("const", value) => single.push(Part::Value(value)),
                    _ => {}
                }
            }
        }
        Ok((single, alternatives))
    }

    fn definition(&self, reference: &str) -> Option<&'s Value> {
        self.definitions?.get(reference.strip_prefix("#/$defs/")?)
    }

    /// The same of parts that are no combinations.
    fn meet_single(&mut self, parts: &[Part<'s>], depth: usize) -> Result<(), TooMuch> {
        self.step(parts.len())?;
        if let [Part::Own(object)] = parts {
            return self.grow(object.iter().map(|(name, value)| name.len() + size(value)).sum());
        }
        self.grow(SCHEMA_BYTES)?;
        let mut objects = Vec::new();
        for part in parts {
            match part {
                Part::Value(value) => self.grow(size(value))?,
                Part::Own(object) => objects.push(*object),
                Part::Schema(_) | Part::Alternatives(_) | Part::Values(_) => {}
            }
        }
        let n_patterns =
            objects.iter().filter(|o| o.contains_key("pattern") || o.contains_key("format")).count();
        if n_patterns > MAX_PATTERNS {
            return Err(TooMuch::Patterns);
        }
        for (keyword, value) in objects.iter().copied().flatten() {
            if !matches!(
                keyword.as_str(),
                "properties" | "patternProperties" | "additionalProperties" | "items" | "prefixItems"
            ) && !combines(keyword)
            {
                self.grow(size(value))?;
            }
        }
        for keyword in ["properties", "patternProperties"] {
            let named: Vec<&'s Map<String, Value>> =
                objects.iter().filter_map(|object| object.get(keyword)?.as_object()).collect();
            for (i, names) in named.iter().enumerate() {
                for name in names.keys() {
                    if named[..i].iter().any(|names| names.contains_key(name)) {
                        continue;
                    }
                    self.grow(name.len())?;
                    let of_name = |object: &&'s Map<String, Value>| {
                        let named = object.get(keyword).and_then(|names| names.get(name));
                        named.or_else(|| object.get("additionalProperties")).map(Part::Schema)
                    };
                    self.meet_within(objects.iter().filter_map(of_name).collect(), depth)?;
                }
            }
        }
        let list = |object: &'s Map<String, Value>| object.get("prefixItems").and_then(Value::as_array);
        let n_items = objects.iter().filter_map(|object| list(object)).map(Vec::len).max().unwrap_or(0);
        for i in 0..n_items {
            let of_item = |object: &&'s Map<String, Value>| {
                let item = list(object).and_then(|items| items.get(i));
                item.or_else(|| object.get("items")).map(Part::Schema)
            };
            self.meet_within(objects.iter().filter_map(of_item).collect(), depth)?;
        }
        for keyword in ["additionalProperties", "items"] {
            let all = objects.iter().filter_map(|object| object.get(keyword)).map(Part::Schema);
            self.meet_within(all.collect(), depth)?;
        }
        Ok(())
    }

    /// The same of schemas within those that meet: one alone is copied as it is, and a reference stays one.
    fn meet_within(&mut self, parts: Vec<Part<'s>>, depth: usize) -> Result<(), TooMuch> {
        self.step(1)?;
        match parts.as_slice() {
            [] => Ok(()),
            [Part::Schema(schema)] => self.grow(size(schema)),
            parts => self.meet(parts, depth + 1),
        }
    }
}

/// How many schemas are combined where this one stands.
fn n_groups(object: &Map<String, Value>) -> usize {
    let combined = object.iter().filter(|(keyword, _)| combines(keyword));
    let n_combined: usize = combined
        .map(|(keyword, value)| match value {
            Value::Array(list) if keyword == "allOf" => list.len(),
            _ => 1,
        })
        .sum();
    n_combined + usize::from(has_own(object))
}

fn combines(keyword: &str) -> bool {
    matches!(keyword, "$ref" | "allOf" | "anyOf" | "oneOf" | "enum" | "const")
}

fn has_own(object: &Map<String, Value>) -> bool {
    object.keys().any(|keyword| !combines(keyword) && keyword != "$defs")
}

/// Bytes of a schema as it is copied.
fn size(value: &Value) -> usize {
    SCHEMA_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::Array(list) => list.iter().map(size).sum(),
            Value::Object(object) => object.iter().map(|(name, value)| name.len() + size(value)).sum(),
            _ => 0,
        }
}

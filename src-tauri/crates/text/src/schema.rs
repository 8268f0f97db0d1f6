//! A client's JSON schema, read before any library sees it.
//!
//! What comes out holds an answer to no more than the client's schema says, uses nothing that the grammar library
//! lacks, and lies within bounds on size, depth and width, so that building a grammar from it cannot take a stack
//! or a processor away. A keyword that cannot be held to is dropped, as an annotation would be, unless the client
//! wants a strict schema: then it is refused where it stands. Texts that describe are dropped.

mod alternatives;
mod depth;
mod fault;
mod merging;
mod numbers;
mod patterns;
mod place;
mod references;
mod values;

use serde_json::{Map, Value, json};

use depth::Depth;
pub use fault::SchemaFault;
use numbers::Divisor;
use place::Place;
use references::References;
use values::{count, is_open, required, stands_alone, text, types};

pub(crate) use values::MAX_PROPERTIES;

/// Bytes of a schema as JSON text.
pub(crate) const MAX_SCHEMA_BYTES: usize = 256 << 10;
/// How deep schemas may lie within each other, references counted as what they lead to.
pub(crate) const MAX_DEPTH: usize = 2_000;
/// Schemas, and values of enumerations, in all.
pub(crate) const MAX_PARTS: usize = 20_000;
/// Longer strings and lists than any answer has.
const MAX_COUNT: u64 = 1 << 20;
/// Lists and objects within each other where a schema does not bound it.
const UNBOUNDED_NESTING: usize = 16;

/// What happens to keywords that cannot be held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// They are passed over, as annotations are.
    Lenient,
    /// The schema is refused where they stand.
    Strict,
}

/// A schema that a grammar can be built from.
#[derive(Debug)]
pub(crate) struct ReadSchema {
    pub(crate) schema: Value,
    /// Lists and objects within each other, as far as the schema bounds them.
    pub(crate) nesting: usize,
    /// The first `oneOf`, whose alternatives the library may find to overlap.
    pub(crate) one_of: Option<String>,
    /// The first `patternProperties`, whose patterns the library may find to overlap.
    pub(crate) pattern_properties: Option<String>,
}

impl ReadSchema {
    /// What is known of a grammar of calls, whose schemas were read one by one.
    pub(crate) fn of_calls() -> ReadSchema {
        ReadSchema { schema: Value::Null, nesting: 0, one_of: None, pattern_properties: None }
    }
}

/// Reads a schema.
///
/// # Errors
/// It is not a JSON schema, goes beyond a bound, or cannot be held to and is strict; with the place.
pub(crate) fn read(schema: &Value, strictness: Strictness) -> Result<ReadSchema, SchemaFault> {
    read_part(schema, schema, &Place::ROOT, strictness)
}

/// Reads the schema of one of an object's properties; references lead to anywhere in the object's. That one is known to
/// lie within the bounds.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_property(
    object: &Value,
    name: &str,
    strictness: Strictness,
) -> Result<ReadSchema, SchemaFault> {
    let properties = Place::ROOT.at("properties");
    let any = Value::Object(Map::new());
    let schema = match object.get("properties").and_then(|properties| properties.get(name)) {
        None | Some(Value::Bool(true)) => &any,
        Some(schema) => schema,
    };
    read_part(schema, object, &properties.at(name), strictness)
}

fn read_part(
    schema: &Value,
    root: &Value,
    at: &Place<'_>,
    strictness: Strictness,
) -> Result<ReadSchema, SchemaFault> {
    if !schema.is_object() {
        return Err(at.fault("it is not an object"));
    }
    let text = schema.to_string();
    if text.len() > MAX_SCHEMA_BYTES {
        let message = format!("the schema has {} bytes, at most {MAX_SCHEMA_BYTES} are taken", text.len());
        return Err(at.fault(message));
    }
    let combiners = [r#""allOf""#, r#""anyOf""#, r#""oneOf""#, r#""$ref""#];
    let mut reader = Reader {
        references: References::new(root),
        strictness,
        n_parts: 0,
        nesting: 0,
        width: 0,
        combines: combiners.iter().any(|combiner| text.contains(combiner)),
        divisors: Vec::new(),
        one_of: None,
        pattern_properties: None,
    };
    let mut read = reader.schema(schema, at, Depth::default())?;
    let definitions = reader.references.into_definitions();
    if let (Value::Object(object), false) = (&mut read, definitions.is_empty()) {
        object.insert("$defs".into(), definitions.into());
    }
    merging::check(&read).map_err(|too_much| Place::ROOT.fault(too_much.message()))?;
    Ok(ReadSchema {
        schema: read,
        nesting: reader.nesting,
        one_of: reader.one_of,
        pattern_properties: reader.pattern_properties,
    })
}

struct Reader<'a> {
    references: References<'a>,
    strictness: Strictness,
    n_parts: usize,
    nesting: usize,
    /// The squares of all objects' numbers of properties, added up.
    width: usize,
    /// Whether schemas are combined anywhere, so that one number may have several divisors.
    combines: bool,
    divisors: Vec<Divisor>,
    one_of: Option<String>,
    pattern_properties: Option<String>,
}

impl<'a> Reader<'a> {
    fn count(&mut self, n: usize, at: &Place<'_>) -> Result<(), SchemaFault> {
        self.n_parts += n;
        if self.n_parts > MAX_PARTS {
            return Err(at.fault(format!("the schema has more than {MAX_PARTS} parts")));
        }
        Ok(())
    }

    /// One more object: a grammar grows with the square of its properties.
    fn widen(&mut self, n_properties: usize, at: &Place<'_>) -> Result<(), SchemaFault> {
        self.width += n_properties * n_properties;
        if self.width > MAX_PROPERTIES * MAX_PROPERTIES {
            let message = format!("the schema has objects of more properties than {MAX_PROPERTIES}");
            return Err(at.fault(message));
        }
        Ok(())
    }

    /// Whether multiples of one more number can be held to.
    fn takes(&mut self, divisor: Divisor) -> bool {
        if !self.divisors.contains(&divisor) {
            self.divisors.push(divisor);
            if self.combines && !numbers::can_meet(&self.divisors) {
                self.divisors.pop();
                return false;
            }
        }
        true
    }

    /// Drops what cannot be held to, or refuses it.
    fn drop_or_refuse(&self, at: &Place<'_>, message: &str) -> Result<(), SchemaFault> {
        match self.strictness {
            Strictness::Lenient => Ok(()),
            Strictness::Strict => Err(at.fault(message)),
        }
    }

    fn schema(&mut self, schema: &'a Value, at: &Place<'_>, depth: Depth) -> Result<Value, SchemaFault> {
        self.count(1, at)?;
        if depth.schemas > MAX_DEPTH {
            return Err(at.fault(format!("the schema is nested more than {MAX_DEPTH} deep")));
        }
        self.nesting = self.nesting.max(depth.nesting);
        let object = match schema {
            Value::Bool(all) => {
                if *all {
                    self.nesting = self.nesting.max(UNBOUNDED_NESTING);
                }
                return Ok(schema.clone());
            }
            Value::Object(object) => object,
            _ => return Err(at.fault("a schema must be an object or a boolean")),
        };
        let mut read = Map::new();
        for (keyword, value) in object {
            self.keyword(object, keyword, value, &at.at(keyword), depth, &mut read)?;
        }
        if is_open(&read) {
            self.nesting = self.nesting.max(UNBOUNDED_NESTING);
        }
        self.property_names(object, at, &mut read)?;
        numbers::hold_to_representable_bounds(&mut read, at)?;
        patterns::bound_addresses(&mut read);
        if object.get("nullable") == Some(&Value::Bool(true)) {
            return Ok(json!({"anyOf": [Value::Object(read), {"type": "null"}]}));
        }
        Ok(Value::Object(read))
    }

    fn keyword(
        &mut self,
        all: &'a Map<String, Value>,
        keyword: &str,
        value: &'a Value,
        at: &Place<'_>,
        depth: Depth,
        read: &mut Map<String, Value>,
    ) -> Result<(), SchemaFault> {
        let taken = match keyword {
            "type" => types(value, at)?,
            "$ref" => self.reference(value, at, depth)?,
            "const" => {
                self.count(1, at)?;
                numbers::check_exact(value, at)?;
                value.clone()
            }
            "enum" => {
                let values = value.as_array().filter(|values| !values.is_empty());
                let values = values.ok_or_else(|| at.fault("must be a list of at least one value"))?;
                self.count(values.len(), at)?;
                for (i, value) in values.iter().enumerate() {
                    numbers::check_exact(value, &at.nth(i))?;
                }
                value.clone()
            }
            "anyOf" | "oneOf" | "allOf" => {
                let schemas = self.schemas(value, at, depth.beside())?;
                if keyword == "oneOf" {
                    if alternatives::are_told_apart(value, &self.references) && !all.contains_key("anyOf") {
                        // No value fits two of them.
                        read.insert("anyOf".into(), schemas);
                        return Ok(());
                    }
                    self.one_of.get_or_insert_with(|| at.pointer());
                }
                schemas
            }
            "items" if value.is_array() => self.schemas(value, at, depth.within())?,
            "prefixItems" => self.schemas(value, at, depth.within())?,
            "items" | "additionalItems" | "additionalProperties" => self.schema(value, at, depth.within())?,
            "properties" => self.properties(value, at, depth.within())?,
            "patternProperties" => return self.pattern_properties(value, at, depth.within(), read),
            "required" => required(value, at)?,
            "minItems" | "minLength" | "minProperties" => match count(value, at)? {
                n if n > MAX_COUNT => return Err(at.fault(format!("no answer can be so long: {n}"))),
                n => self.property_count(all, keyword, n, at)?,
            },
            "maxItems" | "maxLength" | "maxProperties" => match count(value, at)? {
                n if n > MAX_COUNT => return Ok(()),
                n => self.property_count(all, keyword, n, at)?,
            },
            "pattern" => match patterns::read(text(value, at)?, at)? {
                patterns::Pattern::Exact(pattern) => pattern.into(),
                patterns::Pattern::Wider(pattern) => {
                    self.drop_or_refuse(at, "look-ahead in a pattern cannot be held to")?;
                    pattern.into()
                }
                patterns::Pattern::None => {
                    let message = "the pattern is not a regular expression that can be held to";
                    return self.drop_or_refuse(at, message);
                }
            },
            "format" => {
                // An annotation: one that nobody knows is passed over, however strict the schema is.
                let Some(format) = patterns::known_format(text(value, at)?) else { return Ok(()) };
                format.into()
            }
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                match numbers::bound(value, at)? {
                    Some(bound) => bound,
                    None => return Ok(()),
                }
            }
            "multipleOf" => {
                let divisor = numbers::divisor(value, at)?;
                if !divisor.is_some_and(|divisor| self.takes(divisor)) {
                    return self.drop_or_refuse(at, "multiples of this number cannot be held to");
                }
                value.clone()
            }
            // Tools that write schemas say with these what is so anyway.
            "uniqueItems" if value == &Value::Bool(false) => return Ok(()),
            "unevaluatedItems" | "unevaluatedProperties" if value == &Value::Bool(true) => return Ok(()),
            "unevaluatedProperties" if value == &Value::Bool(false) && stands_alone(all) => {
                read.insert("additionalProperties".into(), false.into());
                return Ok(());
            }
            "uniqueItems"
            | "contains"
            | "minContains"
            | "maxContains"
            | "not"
            | "if"
            | "then"
            | "else"
            | "dependencies"
            | "dependentRequired"
            | "dependentSchemas"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "$dynamicRef"
            | "$recursiveRef" => {
                return self.drop_or_refuse(at, &format!("'{keyword}' cannot be held to"));
            }
            // Definitions are read where they are referred to; all else describes.
            _ => return Ok(()),
        };
        read.insert(keyword.into(), taken);
        Ok(())
    }

    fn schemas(&mut self, value: &'a Value, at: &Place<'_>, depth: Depth) -> Result<Value, SchemaFault> {
        let list = value.as_array().ok_or_else(|| at.fault("must be a list of schemas"))?;
        if list.is_empty() && at.last() != Some("prefixItems") && at.last() != Some("items") {
            return Err(at.fault("must have at least one schema"));
        }
        let read = list.iter().enumerate().map(|(i, schema)| self.schema(schema, &at.nth(i), depth));
        read.collect::<Result<Vec<Value>, _>>().map(Value::from)
    }

    fn properties(&mut self, value: &'a Value, at: &Place<'_>, depth: Depth) -> Result<Value, SchemaFault> {
        let properties = value.as_object().ok_or_else(|| at.fault("must be an object of schemas"))?;
        self.widen(properties.len(), at)?;
        let mut read = Map::new();
        for (name, schema) in properties {
            read.insert(name.clone(), self.schema(schema, &at.at(name), depth)?);
        }
        Ok(read.into())
    }

    fn pattern_properties(
        &mut self,
        value: &'a Value,
        at: &Place<'_>,
        depth: Depth,
        read: &mut Map<String, Value>,
    ) -> Result<(), SchemaFault> {
        let properties = value.as_object().ok_or_else(|| at.fault("must be an object of schemas"))?;
        if self.pattern_properties.is_none() {
            self.pattern_properties = Some(at.pointer());
        }
        let mut usable = Map::new();
        for (pattern, schema) in properties {
            let at = at.at(pattern);
            let schema = self.schema(schema, &at, depth)?;
            match patterns::read(pattern, &at)? {
                patterns::Pattern::Exact(pattern) => {
                    usable.insert(pattern, schema);
                }
                // A wider pattern would forbid names that the client's does not; without any, other names pass
                // only where they may.
                patterns::Pattern::Wider(_) | patterns::Pattern::None => {
                    self.drop_or_refuse(&at, "the pattern of a property's name cannot be held to")?;
                }
            }
        }
        if !usable.is_empty() {
            read.insert("patternProperties".into(), usable.into());
        }
        Ok(())
    }

    /// `propertyNames`, where it can be said in other words: schemas for dictionaries have nothing else.
    fn property_names(
        &mut self,
        object: &'a Map<String, Value>,
        at: &Place<'_>,
        read: &mut Map<String, Value>,
    ) -> Result<(), SchemaFault> {
        let Some(names) = object.get("propertyNames") else { return Ok(()) };
        let at = at.at("propertyNames");
        let names = match names {
            Value::Bool(true) => return Ok(()),
            Value::Object(names) => names,
            _ => return self.drop_or_refuse(&at, "'propertyNames' must be an object"),
        };
        let names = match names.get("$ref") {
            Some(reference) => match self.references.resolve(text(reference, &at.at("$ref"))?) {
                Some((_, Value::Object(names))) => names,
                _ => return Err(at.at("$ref").fault("there is nothing at this reference")),
            },
            None => names,
        };
        let limits = |keyword: &String| {
            !matches!(
                keyword.as_str(),
                "type" | "title" | "description" | "$comment" | "default" | "examples"
            )
        };
        let limits: Vec<&String> = names.keys().filter(|keyword| limits(keyword)).collect();
        let is_free = !read.contains_key("properties") && !read.contains_key("patternProperties");
        match limits.as_slice() {
            [] => return Ok(()),
            [one] if is_free && matches!(one.as_str(), "enum" | "const") => {
                let listed = &names[one.as_str()];
                let listed = listed.as_array().map_or(std::slice::from_ref(listed), Vec::as_slice);
                self.count(listed.len(), &at)?;
                let values = self.values(read);
                let values = self.references.said_once(values);
                let properties: Map<String, Value> = listed
                    .iter()
                    .filter_map(|name| Some((name.as_str()?.to_owned(), values.clone())))
                    .collect();
                self.widen(properties.len(), &at)?;
                read.insert("properties".into(), properties.into());
                read.insert("additionalProperties".into(), false.into());
            }
            [one] if is_free && *one == "pattern" => {
                let of_names = at.at("pattern");
                let pattern = patterns::read(text(&names["pattern"], &of_names)?, &of_names)?;
                let patterns::Pattern::Exact(pattern) = pattern else {
                    return self.drop_or_refuse(&at, "the pattern of the names cannot be held to");
                };
                let values = self.values(read);
                read.insert("patternProperties".into(), json!({pattern: values}));
                read.insert("additionalProperties".into(), false.into());
            }
            _ => return self.drop_or_refuse(&at, "'propertyNames' cannot be held to here"),
        }
        Ok(())
    }

    /// What values an object that has been read may have beside those that it names.
    fn values(&mut self, read: &mut Map<String, Value>) -> Value {
        match read.get_mut("additionalProperties") {
            Some(values) => values.take(),
            None => {
                self.nesting = self.nesting.max(UNBOUNDED_NESTING);
                true.into()
            }
        }
    }

    /// The schema that a reference leads to is read once, where it is first met, as the library does.
    fn reference(&mut self, value: &Value, at: &Place<'_>, depth: Depth) -> Result<Value, SchemaFault> {
        let reference = text(value, at)?;
        let Some((place, target)) = self.references.resolve(reference) else {
            return Err(
                at.fault("there is nothing at this reference; only places in the schema itself are known")
            );
        };
        // What refers to itself may be as deep as it likes.
        self.nesting = self.nesting.max(UNBOUNDED_NESTING);
        let (name, is_new) = self.references.name(&place);
        if is_new {
            let definition = self.schema(target, &at.elsewhere(&place), depth.beside())?;
            self.references.define(&name, definition);
        }
        Ok(format!("#/$defs/{name}").into())
    }

    /// Bounds on the number of properties hold only where all named ones must be there.
    fn property_count(
        &self,
        all: &Map<String, Value>,
        keyword: &str,
        n: u64,
        at: &Place<'_>,
    ) -> Result<Value, SchemaFault> {
        if keyword.ends_with("Properties") && n > 0 {
            let named = all.get("properties").and_then(Value::as_object);
            let required = all.get("required").and_then(Value::as_array);
            let is_required =
                |name: &String| required.is_some_and(|required| required.iter().any(|other| other == name));
            if named.is_some_and(|named| named.keys().any(|name| !is_required(name))) {
                self.drop_or_refuse(
                    at,
                    "the number of properties cannot be held to where some are optional",
                )?;
            }
        }
        Ok(n.into())
    }
}

#[cfg(test)]
mod tests;

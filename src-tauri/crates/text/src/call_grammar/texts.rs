//! What a schema says of a text that stands without quotes.

use serde_json::Value;

use super::lark::Lark;

/// How deep schemas lie within each other, those that references lead to among them.
const MAX_DEPTH: usize = 8;
/// Bytes of words and schemas that are looked at.
const MAX_BYTES: usize = 256 << 10;
/// What a word or a schema counts beside its own bytes.
const BYTES_EACH: usize = 32;

/// What a text may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    /// One of these; anything, where nobody says.
    words: Option<Vec<String>>,
    /// Characters.
    min: u64,
    max: Option<u64>,
}

impl Texts {
    /// What texts fit a schema, as the library reads it; all others are of other types.
    ///
    /// # Errors
    /// The keyword that says more than can be held to without quotes.
    pub(crate) fn new(schema: &Value) -> Result<Texts, &'static str> {
        Reader { root: schema, n_bytes: 0 }.of(schema, MAX_DEPTH)
    }

    /// Such a text, and what closes it.
    pub(crate) fn rule(&self, lark: &mut Lark<'_>, close: &str) -> String {
        match &self.words {
            Some(words) => {
                let words: Vec<String> = words.iter().map(|word| lark.text(word)).collect();
                format!("({}) {}", words.join(" | "), lark.text(close))
            }
            None => lark.text_until(close, self.min, self.max),
        }
    }

    /// Such a text and its closing tag, where one that has what means something between tags stands in quotes.
    pub(crate) fn quoted_rule(&self, lark: &mut Lark<'_>, quotes: (&str, &str), close: &str) -> String {
        let (open, end) = (lark.text(quotes.0), format!("{}{close}", quotes.1));
        let close = lark.text(close);
        match &self.words {
            Some(words) => {
                let words = words.iter().map(|word| match word.contains(['<', '&', '\n']) {
                    true => format!("{open} {} {}", lark.text(word), lark.text(&end)),
                    false => format!("{} {close}", lark.text(word)),
                });
                format!("({})", words.collect::<Vec<_>>().join(" | "))
            }
            None => {
                let max = self.max.map_or(String::new(), |max| max.to_string());
                let plain = match max.as_str() {
                    "0" => "\"\"".to_owned(),
                    _ => lark.rule(&format!(r"/[^<&\n]{{{},{max}}}/", self.min.max(1))),
                };
                let plain = if self.min == 0 { format!("({plain})?") } else { plain };
                let quoted = lark.text_until(&end, self.min, self.max);
                format!("({open} {quoted} | {plain} {close})")
            }
        }
    }

    fn is_free(&self) -> bool {
        *self == Texts::default()
    }
}

/// Reads schemas. References may lead round in circles, and many at once: what is looked at is bounded in all.
struct Reader<'a> {
    root: &'a Value,
    n_bytes: usize,
}

impl Reader<'_> {
    fn count(&mut self, n_bytes: usize, keyword: &'static str) -> Result<(), &'static str> {
        self.n_bytes += BYTES_EACH + n_bytes;
        if self.n_bytes > MAX_BYTES { Err(keyword) } else { Ok(()) }
    }

    fn of(&mut self, schema: &Value, depth: usize) -> Result<Texts, &'static str> {
        self.count(0, "$ref")?;
        let within = depth.checked_sub(1).ok_or("$ref")?;
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let found = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return self.of(found.ok_or("$ref")?, within);
        }
        for keyword in ["pattern", "format", "allOf"] {
            if schema.get(keyword).is_some() {
                return Err(keyword);
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(schemas) = schema.get(keyword).and_then(Value::as_array) {
                return self.any_of(schemas, within).ok_or(keyword);
            }
        }
        let listed = schema.get("enum").and_then(Value::as_array).map(Vec::as_slice);
        let words = match listed.or(schema.get("const").map(std::slice::from_ref)) {
            None => None,
            Some(values) => {
                let mut words = Vec::with_capacity(values.len());
                for value in values {
                    let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    self.count(word.len(), "enum")?;
                    words.push(word);
                }
                Some(words)
            }
        };
        let count = |name: &str| schema.get(name).and_then(Value::as_u64);
        Ok(Texts { words, min: count("minLength").unwrap_or(0), max: count("maxLength") })
    }

    /// What fits one of several schemas, as far as that can be said in one.
    fn any_of(&mut self, schemas: &[Value], depth: usize) -> Option<Texts> {
        let has_type = |schema: &Value, name: &str| match schema.get("type") {
            None => true,
            Some(Value::Array(names)) => names.iter().any(|own| own == name),
            Some(own) => own == name,
        };
        let texts: Option<Vec<Texts>> = schemas
            .iter()
            .filter(|schema| has_type(schema, "string"))
            .map(|schema| self.of(schema, depth).ok())
            .collect();
        let texts = texts?;
        if texts.iter().any(Texts::is_free) {
            return Some(Texts::default());
        }
        let null =
            schemas.iter().filter(|schema| has_type(schema, "null")).map(|_| "null".to_owned()).take(1);
        match texts.as_slice() {
            [one] if one.words.is_none() => Some(one.clone()),
            texts => {
                let lists: Option<Vec<Vec<String>>> = texts.iter().map(|texts| texts.words.clone()).collect();
                let words = lists?.concat().into_iter().chain(null).collect();
                Some(Texts { words: Some(words), ..Texts::default() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_says_what_a_text_may_be_or_more_than_can_be_held_to() {
        let free = Texts::default();
        let words = |words: &[&str]| Texts {
            words: Some(words.iter().map(|word| (*word).to_owned()).collect()),
            ..Texts::default()
        };
        let of = |schema: Value| Texts::new(&schema);
        assert_eq!(of(json!({"type": "string"})), Ok(free.clone()));
        assert_eq!(of(json!({"enum": ["a", null]})), Ok(words(&["a", "null"])));
        assert_eq!(of(json!({"const": "a"})), Ok(words(&["a"])));
        assert_eq!(
            of(json!({"type": "string", "minLength": 1, "maxLength": 3})),
            Ok(Texts { words: None, min: 1, max: Some(3) })
        );
        let reference = json!({"$ref": "#/$defs/a", "$defs": {"a": {"enum": ["x"]}}});
        assert_eq!(of(reference), Ok(words(&["x"])));
        assert_eq!(of(json!({"anyOf": [{"type": "string"}, {"type": "null"}]})), Ok(free));
        assert_eq!(
            of(json!({"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}, {"type": "integer"}]})),
            Ok(words(&["a", "null"]))
        );
        assert_eq!(of(json!({"type": "string", "pattern": "a+"})), Err("pattern"));
        assert_eq!(of(json!({"type": "string", "format": "date"})), Err("format"));
        assert_eq!(
            of(json!({"anyOf": [{"type": "string", "pattern": "a"}, {"type": "null"}]})),
            Err("anyOf")
        );
        assert_eq!(of(json!({"$ref": "#"})), Err("$ref"));
        let all = vec![json!({"$ref": "#"}); 2_000];
        assert_eq!(of(json!({"anyOf": all})), Err("anyOf"), "each leads to all of them");
    }
}

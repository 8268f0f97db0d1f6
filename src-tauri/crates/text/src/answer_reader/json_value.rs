//! Where a JSON value ends, found character by character.

/// How far a value has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// The character is part of it.
    Inside,
    /// The character is its last one.
    Last,
    /// The character is no part of it any more.
    Beyond,
}

/// Follows one value. It looks at brackets and strings and nothing else: a value that is broken ends somewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct JsonScanner {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    in_scalar: bool,
}

impl JsonScanner {
    /// Takes the next character. The first one must be no white space.
    pub(crate) fn take(&mut self, c: char) -> Scan {
        if self.in_string {
            if self.is_escaped {
                self.is_escaped = false;
            } else if c == '\\' {
                self.is_escaped = true;
            } else if c == '"' {
                self.in_string = false;
                return self.ended();
            }
            return Scan::Inside;
        }
        match c {
            ',' | '}' | ']' | ' ' | '\n' | '\r' | '\t' if self.in_scalar && self.depth == 0 => Scan::Beyond,
            '}' | ']' if self.depth == 0 => Scan::Beyond,
            '"' => {
                self.in_scalar = false;
                self.in_string = true;
                Scan::Inside
            }
            '{' | '[' => {
                self.in_scalar = false;
                self.depth += 1;
                Scan::Inside
            }
            '}' | ']' => {
                self.depth -= 1;
                self.ended()
            }
            _ => {
                self.in_scalar = self.depth == 0;
                Scan::Inside
            }
        }
    }

    fn ended(&self) -> Scan {
        if self.depth == 0 { Scan::Last } else { Scan::Inside }
    }
}

/// The inside of a JSON string as the text that it stands for, character by character.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unescaped {
    /// An escape that is not complete yet, maybe with the one before it that it makes a character with.
    pending: String,
}

impl Unescaped {
    /// Takes the next character, and appends what it completes.
    pub(crate) fn take(&mut self, c: char, out: &mut String) {
        const MAX: usize = "\\ud83d\\ude00".len();
        if self.pending.is_empty() && c != '\\' {
            out.push(c);
            return;
        }
        self.pending.push(c);
        let is_surrogate = |text: &str| text.starts_with("\\ud8") || text.starts_with("\\uD8");
        let is_high = is_surrogate(&self.pending)
            || ["\\ud9", "\\uda", "\\udb", "\\uD9", "\\uDA", "\\uDB", "\\uDa", "\\uDb", "\\udA", "\\udB"]
                .iter()
                .any(|high| self.pending.starts_with(high));
        let wanted = match self.pending.as_bytes() {
            [_] => return,
            [_, b'u', ..] if is_high => MAX,
            [_, b'u', ..] => 6,
            _ => 2,
        };
        let goes_on = self.pending.len() < wanted
            && !(self.pending.len() > 6 && !"\\u".starts_with(&self.pending[6..self.pending.len().min(8)]));
        if goes_on {
            return;
        }
        let text = std::mem::take(&mut self.pending);
        match serde_json::from_str::<String>(&format!("\"{text}\"")) {
            Ok(text) => out.push_str(&text),
            // An escape that is none: as it stands.
            Err(_) => out.push_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> usize {
        let mut scanner = JsonScanner::default();
        for (at, c) in text.char_indices() {
            match scanner.take(c) {
                Scan::Inside => {}
                Scan::Last => return at + c.len_utf8(),
                Scan::Beyond => return at,
            }
        }
        panic!("no end of {text}")
    }

    #[test]
    fn a_value_ends_with_its_bracket_its_quote_or_what_follows_it() {
        for (text, want) in [
            (r#"{"a":[1,{"b":"}"}]} x"#, 19),
            (r#""a\"b" ,"#, 6),
            ("12.5,", 4),
            ("true}", 4),
            ("null ]", 4),
            (r#"["\\"]"#, 6),
        ] {
            assert_eq!(end(text), want, "{text}");
        }
    }

    #[test]
    fn escapes_are_what_they_stand_for() {
        let text = |escaped: &str| {
            let (mut unescaped, mut out) = (Unescaped::default(), String::new());
            escaped.chars().for_each(|c| unescaped.take(c, &mut out));
            out
        };
        assert_eq!(text(r#"a\"b\\\n\u00e9"#), "a\"b\\\né");
        assert_eq!(text(r"\ud83d\ude00!"), "😀!");
        assert_eq!(text(r"\x"), r"\x");
    }
}

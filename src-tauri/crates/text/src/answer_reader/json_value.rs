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
        if self.pending.is_empty() && c != '\\' {
            out.push(c);
            return;
        }
        self.pending.push(c);
        match escape(&self.pending) {
            Escape::Begun => {}
            Escape::Whole => {
                let text = std::mem::take(&mut self.pending);
                // One that stands for nothing stands as it is.
                out.push_str(&serde_json::from_str::<String>(&format!("\"{text}\"")).unwrap_or(text));
            }
            Escape::None => {
                // Its beginning stands as it is; what ended it may begin another.
                let text = std::mem::take(&mut self.pending);
                let n = text.rfind('\\').filter(|&at| at > 0).unwrap_or(text.len() - c.len_utf8());
                out.push_str(&text[..n]);
                text[n..].chars().for_each(|c| self.take(c, out));
            }
        }
    }

    /// The string ends: appends what was not complete, as it stands.
    pub(crate) fn finish(&mut self, out: &mut String) {
        out.push_str(&std::mem::take(&mut self.pending));
    }
}

/// What a text is that begins with a backslash.
enum Escape {
    Begun,
    Whole,
    None,
}

fn escape(text: &str) -> Escape {
    const N_DIGITS: usize = 4;
    let [_, b'u', rest @ ..] = text.as_bytes() else {
        return if text.len() > 1 { Escape::Whole } else { Escape::Begun };
    };
    let (digits, rest) = rest.split_at(rest.len().min(N_DIGITS));
    let number = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    if !number(digits) {
        return Escape::None;
    }
    // The first half of a pair makes a character with the second.
    let is_first_half = matches!(digits, [b'd' | b'D', b'8' | b'9' | b'a' | b'A' | b'b' | b'B', ..]);
    match rest {
        _ if digits.len() < N_DIGITS => Escape::Begun,
        [] if !is_first_half => Escape::Whole,
        [] | [b'\\'] => Escape::Begun,
        [b'\\', b'u', second @ ..] if number(second) => {
            if second.len() < N_DIGITS {
                Escape::Begun
            } else {
                Escape::Whole
            }
        }
        _ => Escape::None,
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
            unescaped.finish(&mut out);
            out
        };
        assert_eq!(text(r#"a\"b\\\n\u00e9"#), "a\"b\\\né");
        assert_eq!(text(r"\ud83d\ude00!"), "😀!");
        assert_eq!(text(r"\x"), r"\x");
        assert_eq!(text(r"\ud83d\n\ud83😀\ud8é"), "\\ud83d\n\\ud83😀\\ud8é", "halves of pairs");
        assert_eq!(text(r"\ud83d\u00e"), r"\ud83d\u00e", "cut");
    }
}

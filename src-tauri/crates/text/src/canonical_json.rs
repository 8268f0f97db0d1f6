//! JSON as a value: one spelling for all texts that mean the same.
//!
//! Clients read what a model wrote and write it again: with other white space, other escapes, their keys in order,
//! `1.0` where there was `1`. What is left of all that is the value.

/// Values within each other.
const MAX_DEPTH: usize = 128;
/// Digits of an exponent that is calculated with; a number with a longer one equals only what is written like it.
const MAX_EXPONENT_DIGITS: usize = 12;

/// The one spelling of the value that `text` is. None where it is no JSON, lies too deep, or has a key twice in one
/// object, which means different things to different readers.
pub(crate) fn canonical(text: &str) -> Option<Vec<u8>> {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    let mut out = Vec::with_capacity(text.len());
    reader.value(&mut out, MAX_DEPTH)?;
    reader.space();
    (reader.at == reader.text.len()).then_some(out)
}

/// Whether a text is JSON that has a key twice in one object.
pub fn has_key_twice(text: &str) -> bool {
    canonical(text).is_none() && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.space();
        match self.peek()? {
            b'{' => self.object(out, depth.checked_sub(1)?),
            b'[' => self.list(out, depth.checked_sub(1)?),
            b'"' => {
                let text = self.string()?;
                write_string(&text, out);
                Some(())
            }
            b'-' | b'0'..=b'9' => self.number(out),
            _ => {
                let word = ["true", "false", "null"]
                    .into_iter()
                    .find(|word| self.text[self.at..].starts_with(word.as_bytes()))?;
                self.at += word.len();
                out.extend_from_slice(word.as_bytes());
                Some(())
            }
        }
    }

    fn object(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.at += 1;
        let mut members: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
        } else {
            loop {
                self.space();
                if self.peek()? != b'"' {
                    return None;
                }
                let key = self.string()?;
                self.space();
                if self.next()? != b':' {
                    return None;
                }
                let mut value = Vec::new();
                self.value(&mut value, depth)?;
                members.push((key, value));
                self.space();
                match self.next()? {
                    b',' => {}
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return None;
        }
        out.push(b'{');
        for (key, value) in members {
            write_string(&key, out);
            out.extend(value);
        }
        out.push(b'}');
        Some(())
    }

    fn list(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.at += 1;
        out.push(b'[');
        self.space();
        if self.peek()? == b']' {
            self.at += 1;
        } else {
            loop {
                self.value(out, depth)?;
                out.push(b',');
                self.space();
                match self.next()? {
                    b',' => {}
                    b']' => break,
                    _ => return None,
                }
            }
        }
        out.push(b']');
        Some(())
    }

    /// A string's text. Half of a surrogate pair, which no text can have, is written as if it were a character: it
    /// equals nothing but itself.
    fn string(&mut self) -> Option<Vec<u8>> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(text),
                b'\\' => self.escape(&mut text)?,
                0..=0x1f => return None,
                byte => text.push(byte),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Option<()> {
        text.push(match self.next()? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let unit = self.unit()?;
                let low = self.low_half().filter(|_| (0xd800..0xdc00).contains(&unit));
                match low {
                    Some(low) => {
                        self.at += 6;
                        write_code_point(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00), text);
                    }
                    None => write_code_point(unit, text),
                }
                return Some(());
            }
            _ => return None,
        });
        Some(())
    }

    fn unit(&mut self) -> Option<u32> {
        let hex = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        hex.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    }

    /// The second half of a surrogate pair, if it comes next.
    fn low_half(&self) -> Option<u32> {
        let rest = self.text[self.at..].strip_prefix(b"\\u")?;
        let unit = Reader { text: rest, at: 0 }.unit()?;
        (0xdc00..0xe000).contains(&unit).then_some(unit)
    }

    fn digits(&mut self) -> &[u8] {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        &self.text[from..self.at]
    }

    /// A number as its digits without zeros at either end, and a power of ten: exact, however long it is.
    fn number(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let from = self.at;
        let is_negative = self.peek() == Some(b'-');
        self.at += usize::from(is_negative);
        let mut digits = self.digits().to_vec();
        if digits.is_empty() || (digits.len() > 1 && digits[0] == b'0') {
            return None;
        }
        let mut exponent = 0_i64;
        if self.peek() == Some(b'.') {
            self.at += 1;
            let fraction = self.digits();
            if fraction.is_empty() {
                return None;
            }
            exponent -= fraction.len() as i64;
            digits.extend_from_slice(fraction);
        }
        let mut is_out_of_reach = false;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let is_below = self.peek() == Some(b'-');
            self.at += usize::from(matches!(self.peek(), Some(b'-' | b'+')));
            let power = self.digits();
            if power.is_empty() {
                return None;
            }
            let n_zeros = power.iter().take_while(|digit| **digit == b'0').count();
            let power = &power[n_zeros..];
            is_out_of_reach = power.len() > MAX_EXPONENT_DIGITS;
            let power = power.iter().take(MAX_EXPONENT_DIGITS);
            let power = power.fold(0, |power, digit| power * 10 + i64::from(digit - b'0'));
            exponent += if is_below { -power } else { power };
        }
        let first = digits.iter().position(|digit| *digit != b'0');
        let Some(first) = first else {
            out.extend_from_slice(b"0;");
            return Some(());
        };
        if is_out_of_reach {
            out.push(b'~');
            out.extend_from_slice(&self.text[from..self.at]);
            out.push(b';');
            return Some(());
        }
        let end = digits.iter().rposition(|digit| *digit != b'0').map_or(digits.len(), |last| last + 1);
        exponent += (digits.len() - end) as i64;
        if is_negative {
            out.push(b'-');
        }
        out.extend_from_slice(&digits[first..end]);
        out.extend_from_slice(format!("e{exponent};").as_bytes());
        Some(())
    }
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("\"{}:", text.len()).as_bytes());
    out.extend_from_slice(text);
}

/// UTF-8, halves of surrogate pairs included.
fn write_code_point(code: u32, out: &mut Vec<u8>) {
    let low = |shift: u32| 0x80 | (code >> shift & 0x3f) as u8;
    match code {
        0..=0x7f => out.push(code as u8),
        0x80..=0x7ff => out.extend([0xc0 | (code >> 6) as u8, low(0)]),
        0x800..=0xffff => out.extend([0xe0 | (code >> 12) as u8, low(6), low(0)]),
        _ => out.extend([0xf0 | (code >> 18) as u8, low(12), low(6), low(0)]),
    }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn what_means_the_same_is_spelt_the_same() {
        for same in [
            &[
                r#"{"a":1,"b":[true,null]}"#,
                " { \"b\" : [ true , null ] , \"a\" : 1.0 }\n",
                r#"{"\u0061":1e0,"b":[true,null]}"#,
            ][..],
            &["1", "1.0", "1.00e0", "10e-1", "0.1E1", "100e-2", "1e+0", "1e-00"],
            &["0", "-0", "0.0", "0e99999999999999999999", "-0.000"],
            &["12345678901234567890123", "12345678901234567890123.0", "1234567890123456789012.3e1"],
            &[r#""é😀/\n""#, r#""\u00e9\ud83d\ude00\/\u000a""#, r#""\u00E9\uD83D\uDE00/\n""#],
            &["[]", " [ ] "],
            &["{}", "{ \n}"],
        ] {
            let first = canonical(same[0]);
            assert!(first.is_some(), "{}", same[0]);
            for other in same {
                assert_eq!(canonical(other), first, "{other} and {}", same[0]);
            }
        }
    }

    #[test]
    fn what_differs_in_value_is_spelt_otherwise() {
        let all = [
            "1",
            "-1",
            "10",
            "1.5",
            "1.0000000000000000000000001",
            "12345678901234567890123",
            "12345678901234567890124",
            "1e400",
            "1e401",
            "1e9999999999999999",
            "1e99999999999999999",
            "true",
            "\"true\"",
            "null",
            "\"1\"",
            "[1]",
            "[[1]]",
            "[1,1]",
            "{}",
            "[]",
            "\"\"",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"A":1}"#,
            r#""a ""#,
            r#""a""#,
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ufffd""#,
            r#"["a","b"]"#,
            r#"["a\",\"b"]"#,
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(canonical(one).is_some(), "{one}");
            for other in &all[..i] {
                assert_ne!(canonical(one), canonical(other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn what_is_no_json_or_has_a_key_twice_has_no_value() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "NaN",
            "\"a",
            "\"\n\"",
            "\"\\x\"",
            "1 2",
            "{\"a\" 1}",
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"b":{"a":1,"a":2}}]"#,
            "\"\\u12\"",
            "tru",
        ] {
            assert_eq!(canonical(text), None, "{text}");
        }
        assert!(super::has_key_twice(r#"[{"a":1,"a":1}]"#));
        assert!(!super::has_key_twice(r#"[{"a":1},{"a":1}]"#) && !super::has_key_twice("{a"));
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(canonical(&nested(128)).is_some());
        assert!(canonical(&nested(129)).is_none());
        assert!(canonical(&nested(1_000_000)).is_none());
    }
}

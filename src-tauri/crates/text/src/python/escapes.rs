//! Escapes in strings, as Python reads them.

/// What a string says whose inside this is.
///
/// # Errors
/// It has an escape that is none.
pub(crate) fn unescaped(inner: &str) -> Result<String, String> {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mut chars = rest[at + 1..].chars();
        let Some(c) = chars.next() else { return Err("a string ends with a backslash".into()) };
        let simple = match c {
            '\n' => Some(None),
            '\\' | '\'' | '"' => Some(Some(c)),
            'a' => Some(Some('\x07')),
            'b' => Some(Some('\x08')),
            'f' => Some(Some('\x0c')),
            'n' => Some(Some('\n')),
            'r' => Some(Some('\r')),
            't' => Some(Some('\t')),
            'v' => Some(Some('\x0b')),
            _ => None,
        };
        let mut after = chars.as_str();
        match (simple, c) {
            (Some(meant), _) => out.extend(meant),
            (None, '0'..='7') => {
                let start = &rest[at + 1..];
                let n = start.bytes().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                out.extend(u32::from_str_radix(&start[..n], 8).ok().and_then(char::from_u32));
                after = &start[n..];
            }
            (None, 'x' | 'u' | 'U') => {
                let n_digits = match c {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let (code, n) = code_point(after, n_digits)?;
                out.push(code);
                after = &after[n..];
            }
            (None, 'N') => return Err("a string names a character, \\N{…}, which is not supported".into()),
            // Python writes what is not ASCII as an escape of its own before it looks at the backslash.
            (None, c) if !c.is_ascii() => match u32::from(c) {
                code @ ..0x100 => out.push_str(&format!("\\x{code:02x}")),
                code @ ..0x1_0000 => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
            (None, c) => out.extend(['\\', c]),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The character of so many hexadecimal digits, of two such escapes where they are a pair of surrogates, and the bytes
/// that it takes.
fn code_point(text: &str, n_digits: usize) -> Result<(char, usize), String> {
    let hexadecimal = |text: &str| {
        let digits = text.get(..n_digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok())
    };
    let wrong = || format!("a string has an escape that is no character: {text:.8}");
    let first = hexadecimal(text).ok_or_else(wrong)?;
    if let Some(c) = char::from_u32(first) {
        return Ok((c, n_digits));
    }
    let second = text[n_digits..].strip_prefix("\\u").and_then(hexadecimal).ok_or_else(wrong)?;
    let pair = [first, second].map(|unit| u16::try_from(unit).unwrap_or_default());
    match char::decode_utf16(pair).next() {
        Some(Ok(c)) => Ok((c, 2 * n_digits + 2)),
        _ => Err(wrong()),
    }
}

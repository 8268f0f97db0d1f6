//! Calls as JSON: an object with a name and arguments, or a list of such objects.

use super::found::is_space;
use super::json_value::{JsonScanner, Scan, Unescaped};
use super::said::{MAX_NAME_BYTES, Read, Said, is_offered, say};
use crate::Tool;

/// Bytes of arguments that stand before the name of their function.
const MAX_EARLY_BYTES: usize = 64 << 10;

/// Reads calls that are written as JSON.
#[derive(Debug)]
pub(crate) struct JsonCalls {
    name_key: &'static str,
    arguments_key: &'static str,
    /// Whether nothing before it says that this is a call: then its first key must.
    is_bare: bool,
    is_list: bool,
    at: At,
    /// Objects that were opened within the call's own, for `{"type": "function", "function": {…}}`.
    n_within: usize,
    has_name: bool,
    has_arguments: bool,
    /// Arguments of a function whose name is not there yet.
    early: String,
    /// A key or a name so far, raw.
    word: String,
    is_escaped: bool,
    scanner: JsonScanner,
    unescaped: Unescaped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Item,
    Member,
    Key,
    Colon(Value),
    Value(Value),
    Name,
    Arguments,
    /// Arguments as a string that is JSON.
    QuotedArguments,
    Other,
}

/// What a member's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Name,
    Arguments,
    Function,
    Other,
}

impl JsonCalls {
    pub(crate) fn new(name_key: &'static str, arguments_key: &'static str, is_bare: bool) -> JsonCalls {
        JsonCalls {
            name_key,
            arguments_key,
            is_bare,
            is_list: false,
            at: At::Start,
            n_within: 0,
            has_name: false,
            has_arguments: false,
            early: String::new(),
            word: String::new(),
            is_escaped: false,
            scanner: JsonScanner::default(),
            unescaped: Unescaped::default(),
        }
    }

    /// Reads on.
    pub(crate) fn read(&mut self, text: &str, tools: &[Tool], said: &mut Vec<Said>) -> Read {
        for (at, c) in text.char_indices() {
            match self.take(c, tools, said) {
                Step::On => {}
                Step::Again => {
                    // A character that ended a number is no part of it; it never comes here twice.
                    match self.take(c, tools, said) {
                        Step::On | Step::Again => {}
                        Step::Ended => return Read::Took(at + c.len_utf8()),
                        Step::Done => return Read::Done(at + c.len_utf8()),
                        Step::Refuse => return Read::Refuse(at),
                    }
                }
                Step::Ended => return Read::Took(at + c.len_utf8()),
                Step::Done => return Read::Done(at + c.len_utf8()),
                Step::Refuse => return Read::Refuse(at),
            }
        }
        Read::Wait(text.len())
    }

    fn take(&mut self, c: char, tools: &[Tool], said: &mut Vec<Said>) -> Step {
        match self.at {
            At::Start | At::Item | At::Member | At::Colon(_) if is_space(c) => Step::On,
            At::Start => match c {
                '[' if !self.is_bare => {
                    self.is_list = true;
                    self.go(At::Item)
                }
                '{' => self.go(At::Member),
                _ => Step::Refuse,
            },
            At::Item => match c {
                ',' => Step::On,
                '{' => self.go(At::Member),
                ']' => Step::Done,
                _ => Step::Refuse,
            },
            At::Member => match c {
                ',' => Step::On,
                '"' => self.go(At::Key),
                '}' if self.n_within > 0 => {
                    self.n_within -= 1;
                    Step::On
                }
                '}' => self.end_of_call(said),
                _ => Step::Refuse,
            },
            At::Key => self.word(c, |this, word| this.key(word, tools, said)),
            At::Colon(value) => {
                if c == ':' {
                    self.go(At::Value(value))
                } else {
                    Step::Refuse
                }
            }
            At::Value(_) if is_space(c) => Step::On,
            At::Value(value) => self.value(value, c, said),
            At::Name => self.name(c, tools, said),
            At::Arguments => self.arguments(c, said),
            At::QuotedArguments => self.quoted_arguments(c, said),
            At::Other => match self.scanner.take(c) {
                Scan::Inside => Step::On,
                Scan::Last => self.go(At::Member),
                Scan::Beyond => {
                    self.at = At::Member;
                    Step::Again
                }
            },
        }
    }

    fn go(&mut self, at: At) -> Step {
        self.at = at;
        Step::On
    }

    /// One more character of a string that is kept until it is whole.
    fn word(&mut self, c: char, whole: impl FnOnce(&mut JsonCalls, String) -> Step) -> Step {
        if c == '"' && !self.is_escaped {
            let raw = std::mem::take(&mut self.word);
            let word = serde_json::from_str::<String>(&format!("\"{raw}\"")).unwrap_or(raw);
            return whole(self, word);
        }
        self.is_escaped = c == '\\' && !self.is_escaped;
        self.word.push(c);
        if self.word.len() > MAX_NAME_BYTES { Step::Refuse } else { Step::On }
    }

    fn key(&mut self, key: String, tools: &[Tool], said: &mut Vec<Said>) -> Step {
        if self.name_key.is_empty() && !self.has_name {
            return match self.begin_call(key, tools, said) {
                Step::On => self.go(At::Colon(Value::Arguments)),
                step => step,
            };
        }
        let value = match key.as_str() {
            key if key == self.name_key => Value::Name,
            // Models trained on one word say the other.
            key if key == self.arguments_key => Value::Arguments,
            "arguments" | "parameters" => Value::Arguments,
            "function" => Value::Function,
            "type" | "id" => Value::Other,
            _ if self.is_bare && !self.has_name => return Step::Refuse,
            _ => Value::Other,
        };
        self.go(At::Colon(value))
    }

    fn value(&mut self, value: Value, c: char, said: &mut Vec<Said>) -> Step {
        match (value, c) {
            (Value::Name | Value::Function, '"') if !self.has_name => self.go(At::Name),
            (Value::Function, '{') if self.n_within == 0 => {
                self.n_within += 1;
                self.go(At::Member)
            }
            (Value::Name, _) => Step::Refuse,
            (Value::Arguments, _) if !self.has_arguments => {
                self.has_arguments = true;
                self.scanner = JsonScanner::default();
                if c == '"' {
                    self.unescaped = Unescaped::default();
                    return self.go(At::QuotedArguments);
                }
                self.at = At::Arguments;
                self.arguments(c, said)
            }
            _ => {
                self.scanner = JsonScanner::default();
                self.at = At::Other;
                match self.scanner.take(c) {
                    Scan::Inside => Step::On,
                    Scan::Last | Scan::Beyond => Step::Refuse,
                }
            }
        }
    }

    fn name(&mut self, c: char, tools: &[Tool], said: &mut Vec<Said>) -> Step {
        self.word(c, |this, name| this.begin_call(name, tools, said))
    }

    fn begin_call(&mut self, name: String, tools: &[Tool], said: &mut Vec<Said>) -> Step {
        if !is_offered(tools, &name) {
            return Step::Refuse;
        }
        self.has_name = true;
        said.push(Said::Name(name));
        say(said, &std::mem::take(&mut self.early));
        self.go(At::Member)
    }

    fn arguments(&mut self, c: char, said: &mut Vec<Said>) -> Step {
        match self.scanner.take(c) {
            Scan::Beyond => {
                self.at = At::Member;
                Step::Again
            }
            scan => {
                if scan == Scan::Last {
                    self.at = At::Member;
                }
                self.say(c.encode_utf8(&mut [0; 4]), said)
            }
        }
    }

    fn quoted_arguments(&mut self, c: char, said: &mut Vec<Said>) -> Step {
        let mut text = String::new();
        if c == '"' && !self.is_escaped {
            self.at = At::Member;
            self.unescaped.finish(&mut text);
            return self.say(&text, said);
        }
        self.is_escaped = c == '\\' && !self.is_escaped;
        self.unescaped.take(c, &mut text);
        self.say(&text, said)
    }

    fn say(&mut self, arguments: &str, said: &mut Vec<Said>) -> Step {
        if self.has_name {
            say(said, arguments);
            return Step::On;
        }
        self.early.push_str(arguments);
        if self.early.len() > MAX_EARLY_BYTES { Step::Refuse } else { Step::On }
    }

    fn end_of_call(&mut self, said: &mut Vec<Said>) -> Step {
        if !self.has_name {
            return Step::Refuse;
        }
        if !self.has_arguments {
            say(said, "{}");
        }
        said.push(Said::End);
        self.has_name = false;
        self.has_arguments = false;
        self.at = At::Item;
        if self.is_list { Step::Ended } else { Step::Done }
    }
}

/// What became of a character.
enum Step {
    /// It is done.
    On,
    /// It ended something, and is to be taken again.
    Again,
    /// It ended a call of a list.
    Ended,
    /// It ended the calls.
    Done,
    /// It is no part of a call.
    Refuse,
}

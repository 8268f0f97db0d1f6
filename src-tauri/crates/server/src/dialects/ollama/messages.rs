//! The messages of a chat call.

use std::collections::VecDeque;

use serde_json::value::RawValue;
use text::{ChatMessage, ToolCall};

use crate::calls::fault::{Fault, shorten};
use crate::dialects::fields::{Fields, RawList};

/// Take `messages` out of a body; there may be none.
///
/// # Errors
/// One of them is not what a chat template can show; the error names which and where.
pub(crate) fn take_messages(fields: &mut Fields<'_>) -> Result<Vec<ChatMessage>, Fault> {
    let Some(RawList(given)) = fields.take_large("messages")? else { return Ok(Vec::new()) };
    let mut reader = Reader::default();
    given.iter().enumerate().map(|(i, message)| reader.read(&format!("messages[{i}]"), message)).collect()
}

/// Reads messages, and finds which call a result is of: clients of this API need not say.
#[derive(Default)]
struct Reader {
    n_calls: usize,
    /// The calls that have no result yet: id and name.
    unanswered: VecDeque<(String, String)>,
}

impl Reader {
    fn read(&mut self, path: &str, message: &RawValue) -> Result<ChatMessage, Fault> {
        let mut fields = Fields::of_value(path, message)?;
        let role = fields.need::<String>("role")?;
        if !["system", "user", "assistant", "tool"].contains(&role.as_str()) {
            let message = format!("'{}' is none of system, user, assistant or tool", shorten(&role));
            return Err(Fault::invalid(fields.path("role"), message));
        }
        fields.refuse("images", &["[]"])?;
        let content = fields.take_large::<String>("content")?.unwrap_or_default();
        let mut message = ChatMessage::new(role, content);
        let thinking = fields.take_large::<String>("thinking")?;
        message.thinking = thinking.filter(|thinking| !thinking.is_empty());
        if let Some(calls) = fields.take_large::<RawList<'_>>("tool_calls")? {
            let calls_path = fields.path("tool_calls");
            let calls = calls.0.into_iter().enumerate();
            let calls = calls.map(|(i, call)| self.call(&format!("{calls_path}[{i}]"), call));
            message.tool_calls = calls.collect::<Result<_, _>>()?;
        }
        if message.role == "tool" {
            let name = match fields.take::<String>("tool_name")? {
                Some(name) => Some(name),
                // As it was called once.
                None => fields.take("name")?,
            };
            let id = fields.take::<String>("tool_call_id")?.filter(|id| !id.is_empty());
            let (id, name) = self.result_of(id, name.filter(|name| !name.is_empty()));
            (message.tool_call_id, message.name) = (id, name);
        }
        // What else is there was another server's.
        Ok(message)
    }

    fn call(&mut self, path: &str, call: &RawValue) -> Result<ToolCall, Fault> {
        let mut fields = Fields::of_value(path, call)?;
        let id = fields.take::<String>("id")?.filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| format!("call_{}", self.n_calls));
        self.n_calls += 1;
        let function_path = fields.path("function");
        let Some(function) = fields.take_large::<&RawValue>("function")? else {
            return Err(Fault::missing(function_path));
        };
        let mut function = Fields::of_value(&function_path, function)?;
        let name = function.need::<String>("name")?;
        let arguments = match function.take_large::<&RawValue>("arguments")? {
            None => "{}".to_owned(),
            Some(arguments) if arguments.get().starts_with('{') => arguments.get().to_owned(),
            Some(_) => return Err(Fault::invalid(function.path("arguments"), "an object is wanted")),
        };
        self.unanswered.push_back((id.clone(), name.clone()));
        Ok(ToolCall { id, name, arguments })
    }

    /// Id and name of the call that a result is of: the one that it names, or the first one that has none.
    fn result_of(&mut self, id: Option<String>, name: Option<String>) -> (Option<String>, Option<String>) {
        let is_it = |(call, function): &(String, String)| match (&id, &name) {
            (Some(id), _) => call == id,
            (None, Some(name)) => function == name,
            (None, None) => true,
        };
        let Some(at) = self.unanswered.iter().position(is_it) else { return (id, name) };
        match self.unanswered.remove(at) {
            Some((call, function)) => (Some(call), Some(function)),
            None => (id, name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(messages: &str) -> Result<Vec<ChatMessage>, Fault> {
        let body = format!(r#"{{"messages":{messages}}}"#);
        take_messages(&mut Fields::of_body(body.as_bytes())?)
    }

    #[test]
    fn messages_are_taken_with_what_clients_always_send_beside_them() {
        let messages = take(
            r#"[{"role":"system","content":"s"},{"role":"user","content":"hi","images":[]},
            {"role":"assistant","content":"","thinking":"hm","tool_calls":[]},{"role":"user","images":null}]"#,
        )
        .unwrap();
        let roles: Vec<&str> = messages.iter().map(|message| message.role.as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user"]);
        assert_eq!(messages[2].thinking.as_deref(), Some("hm"));
        assert_eq!(take("null"), Ok(Vec::new()));
    }

    #[test]
    fn a_result_finds_its_call_by_id_by_name_or_in_turn() {
        let call = |name: &str, id: &str| {
            format!(r#"{{{id}"function":{{"name":"{name}","arguments":{{"a": 1}}}}}}"#)
        };
        let messages = take(&format!(
            r#"[{{"role":"assistant","tool_calls":[{},{},{}]}},
            {{"role":"tool","content":"1","tool_name":"b"}},{{"role":"tool","content":"2"}},
            {{"role":"tool","content":"3","tool_call_id":"x"}},{{"role":"tool","content":"4","tool_name":"d"}}]"#,
            call("a", ""),
            call("b", ""),
            call("c", r#""id":"x","#)
        ))
        .unwrap();
        let ids: Vec<&str> = messages[0].tool_calls.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(ids, ["call_0", "call_1", "x"]);
        assert_eq!(messages[0].tool_calls[0].arguments, r#"{"a": 1}"#);
        let results: Vec<_> = messages[1..]
            .iter()
            .map(|message| (message.tool_call_id.as_deref(), message.name.as_deref()))
            .collect();
        assert_eq!(
            results,
            [
                (Some("call_1"), Some("b")),
                (Some("call_0"), Some("a")),
                (Some("x"), Some("c")),
                (None, Some("d"))
            ]
        );
    }

    #[test]
    fn what_cannot_be_shown_to_the_model_is_refused_where_it_stands() {
        for (messages, place) in [
            ("7", "messages"),
            ("[7]", "messages[0]"),
            ("[{}]", "messages[0].role"),
            (r#"[{"role":"owner"}]"#, "messages[0].role"),
            (r#"[{"role":"user","content":7}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":"x","images":["aGk="]}]"#, "messages[0].images"),
            (r#"[{"role":"assistant","tool_calls":[{}]}]"#, "messages[0].tool_calls[0].function"),
            (
                r#"[{"role":"assistant","tool_calls":[{"function":{"name":"a","arguments":"{}"}}]}]"#,
                "messages[0].tool_calls[0].function.arguments",
            ),
        ] {
            assert_eq!(take(messages).unwrap_err().place.as_deref(), Some(place), "{messages}");
        }
    }
}

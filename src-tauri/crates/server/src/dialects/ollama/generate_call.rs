//! `POST /api/generate`.

use text::ChatMessage;

use super::lines::Form;
use super::parameters::{Parameters, Wanted, chat};
use crate::calls::call::{Names, Prompt};
use crate::calls::fault::Fault;
use crate::calls::tools::Tools;
use crate::dialects::fields::Fields;

const NAMES: Names = Names {
    prompt: "prompt",
    format: "format",
    schema: "format",
    tools: "tools",
    tool_choice: "tools",
    logit_bias: "logit_bias",
};

/// What a body asks for: to answer a prompt as a user's message, or to go on with it as it is.
///
/// # Errors
/// A value is of the wrong type, out of range or not supported.
pub(crate) fn parse(body: &[u8]) -> Result<Wanted, Fault> {
    let mut fields = Fields::of_body(body)?;
    let prompt = fields.take_large::<String>("prompt")?.unwrap_or_default();
    let system = fields.take_large::<String>("system")?.filter(|system| !system.is_empty());
    let is_raw = fields.take::<bool>("raw")?.unwrap_or(false);
    // The model's own template is used, nothing stands after the answer, and a conversation is held by its messages.
    fields.refuse("template", &["\"\""])?;
    fields.refuse("suffix", &["\"\""])?;
    fields.refuse("context", &["[]"])?;
    fields.refuse("images", &["[]"])?;
    let parameters = Parameters::take(&mut fields)?;
    fields.finish()?;
    if prompt.is_empty() {
        return Ok(parameters.model_only(Form::Generate));
    }
    let prompt = match (is_raw, system) {
        (true, Some(_)) => {
            return Err(Fault::invalid("system", "a raw prompt has no place for it"));
        }
        (true, None) => Prompt::Text(prompt),
        (false, system) => {
            let system = system.map(|system| ChatMessage::new("system", system));
            chat(system.into_iter().chain([ChatMessage::new("user", prompt)]).collect())
        }
    };
    Ok(parameters.answer(prompt, Tools::default(), Form::Generate, NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(body: &str) -> Prompt {
        let Ok(Wanted::Answer(asked)) = parse(body.as_bytes()) else { panic!("{body}") };
        asked.call.prompt
    }

    #[test]
    fn a_prompt_is_a_users_message_or_taken_as_it_is() {
        let Prompt::Chat(chat) = prompt(r#"{"model":"m","prompt":"why","system":"s","options":{}}"#) else {
            panic!("a chat")
        };
        let roles: Vec<&str> = chat.messages.iter().map(|message| message.role.as_str()).collect();
        assert_eq!(roles, ["system", "user"]);
        assert_eq!(prompt(r#"{"prompt":"why","raw":true}"#), Prompt::Text("why".into()));
        for nothing in ["{}", r#"{"prompt":"","suffix":"","template":"","context":[],"images":null}"#] {
            assert!(matches!(parse(nothing.as_bytes()), Ok(Wanted::Model { .. })), "{nothing}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (more, place) in [
            (r#","suffix":"x""#, "suffix"),
            (r#","template":"{{ .Prompt }}""#, "template"),
            (r#","context":[1,2]"#, "context"),
            (r#","images":["aGk="]"#, "images"),
            (r#","raw":true,"system":"s""#, "system"),
            (r#","mood":1"#, "mood"),
        ] {
            let body = format!(r#"{{"prompt":"why"{more}}}"#);
            assert_eq!(parse(body.as_bytes()).err().unwrap().place.as_deref(), Some(place), "{more}");
        }
    }
}

//! The forms that families of models write their calls and thoughts in.

use super::call_form::{Bare, Body, Calls, Channels, Tags, Thoughts};

/// A family: how its templates are told from others, and how it writes calls.
pub(crate) struct Family {
    /// What all its templates contain.
    pub(crate) signs: &'static [&'static str],
    pub(crate) calls: Calls<&'static str>,
}

/// What a family's form has unless it says otherwise.
const PLAIN: Calls<&'static str> = Calls {
    name: "hermes",
    block_open: "",
    block_close: "",
    call_open: "<tool_call>",
    call_close: "</tool_call>",
    bare: Bare::No,
    body: Body::Json { name: "name", arguments: "arguments" },
};

/// The form of templates that say nothing else, and of those that show no tools.
pub(crate) const FALLBACK: Calls<&'static str> = PLAIN;

const XML: Tags<&str> = Tags {
    name_open: "<function=",
    name_end: ">",
    key_open: "<parameter=",
    key_end: ">",
    value_open: "",
    value_end: "</parameter>",
    end: "</function>",
    padding: "\n",
    quotes: None,
    between: "\n",
};

const INVOKE: Tags<&str> = Tags {
    name_open: "<invoke name=\"",
    name_end: "\">",
    key_open: "<parameter name=\"",
    key_end: "\">",
    value_open: "",
    value_end: "</parameter>",
    end: "</invoke>",
    padding: "",
    quotes: None,
    between: "\n",
};

const KEYS: Tags<&str> = Tags {
    name_open: "",
    name_end: "",
    key_open: "<arg_key>",
    key_end: "</arg_key>",
    value_open: "<arg_value>",
    value_end: "</arg_value>",
    end: "",
    padding: "",
    quotes: None,
    between: "",
};

const PARAM: Tags<&str> = Tags {
    name_open: "",
    name_end: "\">",
    key_open: "<param name=\"",
    key_end: "\">",
    value_open: "",
    value_end: "</param>",
    end: "</function>",
    padding: "",
    quotes: Some(("<![CDATA[", "]]>")),
    between: "",
};

/// The families, those with the more telling signs first: a template belongs to the first that fits.
pub(crate) const FAMILIES: &[Family] = &[
    Family {
        signs: &["<|channel|>", "<|message|>", "functions."],
        calls: Calls {
            name: "harmony",
            call_open: "",
            call_close: "",
            body: Body::Harmony(Channels {
                start: "<|start|>",
                channel: "<|channel|>",
                constrain: "<|constrain|>",
                message: "<|message|>",
                end: "<|end|>",
                call: "<|call|>",
                done: "<|return|>",
            }),
            ..PLAIN
        },
    },
    Family {
        signs: &["<|tool_call>call:", "<tool_call|>"],
        calls: Calls {
            name: "gemma4",
            call_open: "<|tool_call>",
            call_close: "<tool_call|>",
            body: Body::Braced { quote: "<|\"|>" },
            ..PLAIN
        },
    },
    Family {
        signs: &["<minimax:tool_call>", "<invoke name="],
        calls: Calls {
            name: "minimax",
            block_open: "<minimax:tool_call>",
            block_close: "</minimax:tool_call>",
            call_open: "<invoke name=\"",
            call_close: "",
            body: Body::Tagged(Tags { name_open: "", ..INVOKE }),
            ..PLAIN
        },
    },
    Family {
        signs: &["seed:tool_call", "<function="],
        calls: Calls {
            name: "seed",
            block_open: "<seed:tool_call>",
            block_close: "</seed:tool_call>",
            call_open: "<function=",
            call_close: "",
            body: Body::Tagged(Tags { name_open: "", padding: "", ..XML }),
            ..PLAIN
        },
    },
    Family {
        signs: &["<tool_call>", "<function=", "<parameter="],
        calls: Calls {
            name: "qwen3-coder",
            block_open: "<tool_call>",
            block_close: "</tool_call>",
            call_open: "<function=",
            call_close: "",
            body: Body::Tagged(Tags { name_open: "", ..XML }),
            ..PLAIN
        },
    },
    Family {
        signs: &["<function name=", "<param name="],
        calls: Calls {
            name: "minicpm5",
            call_open: "<function name=\"",
            call_close: "",
            body: Body::Tagged(PARAM),
            ..PLAIN
        },
    },
    Family {
        signs: &["start_tag => `<function`"],
        calls: Calls {
            name: "functionary",
            call_open: "<function=",
            call_close: "</function>",
            body: Body::Named { before: "", cut: None, cut_at: "", name_end: ">" },
            ..PLAIN
        },
    },
    Family {
        signs: &["<tool_call>", "<arg_key>", "<arg_value>"],
        calls: Calls { name: "glm", body: Body::Tagged(KEYS), ..PLAIN },
    },
    Family {
        signs: &["<|tool_calls_section_begin|>", "<|tool_call_argument_begin|>"],
        calls: Calls {
            name: "kimi-k2",
            block_open: "<|tool_calls_section_begin|>",
            block_close: "<|tool_calls_section_end|>",
            call_open: "<|tool_call_begin|>",
            call_close: "<|tool_call_end|>",
            body: Body::Named {
                before: "functions.",
                cut: Some(':'),
                cut_at: "",
                name_end: "<|tool_call_argument_begin|>",
            },
            ..PLAIN
        },
    },
    Family {
        signs: &["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "```json"],
        calls: Calls {
            name: "deepseek-r1",
            block_open: "<｜tool▁calls▁begin｜>",
            block_close: "<｜tool▁calls▁end｜>",
            call_open: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            call_close: "```<｜tool▁call▁end｜>",
            body: Body::Named { before: "", cut: None, cut_at: "", name_end: "\n```json\n" },
            ..PLAIN
        },
    },
    Family {
        signs: &["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"],
        calls: Calls {
            name: "deepseek-v3.1",
            block_open: "<｜tool▁calls▁begin｜>",
            block_close: "<｜tool▁calls▁end｜>",
            call_open: "<｜tool▁call▁begin｜>",
            call_close: "<｜tool▁call▁end｜>",
            body: Body::Named { before: "", cut: None, cut_at: "", name_end: "<｜tool▁sep｜>" },
            ..PLAIN
        },
    },
    Family {
        signs: &["[TOOL_CALLS]", "[ARGS]"],
        calls: Calls {
            name: "mistral",
            call_open: "[TOOL_CALLS]",
            call_close: "",
            body: Body::Named { before: "", cut: None, cut_at: "[CALL_ID]", name_end: "[ARGS]" },
            ..PLAIN
        },
    },
    Family {
        signs: &["[TOOL_CALLS]"],
        calls: Calls { name: "mistral-list", call_open: "[TOOL_CALLS]", call_close: "", ..PLAIN },
    },
    Family {
        signs: &["<TOOLCALL>"],
        calls: Calls { name: "nemotron2", call_open: "<TOOLCALL>", call_close: "</TOOLCALL>", ..PLAIN },
    },
    Family {
        signs: &["<tool_calls>["],
        calls: Calls { name: "apriel", call_open: "<tool_calls>", call_close: "</tool_calls>", ..PLAIN },
    },
    Family {
        signs: &["<|tools_prefix|>", "<|tools_suffix|>"],
        calls: Calls {
            name: "apertus",
            call_open: "<|tools_prefix|>",
            call_close: "<|tools_suffix|>",
            body: Body::Json { name: "", arguments: "" },
            ..PLAIN
        },
    },
    Family {
        signs: &["<|START_ACTION|>", "tool_name"],
        calls: Calls {
            name: "command-r",
            call_open: "<|START_ACTION|>",
            call_close: "<|END_ACTION|>",
            body: Body::Json { name: "tool_name", arguments: "parameters" },
            ..PLAIN
        },
    },
    Family {
        signs: &["<|tool_call_start|>"],
        calls: Calls {
            name: "lfm2",
            call_open: "<|tool_call_start|>",
            call_close: "<|tool_call_end|>",
            body: Body::Python,
            ..PLAIN
        },
    },
    Family {
        signs: &["<|tool_list_start|>"],
        calls: Calls {
            name: "lfm2",
            call_open: "<|tool_call_start|>",
            call_close: "<|tool_call_end|>",
            body: Body::Python,
            ..PLAIN
        },
    },
    Family {
        signs: &["<|tool_call|>"],
        calls: Calls { name: "granite3", call_open: "<|tool_call|>", call_close: "", ..PLAIN },
    },
    Family {
        signs: &["<|python_tag|>", "\"parameters\""],
        calls: Calls {
            name: "llama3",
            call_open: "<|python_tag|>",
            call_close: "",
            bare: Bare::Yes,
            body: Body::Json { name: "name", arguments: "parameters" },
            ..PLAIN
        },
    },
    Family {
        signs: &["Environment: ipython", "\"parameters\""],
        calls: Calls {
            name: "llama3",
            call_open: "<|python_tag|>",
            call_close: "",
            bare: Bare::Yes,
            body: Body::Json { name: "name", arguments: "parameters" },
            ..PLAIN
        },
    },
];

/// A family whose templates say too little, and whose vocabularies tell the rest.
pub(crate) struct ByToken {
    /// What its templates contain.
    pub(crate) sign: &'static str,
    /// A special token of its vocabularies.
    pub(crate) token: &'static str,
    /// The name of its form.
    pub(crate) form: &'static str,
}

/// Such families.
pub(crate) const BY_TOKEN: &[ByToken] =
    &[ByToken { sign: "List of tools: [", token: "<|tool_call_start|>", form: "lfm2" }];

/// Markers around thoughts, those with the more telling signs first.
pub(crate) const THOUGHTS: &[Thoughts<&str>] = &[
    Thoughts { sign: "<|channel>", open: "<|channel>thought\n", close: "<channel|>" },
    Thoughts { sign: "[THINK]", open: "[THINK]", close: "[/THINK]" },
    Thoughts { sign: "<|START_THINKING|>", open: "<|START_THINKING|>", close: "<|END_THINKING|>" },
    Thoughts { sign: "<seed:think>", open: "<seed:think>", close: "</seed:think>" },
    Thoughts { sign: "<think>", open: "<think>", close: "</think>" },
];

/// Markers around text that say no more than that it is text.
pub(crate) const SILENT: &[&str] =
    &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"];

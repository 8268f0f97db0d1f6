//! The table of settings: one line each gives the flag, the variable, the key in the file, the default and the help.

/// One setting's names and texts.
pub(crate) struct Key {
    /// The key in the settings file; `kv_pool` is also `--kv-pool` and `SAMOVAR_KV_POOL`.
    pub(crate) name: &'static str,
    /// What stands for its value in the help.
    pub(crate) value_name: &'static str,
    /// The value when nobody says anything, in the same syntax.
    pub(crate) default: &'static str,
    /// One line of help.
    pub(crate) help: &'static str,
    /// Whether commands that only talk to a server have it too.
    pub(crate) for_clients: bool,
    /// Whether it takes a list: a repeated flag, commas in the variable, an array in the file.
    pub(crate) many: bool,
    /// Whether the settings file may have it.
    pub(crate) in_file: bool,
}

impl Key {
    /// The flag without its dashes.
    pub(crate) fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("SAMOVAR_{}", self.name.to_uppercase())
    }
}

const fn engine(
    name: &'static str,
    value_name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { name, value_name, default, help, for_clients: false, many: false, in_file: true }
}

const fn shared(
    name: &'static str,
    value_name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { for_clients: true, ..engine(name, value_name, default, help) }
}

/// Every setting, in the order in which `samovar config` lists them.
pub(crate) const KEYS: &[Key] = &[
    Key {
        in_file: false,
        ..shared("data_dir", "DIR", "", "Keep models, KV, settings and logs under this one folder")
    },
    shared("host", "ADDRESS", "127.0.0.1", "Address of the server; one that is not loopback needs a key"),
    shared("port", "PORT", "8642", "Port of the server; 0 picks a free one"),
    engine("model", "PATH-or-name", "", "A GGUF file, or a name in the models folder"),
    engine("kv_pool", "BYTES", "auto", "Memory for KV blocks: 512MiB, 2G, or auto"),
    engine("block_tokens", "N", "32", "Tokens of a KV block: a power of two from 16 to 256"),
    engine("kv_dtype", "f16|q8|q4", "f16", "How KV values are stored: fewer bits, more context, less exact"),
    engine("drain_timeout", "SECONDS", "30", "How long quitting waits for running answers"),
    engine("device", "auto|cpu|metal", "auto", "What computes: auto is the GPU where there is one"),
    engine(
        "gpu_proofs",
        "once|always",
        "once",
        "When a GPU proves itself on a model before it serves it: once, or at every load",
    ),
    engine("threads", "N", "auto", "Threads that compute"),
    engine(
        "precision",
        "fast|full",
        "fast",
        "How exactly quantised weights are multiplied: full is slower, and its next tokens are those of floats",
    ),
    engine("kernels", "SET", "auto", "Instruction set of the CPU kernels"),
    engine("max_requests", "N", "64", "Requests in flight, running and waiting; more get 429"),
    engine("max_batch", "N", "16", "Answers that are computed at the same time"),
    engine("queue_timeout", "SECONDS", "60", "How long a request waits for room"),
    engine("prefill_chunk", "N", "256", "Prompt tokens of one request in one step"),
    engine(
        "temperature",
        "T",
        "auto",
        "How tokens are chosen where a request does not say; 0 is greedy, auto what the model recommends, else 0.7",
    ),
    engine(
        "top_p",
        "P",
        "auto",
        "Likewise: the likeliest tokens that together have this probability; auto as above, else 0.95",
    ),
    engine(
        "top_k",
        "K",
        "auto",
        "Likewise: this many of the likeliest tokens; 0 is all, auto as above, else all",
    ),
    engine(
        "min_p",
        "P",
        "auto",
        "Likewise: tokens at least this likely beside the likeliest; auto as above, else 0.05",
    ),
    engine(
        "repetition_penalty",
        "R",
        "auto",
        "Likewise: how much an answer's last 64 tokens lose; 1 is off, auto as above, else off",
    ),
    engine("store", "on|off", "on", "Keep conversations' KV on disk, so that they are warm after a restart"),
    engine("store_max", "BYTES", "16GiB", "Disk space that the store takes at most"),
    engine("store_floor", "BYTES", "2GiB", "Disk space that the store leaves free"),
    shared(
        "api_key_file",
        "PATH",
        "",
        "A file with the API key that clients must send, readable by you alone",
    ),
    Key {
        many: true,
        ..engine("allow_host", "NAME", "", "A host name that clients may use; may be repeated")
    },
    Key {
        many: true,
        ..engine(
            "allow_origin",
            "ORIGIN",
            "",
            "A web page's origin that may call the API; with a key also null, file:// or scheme://*; may be repeated",
        )
    },
    Key {
        many: true,
        ..engine(
            "model_aliases",
            "PATTERN",
            "",
            "A name in requests that means the loaded model, such as gpt-4*; may be repeated",
        )
    },
    engine("log", "FILTER", "info", "What is logged: error, warn, info, debug, or a filter per target"),
];

/// The known key that a mistyped one probably meant.
pub(crate) fn nearest(key: &str) -> Option<&'static str> {
    let wanted = key.to_lowercase().replace('-', "_");
    KEYS.iter()
        .filter(|known| known.in_file)
        .map(|known| (strsim::levenshtein(&wanted, known.name), known.name))
        .min()
        .filter(|(d, _)| *d <= 2)
        .map(|(_, name)| name)
}

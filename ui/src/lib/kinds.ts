// What the server and the app have names for, and the words for what users see of it. Made from the lists beside the
// enums in Rust and from `src-tauri/src/words.rs` by the test `the_page_has_the_lists_and_words_of_this_side`, which
// says how to make it anew.

/** States of the engine. */
export type State =
  | 'unloaded'
  | 'loading'
  | 'ready'
  | 'draining'
  | 'parked'
  | 'failed'
  | 'stopped';

/** Why requests are not taken. */
export type NotReadyReason =
  | 'no_model'
  | 'model_loading'
  | 'pool_near_exhaustion'
  | 'shutting_down'
  | 'parked'
  | 'engine_failed'
  | 'engine_stalled';

/** What a drain leads to. */
export type After =
  | 'park'
  | 'exit';

/** Why a model is not there. */
export type FailureKind =
  | 'no_model'
  | 'no_such_file'
  | 'unreadable'
  | 'damaged'
  | 'unsupported'
  | 'no_room'
  | 'worker';

/** What a model is for. */
export type Purpose =
  | 'generate'
  | 'embed';

/** What computes a model. */
export type Backend =
  | 'cpu'
  | 'metal';

/** Why a GPU does not serve a model. */
export type GpuRefusalKind =
  | 'unusable'
  | 'kv_format'
  | 'model'
  | 'no_room'
  | 'broke'
  | 'wrong';

/** What a request in flight is doing. */
export type RequestPhase =
  | 'waiting'
  | 'reading'
  | 'writing';

/** Why a request ended. */
export type Outcome =
  | 'end_of_turn'
  | 'stop_string'
  | 'length'
  | 'embedded'
  | 'cancelled'
  | 'invalid'
  | 'too_long'
  | 'pool_exhausted'
  | 'busy'
  | 'unavailable'
  | 'interrupted'
  | 'fault';

/** Why not all of a prompt was in memory. */
export type DifferenceReason =
  | 'new'
  | 'goes_on'
  | 'changed'
  | 'not_kept'
  | 'no_checkpoint';

/** Where an agent's context is. */
export type Tier =
  | 'resident'
  | 'stored';

/** Why the disk takes nothing. */
export type Trouble =
  | 'disk_full'
  | 'read_only'
  | 'cap_reached'
  | 'io';

/** Codes of the API's errors. */
export type FaultCode =
  | 'invalid_value'
  | 'missing_required_parameter'
  | 'unsupported_parameter'
  | 'thread_unsupported_request'
  | 'unknown_parameter'
  | 'invalid_json'
  | 'bad_request'
  | 'request_timeout'
  | 'request_too_large'
  | 'too_many_bodies'
  | 'too_many_requests_in_flight'
  | 'uri_too_long'
  | 'headers_too_large'
  | 'unsupported_media_type'
  | 'unsupported_content_encoding'
  | 'host_not_allowed'
  | 'origin_not_allowed'
  | 'invalid_api_key'
  | 'key_not_allowed'
  | 'key_rate_limit_exceeded'
  | 'key_not_found'
  | 'unknown_url'
  | 'method_not_allowed'
  | 'model_not_found'
  | 'model_not_suitable'
  | 'request_not_found'
  | 'response_not_found'
  | 'previous_response_not_found'
  | 'agent_not_found'
  | 'chat_template_failed'
  | 'no_chat_template'
  | 'context_length_exceeded'
  | 'pool_exhausted'
  | 'rate_limit_exceeded'
  | 'no_model'
  | 'model_loading'
  | 'shutting_down'
  | 'parked'
  | 'engine_failed'
  | 'interrupted'
  | 'internal_error'
  | 'illegal_transition';

/** What a key is for. */
export type Scope =
  | 'generate'
  | 'admin';

/** What users see the server do. */
export type Condition =
  | 'no_model'
  | 'loading'
  | 'ready'
  | 'answering'
  | 'nearly_full'
  | 'not_responding'
  | 'finishing'
  | 'pausing'
  | 'paused'
  | 'failed'
  | 'quit';

/** Shapes that tell conditions apart. */
export type Mark =
  | 'ready'
  | 'busy'
  | 'starting'
  | 'finishing'
  | 'paused'
  | 'failed'
  | 'away';

/** Ways out of a condition. */
export type Offer =
  | 'retry'
  | 'open_logs'
  | 'quit_now'
  | 'cancel_quit'
  | 'pause_now'
  | 'resume';

/** What the window may ask of the app. */
export type Command =
  | 'api_base'
  | 'quit'
  | 'quit_now'
  | 'cancel_quit'
  | 'retry_load'
  | 'open_logs'
  | 'zoom';

export interface Words {
  mark: Mark;
  word: string;
  /** The last one is what most will want. */
  offers: readonly Offer[];
}

export const CONDITIONS: Readonly<Record<Condition, Words>> = {
  no_model: { mark: 'away', word: 'No model', offers: [] },
  loading: { mark: 'starting', word: 'Loading', offers: [] },
  ready: { mark: 'ready', word: 'Ready', offers: [] },
  answering: { mark: 'busy', word: 'Answering', offers: [] },
  nearly_full: { mark: 'busy', word: 'Memory nearly full', offers: [] },
  not_responding: { mark: 'failed', word: 'Not responding', offers: [] },
  finishing: { mark: 'finishing', word: 'Finishing', offers: ['quit_now', 'cancel_quit'] },
  pausing: { mark: 'finishing', word: 'Finishing', offers: ['pause_now', 'resume'] },
  paused: { mark: 'paused', word: 'Paused', offers: ['resume'] },
  failed: { mark: 'failed', word: 'Failed', offers: ['open_logs', 'retry'] },
  quit: { mark: 'away', word: 'Quit', offers: [] },
};

export const OFFERS: Readonly<Record<Offer, string>> = {
  retry: 'Retry',
  open_logs: 'Open Logs',
  quit_now: 'Quit Now',
  cancel_quit: 'Cancel Quit',
  pause_now: 'Pause Now',
  resume: 'Resume',
};

export const FAILURES: Readonly<Record<FailureKind, { what: string; meaning: string }>> = {
  no_model: { what: 'There is no model.', meaning: 'Your chat is kept. Put a GGUF file into the models folder; Retry looks there again.' },
  no_such_file: { what: 'The model’s file is not there.', meaning: 'Your chat is kept. Retry reads the file again.' },
  unreadable: { what: 'The model’s file cannot be read.', meaning: 'Your chat is kept. Retry reads the file again.' },
  damaged: { what: 'The model’s file is damaged or no GGUF file.', meaning: 'Your chat is kept. Retry reads the file again.' },
  unsupported: { what: 'This kind of model is not supported.', meaning: 'Your chat is kept. Retry reads the file again.' },
  no_room: { what: 'The model does not fit the settings or the memory.', meaning: 'Your chat is kept. Retry reads the file again.' },
  worker: { what: 'The model stopped working.', meaning: 'Your chat is kept. Retry loads the model again.' },
};

export const BACKENDS: Readonly<Record<Backend, string>> = {
  cpu: 'On the CPU',
  metal: 'On the GPU',
};

export const GPU_REFUSALS: Readonly<Record<GpuRefusalKind, string>> = {
  unusable: 'On the CPU: the GPU cannot be used',
  kv_format: 'On the CPU: the GPU does not keep context as the settings say',
  model: 'On the CPU: the GPU lacks a part of this model',
  no_room: 'On the CPU: the model cannot be put on the GPU',
  broke: 'On the CPU: the GPU failed when it was tried',
  wrong: 'On the CPU: the GPU computed wrong numbers when it was tried',
};

export const SCOPES: readonly Scope[] = ['generate', 'admin'];

export const COMMANDS: readonly Command[] = ['api_base', 'quit', 'quit_now', 'cancel_quit', 'retry_load', 'open_logs', 'zoom'];

/** What a drain is doing; `{}` is the number. */
export const DRAIN = {
  nothing: 'Finishing',
  one: 'Finishing {} request',
  many: 'Finishing {} requests',
  left: '{} left',
  saving: 'saving {}',
} as const;

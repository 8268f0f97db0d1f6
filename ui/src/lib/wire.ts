// What the server says, as far as this page reads it.

import type {
  After,
  Backend,
  DifferenceReason,
  FailureKind,
  GpuRefusalKind,
  NotReadyReason,
  Outcome,
  Purpose,
  RequestPhase,
  Scope,
  State,
  Tier,
  Trouble,
} from './kinds';

export interface Pool {
  utilization: number;
  blocks: { free: number; held: number; cached: number; total: number; pinned: number };
  block_bytes: number;
  block_tokens: number;
  /** What recurrent layers have of it; nothing where the model has none. */
  states: { live_bytes: number; checkpoints: number; checkpoint_bytes: number };
}

export interface ActiveRequest {
  id: string;
  agent: string | null;
  phase: RequestPhase;
  prompt_tokens: number;
  done_tokens: number;
  generated_tokens: number;
}

export interface Totals {
  requests: number;
  prefilled_tokens: number;
  reused_tokens: number;
  generated_tokens: number;
}

export interface Model {
  id: string;
  purpose: Purpose;
  /** What its vectors are like, if it gives some. */
  embedding?: { dimensions: number };
  context_length: number;
  file_bytes: number;
  /** What computes it, and why the GPU that there is does not. */
  backend: Backend;
  gpu_refusal: { kind: GpuRefusalKind; text: string } | null;
}

/** `GET /admin/events`, event `status`. */
export interface View {
  state: State;
  /** Of a failure: the words for the details, and the kind to go by. */
  cause?: string;
  failure?: FailureKind;
  then?: After;
  ready: boolean;
  reason?: NotReadyReason;
  load: { progress: number; bytes_done: number; bytes_total: number };
  model: Model | null;
  pool: Pool;
  store: StoreStatus;
  running: number;
  waiting: number;
  active: ActiveRequest[];
  drain: { active: number; unsaved_bytes: number; deadline_s: number } | null;
  totals: Totals;
}

/** `GET /admin/status`: the same and what hardly changes. */
export interface FullStatus extends View {
  version: string;
  address: string;
  uptime_s: number;
}

export interface StoreStatus {
  on: boolean;
  /** Why nothing is being saved, if that is so. */
  trouble: Trouble | null;
  bytes: number;
  max_bytes: number;
  checkpoints: number;
  checkpoint_bytes: number;
  written_today_bytes: number;
}

/** `GET /admin/requests`: what became of a request. */
export interface RequestRecord {
  id: string;
  agent: string | null;
  ended_at: number;
  outcome: Outcome;
  prompt_tokens: number;
  prefilled_tokens: number;
  reused_tokens: number;
  restored_tokens: number;
  spliced_tokens: number;
  /** At which kept state it began; only of models with recurrent layers. */
  checkpoint?: CheckpointUse;
  first_difference: number | null;
  /** What stands there, and why it was not in memory; chats that were kept by an older version have none. */
  difference?: Difference | null;
  generated_tokens: number;
  preempted: number;
  queued_s: number;
  time_to_first_token_s: number | null;
  decoding_s: number;
}

/** What kept states of recurrent layers came to for a request. */
export interface CheckpointUse {
  /** Tokens before the one at which it began; 0 at the start. */
  tokens: number;
  /** Tokens behind it that were in memory too and were read again. */
  missed_tokens: number;
  /** How many of its own there was no room for. */
  skipped: number;
}

/** The first token of a prompt that was not reused. */
export interface Difference {
  why: DifferenceReason;
  place?: 'system' | 'tools' | 'message';
  message?: number;
  role?: string;
  /** Tokens that would have been reused too. */
  missed_tokens: number;
  /** A few words around what has changed. */
  before?: string;
  after?: string;
}

/** One moment of `GET /admin/history`. */
export interface Moment {
  /** Seconds since 1970. */
  at: number;
  held: number;
  cached: number;
  total: number;
  generated_tokens: number;
}

export interface Agent {
  id: string;
  tokens: number;
  tier: Tier;
  pinned: boolean;
  models: AgentOfModel[];
}

/** What an agent has of one model. */
export interface AgentOfModel {
  /** `null` where the model has not been loaded since the server's start. */
  model: string | null;
  fingerprint: string;
  tokens: number;
  tier: string;
  pinned: boolean;
}

/** `GET /admin/keys` */
export interface KeyList {
  /** Whether one must be shown now. */
  required: boolean;
  keys: NamedKey[];
}

export interface NamedKey {
  name: string;
  scopes: Scope[];
  requests_per_minute: number | null;
  created_at: number;
}

/** The answer to `POST /admin/keys`: what clients must show is in no other. */
export interface MadeKey extends NamedKey {
  key: string;
}

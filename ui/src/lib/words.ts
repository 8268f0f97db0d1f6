// What is said about a state: pure functions from what the server says to words.

import { bytes, count, countdown, percent, rate, seconds, short, whole } from './format';
import {
  BACKENDS,
  CONDITIONS,
  DRAIN,
  FAILURES,
  GPU_REFUSALS,
  type Condition,
  type Mark,
  type NotReadyReason,
  type Outcome,
  type RequestPhase,
  type Scope,
  type Tier,
  type Trouble,
} from './kinds';
import type { Link } from './server.svelte';
import type { CheckpointUse, Difference, Model, RequestRecord, View } from './wire';

export interface Headline {
  mark: Mark;
  word: string;
  /** Between 0 and 1, where it is known. */
  progress: number | null;
}

export function headline(link: Link, view: View | null): Headline {
  const say = (mark: Mark, word: string) => ({ mark, word, progress: null });
  if (link === 'locked') return say('away', 'Locked');
  if (link === 'lost') {
    return say('away', hasQuit(link, view) ? CONDITIONS.quit.word : 'Not connected');
  }
  if (view === null) return say('starting', 'Connecting');
  const condition = conditionOf(view);
  const { mark, word } = CONDITIONS[condition];
  if (condition !== 'loading') return say(mark, word);
  const { progress } = view.load;
  return { mark, word: `${word} ${percent(progress)}`, progress };
}

/** What users see the server do; the tray sees it by the same table. */
export function conditionOf(view: View): Condition {
  switch (view.state) {
    case 'unloaded':
      return 'no_model';
    case 'loading':
      return 'loading';
    case 'ready':
      if (view.reason !== undefined) return WHILE_READY[view.reason];
      return view.running > 0 ? 'answering' : 'ready';
    case 'draining':
      return view.then === 'park' ? 'pausing' : 'finishing';
    case 'parked':
      return 'paused';
    case 'failed':
      return 'failed';
    case 'stopped':
      return 'quit';
  }
}

/** Why a server that should be ready takes nothing; most reasons are of other states. */
const WHILE_READY: Record<NotReadyReason, Condition> = {
  pool_near_exhaustion: 'nearly_full',
  engine_stalled: 'not_responding',
  no_model: 'not_responding',
  model_loading: 'not_responding',
  shutting_down: 'not_responding',
  parked: 'not_responding',
  engine_failed: 'not_responding',
};

/** Whether the server has ended on purpose. */
export function hasQuit(link: Link, view: View | null): boolean {
  const wasLeaving = view?.state === 'stopped' || (view?.state === 'draining' && view.then === 'exit');
  return wasLeaving && (link === 'lost' || view.state === 'stopped');
}

/** `Finishing 2 requests · 21 s left · saving 12 MB` */
export function drainLine(view: View, secondsSince: number): string {
  const drain = view.drain;
  if (drain === null) return DRAIN.nothing;
  const fill = (words: string, number: string) => words.replace('{}', number);
  const parts: string[] = [];
  if (drain.active > 0) {
    parts.push(fill(drain.active === 1 ? DRAIN.one : DRAIN.many, whole(drain.active)));
    parts.push(fill(DRAIN.left, countdown(drain.deadline_s - secondsSince)));
  }
  if (drain.unsaved_bytes > 0) parts.push(fill(DRAIN.saving, bytes(drain.unsaved_bytes)));
  const line = parts.join(' · ');
  return line === '' ? DRAIN.nothing : line.charAt(0).toUpperCase() + line.slice(1);
}

export interface Failure {
  what: string;
  meaning: string;
  details: string;
}

/** A failure as a person understands it; the server's own words are the details. */
export function failure(view: View): Failure {
  // A kind that this page does not know is one of a newer server.
  const words = FAILURES[view.failure ?? 'worker'] ?? FAILURES.worker;
  return { ...words, details: view.cause ?? '' };
}

/** Where a model runs, and why not on the GPU that there is. */
export function runsOn({ backend, gpu_refusal }: Model): string {
  // A kind that this page does not know is one of a newer server.
  return (gpu_refusal && GPU_REFUSALS[gpu_refusal.kind]) ?? BACKENDS[backend] ?? backend;
}

const TROUBLES: Record<Trouble, string> = {
  disk_full: 'The disk is full',
  read_only: 'The disk cannot be written',
  cap_reached: 'The limit for what is kept on disk is reached',
  io: 'The disk does not take them',
};

/** Why contexts are not being saved, and what that means. */
export function diskTrouble(trouble: Trouble): string {
  return `${TROUBLES[trouble] ?? TROUBLES.io}: new contexts are not saved. Answers come as ever.`;
}

/** Where an agent's context is. */
export const TIERS: Record<Tier, string> = { resident: 'in memory', stored: 'on disk' };

/** What a key opens. */
export const OPENS: Record<Scope, string> = { generate: 'answers', admin: 'control' };

/** What a request is doing. */
export const DOING: Record<RequestPhase, string> = {
  waiting: 'waiting',
  reading: 'reading',
  writing: 'writing',
};

/** Why nothing can be typed or sent, or what sending will do; `null` when it is as usual. */
export function composerHint(link: Link, view: View | null): { text: string; locked: boolean } | null {
  const hint = (text: string, locked: boolean) => ({ text, locked });
  if (link === 'locked') return hint('Locked: the key is needed', true);
  if (hasQuit(link, view)) return hint('Samovar has quit', true);
  if (view === null) return null;
  switch (view.state) {
    case 'unloaded':
    case 'loading':
    case 'ready':
    case 'stopped':
      return view.model?.purpose === 'embed'
        ? hint(`${view.model.id} cannot chat: it is for embeddings`, true)
        : null;
    case 'draining':
      return hint(view.then === 'park' ? 'Pausing: no new messages' : 'Quitting: no new messages', true);
    case 'parked':
      return hint('Paused: resume to write', true);
    case 'failed':
      return hint('The model is not running', true);
  }
}

/** `1.2k reused · 38 new · 41 tok/s` */
export function quietLine(record: RequestRecord): string {
  const parts = [];
  if (record.reused_tokens > 0) parts.push(`${short(record.reused_tokens)} reused`);
  parts.push(`${short(record.prompt_tokens - record.reused_tokens)} new`);
  const speed = tokensPerSecond(record);
  if (speed !== null) parts.push(rate(speed));
  return parts.join(' · ');
}

/** Of an answer's tokens but the first, whose time is the prompt's. */
export function tokensPerSecond(record: RequestRecord): number | null {
  if (record.generated_tokens < 2 || record.decoding_s <= 0) return null;
  return (record.generated_tokens - 1) / record.decoding_s;
}

const OUTCOMES: Record<Outcome, string> = {
  end_of_turn: 'by itself',
  stop_string: 'at a stop word',
  length: 'at the length limit',
  embedded: 'with a vector for each text',
  cancelled: 'you stopped it',
  interrupted: 'Samovar stopped before its end',
  pool_exhausted: 'no memory was left for it',
  invalid: 'it could not be taken',
  too_long: 'it was longer than the model can read',
  busy: 'too many others were waiting',
  unavailable: 'nothing was taken then',
  fault: 'something went wrong',
};

/** The reasons behind the quiet line, as rows of a name and a sentence. */
export function reasons(record: RequestRecord): [string, string][] {
  const tokens = (n: number) => count(n, 'token');
  const rows: [string, string][] = [];
  const fresh = record.prompt_tokens - record.reused_tokens;
  if (record.reused_tokens > 0) {
    const restored = record.restored_tokens;
    const from = restored > 0 ? `, ${whole(restored)} of them from disk` : ', already in memory';
    rows.push(['Reused', tokens(record.reused_tokens) + from]);
  }
  if (record.spliced_tokens > 0) {
    rows.push([
      'Own words',
      `${tokens(record.spliced_tokens)} of earlier answers, taken as they were written`,
    ]);
  }
  rows.push(['New', `${tokens(fresh)}${readIn(record)}`]);
  if (record.first_difference !== null) {
    const at = record.first_difference;
    const first = at === 0 ? 'nothing of this was in memory yet' : `the text is new after ${tokens(at)}`;
    rows.push(['Why', record.difference ? why(record.difference, at, first) : first]);
  }
  if (record.checkpoint) rows.push(...began(record.checkpoint));
  if (record.queued_s >= 0.05) rows.push(['Waited', `${seconds(record.queued_s)} for its turn`]);
  if (record.time_to_first_token_s !== null) {
    rows.push(['First word', `after ${seconds(record.time_to_first_token_s)}`]);
  }
  if (record.preempted > 0) rows.push(['Set aside', `${count(record.preempted, 'time')} for want of memory`]);
  rows.push(['Answer', `${tokens(record.generated_tokens)} in ${seconds(record.decoding_s)}`]);
  rows.push(['Ended', OUTCOMES[record.outcome]]);
  return rows;
}

/** Where reading began on a model that can go on from checkpoints only, and what they did not save. */
function began({ tokens, missed_tokens, skipped }: CheckpointUse): [string, string][] {
  const rows: [string, string][] = [];
  rows.push(['Began', tokens === 0 ? 'at the start' : `at the checkpoint after ${count(tokens, 'token')}`]);
  if (missed_tokens > 0) {
    rows.push(['Missed', `${count(missed_tokens, 'token')} in memory, read again for want of a checkpoint`]);
  }
  if (skipped > 0) rows.push(['Not kept', `${count(skipped, 'checkpoint')} for want of memory`]);
  return rows;
}

/** `3, 12 MB (4 %)`: checkpoints, and their share of what is kept there. */
export function checkpoints(n: number, ofBytes: number, allBytes: number): string {
  const share = allBytes > 0 ? ` (${percent(ofBytes / allBytes)})` : '';
  return `${whole(n)}, ${bytes(ofBytes)}${share}`;
}

/** Why a prompt was not in memory from a place on, where that is more than `otherwise` says. */
function why(difference: Difference, at: number, otherwise: string): string {
  if (difference.why === 'not_kept')
    return `the same stood here before, and is not kept after ${count(at, 'token')}`;
  if (difference.why === 'no_checkpoint')
    return `the same stood here before, and no state was kept after ${count(at, 'token')}`;
  if (difference.why !== 'changed') return otherwise;
  return `${place(difference)} is another than before, after ${count(at, 'token')}`;
}

function place({ place, message, role }: Difference): string {
  if (place === 'system') return 'what the system says';
  if (place === 'tools') return 'the list of tools';
  return message === undefined ? 'the text' : `message ${message + 1}, ${role ?? 'anybody'}’s,`;
}

function readIn(record: RequestRecord): string {
  if (record.time_to_first_token_s === null) return '';
  return `, read in ${seconds(record.time_to_first_token_s - record.queued_s)}`;
}

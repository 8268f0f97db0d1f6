// What is said about a state: pure functions from what the server says to words.

import { bytes, count, left, percent, rate, seconds, short, whole } from './format';
import type { Link } from './server.svelte';
import type { RequestRecord, View } from './wire';

/** Tells states apart by shape; colour only repeats it. */
export type Mark = 'ready' | 'busy' | 'starting' | 'finishing' | 'paused' | 'failed' | 'away';

export interface Headline {
  mark: Mark;
  word: string;
  /** Between 0 and 1, where it is known. */
  progress: number | null;
}

export function headline(link: Link, view: View | null): Headline {
  const say = (mark: Mark, word: string, progress: number | null = null) => ({ mark, word, progress });
  if (link === 'locked') return say('away', 'Locked');
  if (link === 'lost') return hasQuit(link, view) ? say('away', 'Quit') : say('away', 'Not connected');
  if (view === null) return say('starting', 'Connecting');
  switch (view.state) {
    case 'unloaded':
      return say('away', 'No model');
    case 'loading':
      return say('starting', `Loading ${percent(view.load.progress)}`, view.load.progress);
    case 'ready':
      if (view.reason === 'engine_stalled') return say('failed', 'Not responding');
      if (view.reason === 'pool_near_exhaustion') return say('busy', 'Nearly full');
      return view.running > 0 ? say('busy', 'Answering') : say('ready', 'Ready');
    case 'draining':
      return say('finishing', 'Finishing');
    case 'parked':
      return say('paused', 'Paused');
    case 'failed':
      return say('failed', 'Failed');
    case 'stopped':
      return say('away', 'Quit');
  }
}

/** Whether the server has ended on purpose. */
export function hasQuit(link: Link, view: View | null): boolean {
  const wasLeaving = view?.state === 'stopped' || (view?.state === 'draining' && view.then === 'exit');
  return wasLeaving && (link === 'lost' || view.state === 'stopped');
}

/** `Finishing 2 requests · 21 s left · saving 12 MB` */
export function drainLine(view: View, secondsSince: number): string {
  const drain = view.drain;
  if (drain === null) return 'Finishing';
  const parts: string[] = [];
  if (drain.active > 0) {
    parts.push(`Finishing ${count(drain.active, 'request')}`, left(drain.deadline_s - secondsSince));
  }
  if (drain.unsaved_bytes > 0) parts.push(`saving ${bytes(drain.unsaved_bytes)}`);
  const line = parts.join(' · ');
  return line === '' ? 'Finishing' : line.charAt(0).toUpperCase() + line.slice(1);
}

export interface Failure {
  what: string;
  meaning: string;
  details: string;
}

/** What a load can fail by, as the server says it and as a person says it. The first that fits. */
const LOAD_FAILURES: [RegExp, string][] = [
  [/there is no such file|No such file or directory/, 'The model’s file is not there.'],
  [/^cannot read model /, 'The model’s file cannot be read.'],
  [/ is damaged or no GGUF file: /, 'The model’s file is damaged or no GGUF file.'],
  [/ is not supported: /, 'This kind of model is not supported.'],
  [/ cannot be set up: /, 'The model does not fit the settings or the memory.'],
];

/** A failure's cause as a person understands it; the server's own words are the details. */
export function failure(cause: string): Failure {
  const [, load] = /^the model could not be loaded: (.*)$/s.exec(cause) ?? [];
  if (load !== undefined) {
    return {
      what: LOAD_FAILURES.find(([said]) => said.test(load))?.[1] ?? 'The model could not be loaded.',
      meaning: 'Your chat is kept. Retry reads the file again.',
      details: load,
    };
  }
  const [, worker] = /^the model's worker failed: (.*)$/s.exec(cause) ?? [];
  return {
    what: 'The model stopped working.',
    meaning: 'Your chat is kept. Retry loads the model again.',
    details: worker ?? cause,
  };
}

/** Why contexts are not being saved, and what that means. */
export function diskTrouble(trouble: string): string {
  const why: Record<string, string> = {
    disk_full: 'The disk is full',
    read_only: 'The disk cannot be written',
    cap_reached: 'The limit for what is kept on disk is reached',
  };
  return `${why[trouble] ?? 'The disk does not take them'}: new contexts are not saved. Answers come as ever.`;
}

/** Why nothing can be typed or sent, or what sending will do; `null` when it is as usual. */
export function composerHint(link: Link, view: View | null): { text: string; locked: boolean } | null {
  const hint = (text: string, locked: boolean) => ({ text, locked });
  if (link === 'locked') return hint('Locked: the key is needed', true);
  if (hasQuit(link, view)) return hint('Samovar has quit', true);
  switch (view?.state) {
    case 'draining':
      return hint(view.then === 'park' ? 'Pausing: no new messages' : 'Quitting: no new messages', true);
    case 'parked':
      return hint('Paused: resume to write', true);
    case 'failed':
      return hint('The model is not running', true);
    default:
      return null;
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

const OUTCOMES: Record<string, string> = {
  end_of_turn: 'by itself',
  stop_string: 'at a stop word',
  length: 'at the length limit',
  cancelled: 'you stopped it',
  interrupted: 'Samovar stopped before its end',
  pool_exhausted: 'no memory was left for it',
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
    rows.push([
      'Why',
      at === 0 ? 'nothing of this was in memory yet' : `the text is new after ${tokens(at)}`,
    ]);
  }
  if (record.queued_s >= 0.05) rows.push(['Waited', `${seconds(record.queued_s)} for its turn`]);
  if (record.time_to_first_token_s !== null) {
    rows.push(['First word', `after ${seconds(record.time_to_first_token_s)}`]);
  }
  if (record.preempted > 0) rows.push(['Set aside', `${count(record.preempted, 'time')} for want of memory`]);
  const ended = OUTCOMES[record.outcome] ?? record.outcome.replaceAll('_', ' ');
  rows.push(['Answer', `${tokens(record.generated_tokens)} in ${seconds(record.decoding_s)}`]);
  rows.push(['Ended', ended]);
  return rows;
}

function readIn(record: RequestRecord): string {
  if (record.time_to_first_token_s === null) return '';
  return `, read in ${seconds(record.time_to_first_token_s - record.queued_s)}`;
}

import { describe, expect, it } from 'vitest';

import { ServerError, errorIn } from '../src/lib/client';
import { troubleOf } from '../src/lib/faults';
import type { Condition, FailureKind, FaultCode, GpuRefusalKind } from '../src/lib/kinds';
import type { View } from '../src/lib/wire';
import {
  checkpoints,
  composerHint,
  conditionOf,
  diskTrouble,
  drainLine,
  failure,
  hasQuit,
  headline,
  quietLine,
  reasons,
  runsOn,
  tokensPerSecond,
} from '../src/lib/words';
import type { Difference } from '../src/lib/wire';
import { model, record, view } from './fixtures';

const plain = (text: string) => text.replaceAll('\u202f', ' ');

describe('the headline is a mark and a word for every state', () => {
  const half = { progress: 0.43, bytes_done: 43, bytes_total: 100 };
  const drain = { active: 2, unsaved_bytes: 0, deadline_s: 21 };
  it.each([
    ['nothing heard yet', headline('connecting', null), 'starting Connecting'],
    ['a key is needed', headline('locked', null), 'away Locked'],
    ['lost', headline('lost', view()), 'away Not connected'],
    ['lost after a quit', headline('lost', view({ state: 'stopped' })), 'away Quit'],
    ['unloaded', headline('live', view({ state: 'unloaded' })), 'away No model'],
    ['loading', headline('live', view({ state: 'loading', load: half })), 'starting Loading 43 %'],
    ['ready', headline('live', view()), 'ready Ready'],
    ['busy', headline('live', view({ running: 1 })), 'busy Answering'],
    ['full', headline('live', view({ reason: 'pool_near_exhaustion' })), 'busy Memory nearly full'],
    ['hung', headline('live', view({ reason: 'engine_stalled' })), 'failed Not responding'],
    ['draining', headline('live', view({ state: 'draining', drain })), 'finishing Finishing'],
    ['parked', headline('live', view({ state: 'parked' })), 'paused Paused'],
    ['failed', headline('live', view({ state: 'failed' })), 'failed Failed'],
    ['stopped', headline('live', view({ state: 'stopped' })), 'away Quit'],
  ])('%s', (_, { mark, word }, want) => {
    expect(`${mark} ${plain(word)}`).toBe(want);
  });
});

it('a drain says how many requests, how long still, and what is being saved', () => {
  const line = (active: number, unsaved_bytes: number, since = 0) =>
    plain(drainLine(view({ state: 'draining', drain: { active, unsaved_bytes, deadline_s: 21 } }), since));
  expect(line(2, 0)).toBe('Finishing 2 requests · 21 s left');
  expect(line(1, 12e6, 4.5)).toBe('Finishing 1 request · 17 s left · saving 12 MB');
  expect(line(0, 12e6)).toBe('Saving 12 MB');
  expect(line(0, 0)).toBe('Finishing');
});

it('a connection that is lost in a quit is a quit, and one lost otherwise is not', () => {
  expect(hasQuit('lost', view({ state: 'draining', then: 'exit' }))).toBe(true);
  expect(hasQuit('lost', view({ state: 'draining', then: 'park' }))).toBe(false);
  expect(hasQuit('live', view({ state: 'draining', then: 'exit' }))).toBe(false);
  expect(hasQuit('lost', view())).toBe(false);
  expect(hasQuit('lost', null)).toBe(false);
});

it('what users see of a state is what the tray shows of it', () => {
  // As in the table of the app's own test.
  const table: [Partial<View>, Condition][] = [
    [{ state: 'unloaded', reason: 'no_model' }, 'no_model'],
    [{ state: 'loading', reason: 'model_loading' }, 'loading'],
    [{}, 'ready'],
    [{ running: 1 }, 'answering'],
    [{ reason: 'pool_near_exhaustion', running: 1 }, 'nearly_full'],
    [{ reason: 'engine_stalled', running: 1 }, 'not_responding'],
    [{ state: 'draining', then: 'exit', running: 1 }, 'finishing'],
    [{ state: 'draining', then: 'park', running: 1 }, 'pausing'],
    [{ state: 'parked', reason: 'parked' }, 'paused'],
    [{ state: 'failed', reason: 'engine_failed' }, 'failed'],
    [{ state: 'stopped', reason: 'shutting_down' }, 'quit'],
  ];
  for (const [change, want] of table) expect(conditionOf(view(change))).toBe(want);
});

it('a failure is a sentence for a person by its kind, and the server’s words are the details', () => {
  const cause = 'the model could not be loaded: model x.gguf is damaged or no GGUF file: it is empty';
  expect(failure(view({ state: 'failed', failure: 'damaged', cause }))).toEqual({
    what: 'The model’s file is damaged or no GGUF file.',
    meaning: 'Your chat is kept. Retry reads the file again.',
    details: cause,
  });
  // The words do not matter.
  expect(failure(view({ state: 'failed', failure: 'no_such_file', cause })).what).toBe(
    'The model’s file is not there.',
  );
  const unknown = view({ state: 'failed', failure: 'of a newer server' as FailureKind });
  expect(failure(unknown).what).toBe('The model stopped working.');
});

it('a model is said to run on the CPU or the GPU, and why not on the GPU where one refuses', () => {
  expect(runsOn(model)).toBe('On the CPU');
  expect(runsOn({ ...model, backend: 'metal' })).toBe('On the GPU');
  const refused = (kind: GpuRefusalKind) => runsOn({ ...model, gpu_refusal: { kind, text: 'layer 3' } });
  expect(refused('wrong')).toBe('On the CPU: the GPU computed wrong numbers when it was tried');
  expect(refused('of a newer server' as GpuRefusalKind)).toBe('On the CPU');
});

it('an error is said by its code, and in the server’s words where there is nothing to add', () => {
  expect(troubleOf(new ServerError('x', 503, 'parked'))).toBe('Samovar takes no new messages now.');
  expect(troubleOf(new ServerError('x', 404, 'request_not_found'))).toBe('Samovar stopped before its end.');
  expect(troubleOf(new ServerError('the template fails', 400, 'chat_template_failed'))).toBe(
    'the template fails',
  );
  expect(troubleOf(new ServerError('odd', 500, 'of a newer server' as FaultCode))).toBe('odd');
  expect(troubleOf(new ServerError('none', 500))).toBe('none');
});

it('an error’s body has its code, and of a prompt that is too long the lengths', () => {
  const error = {
    message: 'no',
    code: 'context_length_exceeded',
    prompt_tokens: 12043,
    context_length: 8192,
  };
  expect(errorIn({ error })).toMatchObject({
    message: 'no',
    code: 'context_length_exceeded',
    lengths: { prompt: 12043, context: 8192 },
  });
  expect(errorIn({ error: { message: 'no', code: 'parked' } })?.lengths).toBeNull();
  expect(errorIn({ choices: [] })).toBeNull();
  expect(errorIn(null)).toBeNull();
});

it('checkpoints are told by number, size and share', () => {
  expect(plain(checkpoints(3, 12e6, 300e6))).toBe('3, 12 MB (4 %)');
  expect(plain(checkpoints(1200, 12e6, 0))).toBe('1 200, 12 MB');
});

it('a disk that takes nothing is said with what it means', () => {
  expect(diskTrouble('disk_full')).toBe(
    'The disk is full: new contexts are not saved. Answers come as ever.',
  );
  expect(diskTrouble('io')).toContain('not saved');
});

it('the input is locked while nothing is taken, with the reason, and open while loading', () => {
  expect(composerHint('live', view())).toBeNull();
  expect(composerHint('live', view({ state: 'loading' }))).toBeNull();
  expect(composerHint('lost', view())).toBeNull();
  for (const state of ['draining', 'parked', 'failed', 'stopped'] as const) {
    expect(composerHint('live', view({ state }))?.locked).toBe(true);
  }
});

it('a model that only gives texts their vectors is not asked, and the input says why', () => {
  const model = {
    id: 'MiniLM',
    purpose: 'embed',
    embedding: { dimensions: 384 },
    context_length: 512,
    file_bytes: 46e6,
    backend: 'cpu',
    gpu_refusal: null,
  } as const;
  for (const state of ['ready', 'loading'] as const) {
    expect(composerHint('live', view({ state, model }))).toEqual({
      text: 'MiniLM cannot chat: it is for embeddings',
      locked: true,
    });
  }
});

describe('an answer’s quiet line', () => {
  it('says what was reused, what was new and how fast it was', () => {
    expect(plain(quietLine(record()))).toBe('1.2k reused · 38 new · 41 tok/s');
    expect(plain(quietLine(record({ reused_tokens: 0 })))).toBe('1.2k new · 41 tok/s');
  });

  it('has no speed where there was nothing to measure', () => {
    expect(tokensPerSecond(record({ generated_tokens: 1 }))).toBeNull();
    expect(plain(quietLine(record({ generated_tokens: 1 })))).toBe('1.2k reused · 38 new');
  });

  it('opens to the reasons', () => {
    const rows = reasons(record({ restored_tokens: 800, queued_s: 0.2, preempted: 1 }));
    const text = rows.map(([name, sentence]) => `${name}: ${plain(sentence)}`);
    expect(text).toEqual([
      'Reused: 1 200 tokens, 800 of them from disk',
      'New: 38 tokens, read in 0.2 s',
      'Why: the text is new after 1 200 tokens',
      'Waited: 0.2 s for its turn',
      'First word: after 0.4 s',
      'Set aside: 1 time for want of memory',
      'Answer: 83 tokens in 2.0 s',
      'Ended: by itself',
    ]);
  });

  it('says at which checkpoint it began, what an exact one would have saved, and what there was no room for', () => {
    const said = (tokens: number, missed_tokens: number, skipped: number) =>
      reasons(record({ checkpoint: { tokens, missed_tokens, skipped } }))
        .map(([name, sentence]) => `${name}: ${plain(sentence)}`)
        .filter((row) => /^(Began|Missed|Not kept)/.test(row));
    expect(said(1200, 0, 0)).toEqual(['Began: at the checkpoint after 1 200 tokens']);
    expect(said(0, 0, 0)).toEqual(['Began: at the start']);
    expect(said(1200, 64, 2)).toEqual([
      'Began: at the checkpoint after 1 200 tokens',
      'Missed: 64 tokens in memory, read again for want of a checkpoint',
      'Not kept: 2 checkpoints for want of memory',
    ]);
  });

  it.each([
    [{ why: 'new' }, 'the text is new after 1 200 tokens'],
    [{ why: 'goes_on', place: 'message', message: 2, role: 'tool' }, 'the text is new after 1 200 tokens'],
    [{ why: 'changed', place: 'system' }, 'what the system says is another than before, after 1 200 tokens'],
    [{ why: 'changed', place: 'tools' }, 'the list of tools is another than before, after 1 200 tokens'],
    [
      { why: 'changed', place: 'message', message: 2, role: 'tool' },
      'message 3, tool’s, is another than before, after 1 200 tokens',
    ],
    [{ why: 'changed' }, 'the text is another than before, after 1 200 tokens'],
    [{ why: 'not_kept' }, 'the same stood here before, and is not kept after 1 200 tokens'],
    [{ why: 'no_checkpoint' }, 'the same stood here before, and no state was kept after 1 200 tokens'],
  ] as [Partial<Difference>, string][])('says why not more was reused: %j', (change, want) => {
    const difference: Difference = { why: 'new', missed_tokens: 0, ...change };
    const why = reasons(record({ difference })).find(([name]) => name === 'Why');
    expect(plain(why?.[1] ?? '')).toBe(want);
  });
});

import { describe, expect, it } from 'vitest';

import {
  composerHint,
  diskTrouble,
  drainLine,
  failure,
  hasQuit,
  headline,
  quietLine,
  reasons,
  tokensPerSecond,
} from '../src/lib/words';
import { record, view } from './fixtures';

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
    ['full', headline('live', view({ reason: 'pool_near_exhaustion' })), 'busy Nearly full'],
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

it('a failure is one sentence for a person, and the server’s words are the details', () => {
  const details = 'model x.gguf is damaged or no GGUF file: it is empty';
  expect(failure(`the model could not be loaded: ${details}`)).toEqual({
    what: 'The model’s file is damaged or no GGUF file.',
    meaning: 'Your chat is kept. Retry reads the file again.',
    details,
  });
  for (const [load, what] of [
    ['model x.gguf: there is no such file', 'The model’s file is not there.'],
    ['cannot read model x.gguf: No such file or directory (os error 2)', 'The model’s file is not there.'],
    ['cannot read model x.gguf: Permission denied (os error 13)', 'The model’s file cannot be read.'],
    ['model x.gguf is not supported: architecture `tea`', 'This kind of model is not supported.'],
    ['model x.gguf cannot be set up: too big', 'The model does not fit the settings or the memory.'],
    ['something new', 'The model could not be loaded.'],
  ] as const) {
    expect(failure(`the model could not be loaded: ${load}`).what).toBe(what);
  }
  expect(failure("the model's worker failed: out of cups").details).toBe('out of cups');
  expect(failure('something new').details).toBe('something new');
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
});

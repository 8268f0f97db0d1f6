import { describe, expect, it } from 'vitest';

import { passagesOf, spokenOf } from '../src/lib/thinking';

const shown = (text: string) =>
  passagesOf(text).map(({ kind, text: piece, isOpen }) => `${kind}${isOpen ? '…' : ''}: ${piece.trim()}`);

describe('what a model thinks is told from what it says', () => {
  it.each([
    ['<think>\nHm.\n</think>\n\nYes.', ['thought: Hm.', 'text: Yes.']],
    ['<think>Hm.</think>Yes.', ['thought: Hm.', 'text: Yes.']],
    ['<thinking>\nHm.\n</thinking>\nYes.', ['thought: Hm.', 'text: Yes.']],
    ['<thought>Hm.</thought>Yes.', ['thought: Hm.', 'text: Yes.']],
    ['\n<THINK>Hm.</THINK> Yes.', ['thought: Hm.', 'text: Yes.']],
    ['<think></think>\n\nYes.', ['text: Yes.']],
    [
      'Hm, the prompt had the mark.\n</think>\n\nYes.',
      ['thought: Hm, the prompt had the mark.', 'text: Yes.'],
    ],
    [
      '<think>a</think>One.\n<think>b</think>\nTwo.',
      ['thought: a', 'text: One.', 'thought: b', 'text: Two.'],
    ],
    ['Plain.', ['text: Plain.']],
    ['', []],
  ])('%j', (text, want) => {
    expect(shown(text)).toEqual(want);
  });

  it.each([
    ['<think>', ['thought…: ']],
    ['<think>Hm, let', ['thought…: Hm, let']],
    ['<think>Hm.</thi', ['thought…: Hm.']],
    ['<thi', []],
    ['Yes.\n<th', ['text: Yes.']],
  ])('also while it comes in: %j', (text, want) => {
    expect(shown(text)).toEqual(want);
  });

  it.each([
    ['`<think>` is a mark, `</think>` another.'],
    ['In HTML:\n```\n<think>x</think>\n```\nDone.'],
    ['Is 1 <thousand> a tag?'],
    ['a < b and <b'],
    ['~~~~\n<think>\n~~~\n<think>\n~~~~'],
  ])('and nothing else is taken for a thought: %j', (text) => {
    expect(passagesOf(text)).toEqual([{ kind: 'text', text, isOpen: false }]);
  });
});

it('whoever copies an answer copies what was said', () => {
  expect(spokenOf('<think>Hm.</think>\nYes.\n')).toBe('Yes.');
});

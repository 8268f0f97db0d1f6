import { expect, it } from 'vitest';

import { lengthOf, tooLong } from '../src/lib/length';
import { newChat, type Answer, type Chat } from '../src/lib/storage';
import { record } from './fixtures';

const WORDS = 'The kettle sang and the tea was poured again. ';

function chat(
  draft: string,
  before: { prompt_tokens: number; generated_tokens: number } | null = null,
): Chat {
  const answer = before && ({ role: 'assistant', id: 'a', text: 'x', record: record(before) } as Answer);
  return { ...newChat(), draft, messages: answer ? [answer] : [] };
}

const plain = (text: string | undefined) => text?.replaceAll('\u202f', ' ');

it('a message that fits is not worth a word, one that nearly fills the context is, and one that cannot fit is refused', () => {
  expect(lengthOf(chat('Hello?'), 8192)).toBeNull();
  expect(lengthOf(chat(WORDS.repeat(400)), 8192)).toBeNull();
  const near = lengthOf(chat(WORDS.repeat(620)), 8192);
  expect([near?.isTooLong, plain(near?.text)]).toEqual([
    false,
    'This is about 7.1k tokens; the model reads 8.2k. Little room is left for an answer.',
  ]);
  const over = lengthOf(chat(WORDS.repeat(2000)), 8192);
  expect([over?.isTooLong, plain(over?.text)]).toEqual([
    true,
    'This is about 23k tokens; the model reads 8.2k. Shorten it, or start a new chat.',
  ]);
});

it('what was said before counts as the server has counted it', () => {
  const before = { prompt_tokens: 7900, generated_tokens: 280 };
  expect(lengthOf(chat('Hello?', before), 8192)?.isTooLong).toBe(false);
  expect(lengthOf(chat('Hello? '.repeat(20), before), 8192)?.isTooLong).toBe(true);
});

it('no message is refused that might fit, however well a vocabulary suits it', () => {
  // Each as many tokens as SmolLM2 or better vocabularies make of it, and fewer than the context has.
  const texts = [
    ' '.repeat(60_000) + 'x',
    '='.repeat(40_000),
    '\n\n\n\n'.repeat(9000),
    '茶道'.repeat(4000),
    'internationalisation '.repeat(2000),
  ];
  for (const text of texts)
    expect(lengthOf(chat(text), 8192)?.isTooLong ?? false, text.slice(0, 20)).toBe(false);
});

it('without a model, and without a draft, there is nothing to say', () => {
  expect(lengthOf(chat(WORDS.repeat(2000)), null)).toBeNull();
  expect(lengthOf(chat('  ', { prompt_tokens: 9000, generated_tokens: 0 }), 8192)).toBeNull();
});

it('a refusal of the server is said with its numbers, or without when it has none', () => {
  expect(plain(tooLong({ prompt: 12043, context: 8192 }))).toBe(
    'This is 12k tokens; the model reads 8.2k. Shorten it, or start a new chat.',
  );
  expect(tooLong(null)).toBe('This is longer than the model can read. Shorten it, or start a new chat.');
});

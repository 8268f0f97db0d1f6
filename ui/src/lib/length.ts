// How long what is about to be sent is, before the server has counted it.

import type { Lengths } from './client';
import { short } from './format';
import type { Chat } from './storage';

/** Characters of a token in ordinary text, and in text that a vocabulary suits as well as can be. */
const USUAL: Ratio = { letters: 4, ideographs: 1 };
const BEST: Ratio = { letters: 6, ideographs: 2 };

interface Ratio {
  letters: number;
  ideographs: number;
}

/** From this share of the context on it is said. */
const NEAR = 0.85;

export interface Length {
  /** About how many tokens. */
  tokens: number;
  /** Longer than the model reads, however it is counted: it is not sent. */
  isTooLong: boolean;
  text: string;
}

/** What there is to say about the length of a chat with its draft; `null` while it fits well. */
export function lengthOf(chat: Chat, context: number | null): Length | null {
  if (context === null || context <= 0 || chat.draft.trim() === '') return null;
  const before = tokensBefore(chat);
  const tokens = before + tokensIn(chat.draft, USUAL);
  const isTooLong = before + tokensIn(chat.draft, BEST) >= context;
  if (!isTooLong && tokens < context * NEAR) return null;
  const then = isTooLong
    ? 'Shorten it, or start a new chat.'
    : tokens < context
      ? 'Little room is left for an answer.'
      : 'It may be too long.';
  const text = `This is about ${short(tokens)} tokens; the model reads ${short(context)}. ${then}`;
  return { tokens, isTooLong, text };
}

/** What the server counted for the last answer and before, and an estimate of what came later. */
function tokensBefore(chat: Chat): number {
  let tokens = 0;
  for (const message of [...chat.messages].reverse()) {
    const record = message.role === 'assistant' ? message.record : null;
    if (record !== null) return tokens + record.prompt_tokens + record.generated_tokens;
    tokens += tokensIn(message.text, USUAL);
  }
  return tokens;
}

/** A run of the same character, or of white space, counts as one: a vocabulary has words for those. */
function tokensIn(text: string, ratio: Ratio): number {
  const short = text.replace(/\s+/g, ' ').replace(/(.)\1{3,}/g, '$1');
  const ideographs = short.match(/[\u2e80-\ud7ff\uf900-\ufaff]/g)?.length ?? 0;
  return Math.round((short.length - ideographs) / ratio.letters + ideographs / ratio.ideographs);
}

/** What is said of a prompt that is too long, once the server has counted it. */
export function tooLong(lengths: Lengths | null): string {
  const what =
    lengths === null
      ? 'This is longer than the model can read.'
      : `This is ${short(lengths.prompt)} tokens; the model reads ${short(lengths.context)}.`;
  return `${what} Shorten it, or start a new chat.`;
}

// What becomes of a chat when it is asked, answered or refused: functions on its messages, without a server.

import type { Lengths } from './client';
import { freshId } from './id';
import { tooLong } from './length';
import { sessionOf, type Answer, type Chat, type Message } from './storage';

/** A question, and the place of its answer. */
export function ask(chat: Chat, question: string): void {
  chat.messages.push({ role: 'user', id: freshId(), text: question }, emptyAnswer('', []));
  chat.scroll = null;
  chat.at = Date.now();
}

/** What waits for the answer is asked once that is complete; after any other end it is the person's to decide. */
export function sendNext(chat: Chat, answer: Answer): void {
  if (chat.next === null) return;
  if (answer.phase !== 'done') return returnNext(chat);
  const question = chat.next;
  chat.next = null;
  ask(chat, question);
}

/** What waits for the answer goes back to where it is written. */
export function returnNext(chat: Chat): void {
  if (chat.next === null) return;
  chat.draft = together(chat.next, chat.draft);
  chat.next = null;
}

/** A question that the model cannot read goes back where it can be shortened: a chat that has it in it were a dead end. */
export function refuse(chat: Chat, answer: Answer, lengths: Lengths | null): void {
  const question = chat.messages.at(-2);
  if (answer.base !== '' || answer.earlier.length > 0 || question?.role !== 'user') return;
  chat.messages.splice(-2);
  returnNext(chat);
  chat.draft = together(question.text, chat.draft);
  chat.refused = tooLong(lengths);
}

function together(first: string, second: string): string {
  return second.trim() === '' ? first : `${first}\n\n${second}`;
}

/** The request for an answer. */
export function questionOf(chat: Chat, answer: Answer): RequestInit {
  const at = chat.messages.findIndex((message) => message.id === answer.id);
  const messages = promptOf(chat.messages.slice(0, at));
  if (answer.base !== '') messages.push({ role: 'assistant', content: answer.base });
  const body = {
    messages,
    stream: true,
    ...(answer.base === '' ? {} : { continue_final_message: true }),
  };
  const headers = {
    'x-request-id': answer.id,
    'x-session-id': sessionOf(chat.id),
    'x-samovar-keep': 'true',
  };
  return { method: 'POST', headers, body: JSON.stringify(body) };
}

/** The place of an answer that goes on from `base`. */
export function emptyAnswer(base: string, earlier: Answer['earlier']): Answer {
  const id = freshId();
  return {
    role: 'assistant',
    id,
    text: base,
    base,
    phase: 'queued',
    done: 0,
    total: 0,
    record: null,
    trouble: null,
    earlier,
  };
}

/** A conversation as the model gets it: no empty answers, and what was asked twice in a row as one question. */
export function promptOf(messages: Message[]): { role: string; content: string }[] {
  const prompt: { role: string; content: string }[] = [];
  for (const { role, text } of messages) {
    const before = prompt.at(-1);
    if (text === '') continue;
    if (role === 'user' && before?.role === 'user') before.content += `\n\n${text}`;
    else prompt.push({ role, content: text });
  }
  return prompt;
}

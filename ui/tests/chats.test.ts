import { beforeEach, describe, expect, it } from 'vitest';

import { Chats, promptOf } from '../src/lib/chats.svelte';
import { Client, ServerError } from '../src/lib/client';
import type { Server } from '../src/lib/server.svelte';
import { ChatStore, type Answer, type Message } from '../src/lib/storage';
import { record } from './fixtures';

/** A server as far as chats need one: what it answers is decided by the test, path by path. */
class FakeServer {
  link = 'live';
  isReady = true;
  readonly client = new Client();
  readonly asked: { path: string; init: RequestInit }[] = [];
  answers: Record<string, () => Response> = {};

  constructor() {
    this.client.send = async (path, init = {}) => {
      this.asked.push({ path, init });
      const [, answer] = Object.entries(this.answers).find(([start]) => path.startsWith(start)) ?? [];
      return Promise.resolve(answer?.() ?? Response.json(record()));
    };
  }

  chats(): Chats {
    return new Chats(this as unknown as Server, new ChatStore(localStorage));
  }

  body(n: number): { messages: unknown[]; continue_final_message?: boolean } {
    return JSON.parse(String(this.asked[n]?.init.body)) as { messages: unknown[] };
  }
}

const delta = (content: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
const stream = (...frames: string[]) => new Response(frames.join(''));
const whole = () => stream(': prefill 3/9\n\n', delta('Hel'), delta('lo.'), 'data: [DONE]\n\n');
const answerOf = (chats: Chats) => chats.last as Answer;
/** Until nothing is under way any more. */
const settled = (chats: Chats) =>
  expect.poll(() => [chats.pending, answerOf(chats).record !== null]).toEqual([null, true]);

let server: FakeServer;

beforeEach(() => {
  localStorage.clear();
  server = new FakeServer();
  server.answers['/v1/chat/completions'] = whole;
});

it('an answer comes in, with what it took, under an id that the server keeps it by', async () => {
  const chats = server.chats();
  chats.send('  Hello?  ');
  expect(chats.pending?.phase).toBe('waiting');
  await settled(chats);
  expect(answerOf(chats)).toMatchObject({ text: 'Hello.', phase: 'done', record: record() });
  const headers = new Headers(server.asked[0]?.init.headers);
  expect(headers.get('x-request-id')).toBe(answerOf(chats).id);
  expect(headers.get('x-samovar-keep')).toBe('true');
  expect(headers.get('x-session-id')).toBe(`chat-${chats.current.id}`);
  expect(server.body(0).messages).toEqual([{ role: 'user', content: 'Hello?' }]);
  expect(server.asked[1]?.path).toBe(`/admin/requests/${answerOf(chats).id}`);
});

it('what is asked while the model loads is queued, kept, and sent when it is ready', async () => {
  server.isReady = false;
  const first = server.chats();
  first.send('Hello?');
  expect(answerOf(first).phase).toBe('queued');
  expect(server.asked).toEqual([]);

  const second = server.chats();
  expect(answerOf(second).phase).toBe('queued');
  server.isReady = true;
  second.catchUp();
  await settled(second);
  expect(answerOf(second).text).toBe('Hello.');
});

it('a window that opens again follows the answer that is under way, from its beginning', async () => {
  server.answers['/v1/chat/completions'] = () => stream(delta('Hel'));
  const first = server.chats();
  first.send('Hello?');
  await expect.poll(() => answerOf(first).text).toBe('Hel');
  first.save();

  server.answers['/admin/answers/'] = whole;
  const second = server.chats();
  expect(answerOf(second)).toMatchObject({ text: 'Hel', phase: 'writing' });
  second.catchUp();
  await settled(second);
  expect(answerOf(second).text).toBe('Hello.');
  expect(server.asked.map(({ path }) => path)).toContain(`/admin/answers/${answerOf(second).id}`);
});

it('an answer that the server does not know any more keeps its text and can be continued', async () => {
  server.answers['/v1/chat/completions'] = () => stream(delta('Hel'));
  const chats = server.chats();
  chats.send('Hello?');
  await expect.poll(() => answerOf(chats).text).toBe('Hel');
  server.answers['/admin/answers/'] = () => {
    throw new ServerError('nothing is known of it', 404, 'request_not_found');
  };
  chats.catchUp();
  await expect.poll(() => answerOf(chats).phase).toBe('broken');
  expect(answerOf(chats)).toMatchObject({ text: 'Hel', trouble: 'Samovar stopped before its end.' });

  server.answers['/v1/chat/completions'] = () => stream(delta('lo.'), 'data: [DONE]\n\n');
  chats.goOn();
  await settled(chats);
  expect(answerOf(chats)).toMatchObject({ text: 'Hello.', phase: 'done' });
  const paths = server.asked.map(({ path }) => path);
  const continued = server.body(paths.lastIndexOf('/v1/chat/completions'));
  expect(continued.continue_final_message).toBe(true);
  expect(continued.messages.at(-1)).toEqual({ role: 'assistant', content: 'Hel' });
});

it('an error in the stream ends the answer with a reason, and retry asks the same again', async () => {
  const error = { error: { message: 'stopped', code: 'interrupted' } };
  server.answers['/v1/chat/completions'] = () => stream(delta('Hel'), `data: ${JSON.stringify(error)}\n\n`);
  const chats = server.chats();
  chats.send('Hello?');
  await settled(chats);
  expect(answerOf(chats)).toMatchObject({
    text: 'Hel',
    phase: 'broken',
    trouble: 'Samovar stopped before its end.',
  });
  server.answers['/v1/chat/completions'] = whole;
  chats.retry();
  await settled(chats);
  expect(answerOf(chats)).toMatchObject({ text: 'Hello.', phase: 'done', trouble: null });
  expect(chats.current.messages).toHaveLength(2);
});

it('a stopped answer keeps its text, and the server is told', async () => {
  let end: () => void = () => undefined;
  server.answers['/v1/chat/completions'] = () =>
    new Response(
      new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(delta('Hel')));
          end = () => controller.close();
        },
      }),
    );
  const chats = server.chats();
  chats.send('Hello?');
  await expect.poll(() => answerOf(chats).text).toBe('Hel');
  await chats.stop(answerOf(chats));
  end();
  expect(answerOf(chats)).toMatchObject({ text: 'Hel', phase: 'stopped' });
  const told = server.asked.find(({ init }) => init.method === 'DELETE');
  expect(told?.path).toBe(`/admin/answers/${answerOf(chats).id}`);
});

it('drafts and earlier chats are there when the window comes back', async () => {
  const first = server.chats();
  first.send('First');
  await settled(first);
  first.open(null);
  first.current.draft = 'half a thou';
  first.save();

  const second = server.chats();
  expect(second.current.draft).toBe('half a thou');
  expect(second.list().map(({ title }) => title)).toContain('First');
  const earlier = second.list().find(({ title }) => title === 'First');
  second.open(earlier?.id ?? null);
  expect(answerOf(second).text).toBe('Hello.');
  second.delete(second.current.id);
  expect(second.list().map(({ title }) => title)).toEqual(['half a thou']);
});

it('a storage without room is said and nothing on the screen is lost', () => {
  const full = new ChatStore({
    ...localStorage,
    getItem: () => null,
    removeItem: () => undefined,
    setItem: (key: string) => {
      if (key.startsWith('samovar.chat.')) throw new DOMException('full', 'QuotaExceededError');
    },
  } as Storage);
  const chats = new Chats(server as unknown as Server, full);
  chats.send('Hello?');
  expect(chats.isUnsaved).toBe(true);
  expect(chats.current.messages).toHaveLength(2);
});

describe('a prompt', () => {
  const say = (role: 'user' | 'assistant', text: string) => ({ role, id: '', text }) as Message;

  it('has no empty answers, and questions in a row are one', () => {
    const messages = [say('user', 'a'), say('assistant', ''), say('user', 'b'), say('assistant', 'c')];
    expect(promptOf(messages)).toEqual([
      { role: 'user', content: 'a\n\nb' },
      { role: 'assistant', content: 'c' },
    ]);
  });
});

import { beforeEach, describe, expect, it } from 'vitest';

import { Chats } from '../src/lib/chats.svelte';
import { promptOf } from '../src/lib/conversation';
import { Client, ServerError } from '../src/lib/client';
import type { Server } from '../src/lib/server.svelte';
import { ChatStore, type Answer, type Message } from '../src/lib/storage';
import { memory, record, TestLocks } from './fixtures';

/** A server as far as chats need one: what it answers is decided by the test, path by path. */
class FakeServer {
  link = 'live';
  isReady = true;
  view: { active: { id: string; agent: string }[] } | null = null;
  readonly client = new Client();
  readonly asked: { path: string; init: RequestInit }[] = [];
  answers: Record<string, () => Response> = {};

  constructor() {
    this.client.send = async (path, init = {}) => {
      this.asked.push({ path, init });
      const [, answer] = Object.entries(this.answers).find(([start]) => path.startsWith(start)) ?? [];
      const response = answer?.() ?? Response.json(record());
      return Promise.resolve(init.signal ? cutBy(response, init.signal) : response);
    };
  }

  /** A window; with `locks`, a tab of a browser that has others. */
  chats(locks: TestLocks | null = null, tab = memory()): Chats {
    return new Chats(this as unknown as Server, new ChatStore(kept, tab), locks);
  }

  paths(method = 'GET'): string[] {
    return this.asked.filter(({ init }) => (init.method ?? 'GET') === method).map(({ path }) => path);
  }

  body(n: number): { messages: unknown[]; continue_final_message?: boolean } {
    return JSON.parse(String(this.asked[n]?.init.body)) as { messages: unknown[] };
  }
}

/** A response whose connection is closed when `signal` says so, as fetch does it. */
function cutBy(response: Response, signal: AbortSignal): Response {
  return new Response(response.body?.pipeThrough(new TransformStream(), { signal }) ?? null, response);
}

const delta = (content: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
const stream = (...frames: string[]) => new Response(frames.join(''));
const whole = () => stream(': prefill 3/9\n\n', delta('Hel'), delta('lo.'), 'data: [DONE]\n\n');
const answerOf = (chats: Chats) => chats.last as Answer;
/** Until nothing is under way any more. */
const settled = (chats: Chats) =>
  expect.poll(() => [chats.pending, answerOf(chats).record !== null]).toEqual([null, true]);

let server: FakeServer;
let kept: Storage;

beforeEach(() => {
  kept = memory();
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
  server.answers['/v1/chat/completions'] = () =>
    new Response(
      new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(delta('Hel')));
        },
      }),
    );
  const chats = server.chats();
  chats.send('Hello?');
  await expect.poll(() => answerOf(chats).text).toBe('Hel');
  await chats.stop(answerOf(chats));
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
  await second.delete(second.current.id);
  expect(second.list().map(({ title }) => title)).toEqual(['half a thou']);
});

it('a storage without room is said and nothing on the screen is lost', () => {
  const full = new ChatStore({
    ...memory(),
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

/** An answer that goes on until the test ends it. */
function open(...frames: string[]): {
  response: () => Response;
  say: (frame: string) => void;
  end: () => void;
  isCut: () => boolean;
} {
  let controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  let isCut = false;
  const bytes = (frame: string) => new TextEncoder().encode(frame);
  return {
    response: () =>
      new Response(
        new ReadableStream<Uint8Array>({
          start(given) {
            controller = given;
            for (const frame of frames) given.enqueue(bytes(frame));
          },
          cancel: () => void (isCut = true),
        }),
      ),
    say: (frame) => controller?.enqueue(bytes(frame)),
    end: () => controller?.close(),
    isCut: () => isCut,
  };
}

describe('many chats', () => {
  it('only the answer that is looked at is followed; what goes on elsewhere is looked up and kept', async () => {
    const streams = Array.from({ length: 16 }, (_, n) => open(delta(`answer ${n}`)));
    let nAsked = 0;
    server.answers['/v1/chat/completions'] = () => streams[nAsked++]?.response() ?? whole();
    const chats = server.chats(new TestLocks());
    const ids: string[] = [];
    for (let n = 0; n < 16; n += 1) {
      chats.open(null);
      ids.push(chats.current.id);
      chats.send(`question ${n}`);
      await expect.poll(() => answerOf(chats).text).toBe(`answer ${n}`);
    }
    await expect.poll(() => streams.filter((stream) => !stream.isCut())).toHaveLength(1);

    server.answers['/admin/answers/'] = () => stream(delta('All of it.'), 'data: [DONE]\n\n', ': ended\n\n');
    await chats.tend();
    const texts = ids
      .slice(0, 15)
      .map((id) => (new ChatStore(kept, memory()).load(id)?.messages.at(-1) as Answer).phase);
    expect(texts).toEqual(Array(15).fill('done'));
    expect(streams[15]?.isCut()).toBe(false);
    chats.open(ids[3] ?? null);
    expect(answerOf(chats)).toMatchObject({ text: 'All of it.', phase: 'done', record: record() });
    await expect.poll(() => streams[15]?.isCut()).toBe(true);
  });

  it('a question on its way arrives although one has gone to another chat, and is not asked twice', async () => {
    let arrive: (response: Response) => void = () => undefined;
    const { send } = server.client;
    server.client.send = (path, init) => {
      if (path !== '/v1/chat/completions') return send(path, init);
      server.asked.push({ path, init: init ?? {} });
      return new Promise((resolve) => (arrive = resolve));
    };
    const chats = server.chats(new TestLocks());
    await expect.poll(() => chats.writer).toBe('here');
    chats.send('Hello?');
    const { id } = chats.current;
    chats.open(null);
    chats.open(id);
    expect(server.asked[0]?.init.signal?.aborted).toBe(false);
    server.answers['/admin/answers/'] = whole;
    arrive(open().response());
    await settled(chats);
    expect(answerOf(chats).text).toBe('Hello.');
    expect(server.paths('POST')).toEqual(['/v1/chat/completions']);
  });

  it('what an answer took is kept, and what was to be sent next is sent, for who leaves at its very end', async () => {
    const asked: ((response: Response) => void)[] = [];
    const { send } = server.client;
    server.client.send = (path, init) => {
      if (!path.startsWith('/admin/requests/')) return send(path, init);
      return new Promise((resolve) => asked.push(resolve));
    };
    const answers = open(delta('Hello.'));
    server.answers['/v1/chat/completions'] = answers.response;
    const chats = server.chats(new TestLocks());
    await expect.poll(() => chats.writer).toBe('here');
    chats.send('Hello?');
    const { id } = chats.current;
    await expect.poll(() => answerOf(chats).text).toBe('Hello.');
    chats.send('And then?');
    answers.say('data: [DONE]\n\n');
    await expect.poll(() => asked).toHaveLength(1);
    chats.open(null);
    server.client.send = send;
    asked[0]?.(Response.json(record()));
    server.answers['/v1/chat/completions'] = whole;
    server.answers['/admin/answers/'] = whole;
    await expect
      .poll(async () => {
        await chats.tend();
        return server.paths('POST').length;
      })
      .toBe(2);
    chats.open(id);
    await settled(chats);
    const [, first, next] = chats.current.messages;
    expect(first).toMatchObject({ text: 'Hello.', phase: 'done', record: record() });
    expect(next).toMatchObject({ role: 'user', text: 'And then?' });
  });

  it('without a connection to spare, the answer that is looked at is looked up again and again', async () => {
    const locks = new TestLocks();
    for (let n = 0; n < 3; n += 1) await locks.take(`samovar.stream.${n}`);
    const asked = open(delta('Hel'));
    server.answers['/v1/chat/completions'] = asked.response;
    server.answers['/admin/answers/'] = () => stream(delta('Hel'));
    const chats = server.chats(locks);
    await expect.poll(() => chats.writer).toBe('here');
    chats.send('Hello?');
    await expect.poll(() => answerOf(chats).text).toBe('Hel');
    expect(asked.isCut()).toBe(true);
    server.answers['/admin/answers/'] = () =>
      stream(delta('Hel'), delta('lo.'), 'data: [DONE]\n\n', ': ended\n\n');
    await settled(chats);
    expect(answerOf(chats).text).toBe('Hello.');
    expect(new Set(server.paths().filter((path) => path.startsWith('/admin/answers')))).toEqual(
      new Set([`/admin/answers/${answerOf(chats).id}?follow=false`]),
    );
  });

  it('a page that nobody looks at lets go of its stream, and follows again from the beginning', async () => {
    const first = open(delta('Hel'));
    server.answers['/v1/chat/completions'] = first.response;
    server.answers['/admin/answers/'] = whole;
    const chats = server.chats();
    chats.send('Hello?');
    await expect.poll(() => answerOf(chats).text).toBe('Hel');
    chats.hide();
    await expect.poll(() => first.isCut()).toBe(true);
    expect(server.paths()).toEqual([]);
    chats.show();
    await settled(chats);
    expect(answerOf(chats).text).toBe('Hello.');
  });

  it('what was queued in a chat that is not open any more is sent as well', async () => {
    server.isReady = false;
    const chats = server.chats();
    chats.send('Hello?');
    const { id } = chats.current;
    chats.open(null);
    server.isReady = true;
    server.answers['/admin/answers/'] = whole;
    await chats.tend();
    await chats.tend();
    chats.open(id);
    await settled(chats);
    expect(answerOf(chats).text).toBe('Hello.');
  });
});

describe('two tabs', () => {
  it('one chat is written by one tab; the other one shows it and says so, and writes when it is free', async () => {
    const locks = new TestLocks();
    const first = server.chats(locks);
    await expect.poll(() => first.writer).toBe('here');
    first.send('First?');
    await settled(first);

    const second = server.chats(locks);
    await expect.poll(() => second.writer).toBe('elsewhere');
    expect(second.current.id).toBe(first.current.id);
    second.send('Second?');
    second.retry();
    second.current.draft = 'overwritten';
    second.save();
    expect(second.current.messages).toHaveLength(2);
    expect(await second.delete(second.current.id)).toBe(false);

    first.send('Third?');
    await settled(first);
    const { id } = first.current;
    first.open(null);
    await expect.poll(() => second.writer).toBe('here');
    expect(second.current.id).toBe(id);
    expect(second.current.messages.map(({ text }) => text)).toEqual(['First?', 'Hello.', 'Third?', 'Hello.']);
    expect(second.current.draft).toBe('');
  });

  it('what one tab writes is seen in the other one as it is written', async () => {
    const locks = new TestLocks();
    const first = server.chats(locks);
    await expect.poll(() => first.writer).toBe('here');
    first.send('First?');
    await settled(first);
    const second = server.chats(locks);
    await expect.poll(() => second.writer).toBe('elsewhere');
    first.send('More?');
    await settled(first);
    const key = `samovar.chat.${first.current.id}`;
    const newValue = kept.getItem(key);
    second.onstorage({ storageArea: kept, key, newValue } as StorageEvent);
    expect(second.current.messages.at(-2)?.text).toBe('More?');
  });

  it('a chat that is deleted in one tab does not come back from another one', async () => {
    const locks = new TestLocks();
    const first = server.chats(locks);
    await expect.poll(() => first.writer).toBe('here');
    first.send('First?');
    await settled(first);
    const { id } = first.current;
    const second = server.chats(locks);
    await expect.poll(() => second.writer).toBe('elsewhere');
    expect(await first.delete(id)).toBe(true);
    await expect.poll(() => second.writer).toBe('here');
    second.save();
    expect(second.current.id).not.toBe(id);
    expect(second.list()).toEqual([]);
    expect(first.list()).toEqual([]);
  });

  it('each tab comes back to its own chat', async () => {
    const locks = new TestLocks();
    const [tab, other] = [memory(), memory()];
    const first = server.chats(locks, tab);
    const second = server.chats(locks, other);
    await expect.poll(() => [first.writer, second.writer]).toEqual(['here', 'here']);
    first.send('First?');
    second.send('Second?');
    await settled(first);
    await settled(second);
    expect(server.chats(null, tab).current.id).toBe(first.current.id);
    expect(server.chats(null, other).current.id).toBe(second.current.id);
  });
});

describe('nothing is lost', () => {
  it('retry leaves the answers of before below, the latest first, and sends none of them', async () => {
    const chats = server.chats();
    chats.send('Hello?');
    await settled(chats);
    for (const again of ['Hi.', 'Ahoy.']) {
      server.answers['/v1/chat/completions'] = () => stream(delta(again), 'data: [DONE]\n\n');
      chats.retry();
      await settled(chats);
    }
    expect(answerOf(chats)).toMatchObject({ text: 'Ahoy.', phase: 'done' });
    expect(answerOf(chats).earlier.map(({ text }) => text)).toEqual(['Hi.', 'Hello.']);
    expect(server.body(server.asked.length - 2).messages).toEqual([{ role: 'user', content: 'Hello?' }]);
    expect((server.chats().last as Answer).earlier).toHaveLength(2);
  });

  it('a message that is longer than the context comes back into the field, and the chat can go on', async () => {
    const chats = server.chats();
    chats.send('Hello?');
    await settled(chats);
    const message = 'the prompt does not fit';
    const lengths = { prompt_tokens: 12043, context_length: 8192 };
    const error = { error: { message, code: 'context_length_exceeded', ...lengths } };
    server.answers['/v1/chat/completions'] = () => stream(`data: ${JSON.stringify(error)}\n\n`);
    chats.send('far too long');
    await expect.poll(() => chats.pending).toBeNull();
    expect(chats.current.messages.map(({ text }) => text)).toEqual(['Hello?', 'Hello.']);
    expect(chats.current.draft).toBe('far too long');
    expect(chats.current.refused).toBe(
      'This is 12k tokens; the model reads 8.2k. Shorten it, or start a new chat.'.replaceAll(
        /(\d) (\d)/g,
        '$1\u202f$2',
      ),
    );
    server.answers['/v1/chat/completions'] = whole;
    chats.send('short');
    await settled(chats);
    expect(chats.current.messages).toHaveLength(4);
    expect(chats.current.refused).toBeNull();
  });

  it('what is sent while an answer is written goes out after it, and comes back if that is stopped', async () => {
    const first = open(delta('Hel'));
    server.answers['/v1/chat/completions'] = first.response;
    const chats = server.chats();
    chats.send('One?');
    await expect.poll(() => answerOf(chats).text).toBe('Hel');
    chats.send('Two?');
    chats.send('Three?');
    expect([chats.current.next, chats.current.draft]).toEqual(['Two?\n\nThree?', '']);
    chats.takeBack();
    expect([chats.current.next, chats.current.draft]).toEqual([null, 'Two?\n\nThree?']);
    chats.send(chats.current.draft);
    server.answers['/v1/chat/completions'] = whole;
    first.say('data: [DONE]\n\n');
    first.end();
    await expect
      .poll(() => chats.current.messages.map(({ text }) => text))
      .toEqual(['One?', 'Hel', 'Two?\n\nThree?', 'Hello.']);

    server.answers['/v1/chat/completions'] = open(delta('x')).response;
    chats.send('Four?');
    await expect.poll(() => answerOf(chats).text).toBe('x');
    chats.send('Five?');
    await chats.stop(answerOf(chats));
    expect([chats.current.next, chats.current.draft]).toEqual([null, 'Five?']);
  });

  it('an answer that is stopped in another window is stopped here', async () => {
    const first = open(delta('Hel'));
    server.answers['/v1/chat/completions'] = first.response;
    server.answers['/admin/answers/'] = () => stream(delta('Hel'), ': ended\n\n');
    const chats = server.chats();
    chats.send('Hello?');
    await expect.poll(() => answerOf(chats).text).toBe('Hel');
    first.end();
    await expect.poll(() => answerOf(chats).phase).toBe('stopped');
  });
});

describe('a deleted chat', () => {
  it('takes its context at the server with it, once nothing of it runs any more', async () => {
    server.answers['/v1/chat/completions'] = open(delta('Hel')).response;
    const chats = server.chats();
    chats.send('Hello?');
    await expect.poll(() => answerOf(chats).text).toBe('Hel');
    const { id } = chats.current;
    const answer = answerOf(chats).id;
    server.view = { active: [{ id: answer, agent: `chat-${id}` }] };
    await chats.delete(id);
    expect(server.paths('DELETE')).toEqual([`/admin/answers/${answer}`]);
    server.view = { active: [] };
    await chats.tend();
    await chats.tend();
    expect(server.paths('DELETE')).toEqual([`/admin/answers/${answer}`, `/v1/agents/chat-${id}`]);
    expect(chats.list()).toEqual([]);
  });

  it('whose question is still on its way is stopped and forgotten when that has arrived', async () => {
    let arrive: (response: Response) => void = () => undefined;
    const { send } = server.client;
    server.client.send = (path, init) =>
      path === '/v1/chat/completions' ? new Promise((resolve) => (arrive = resolve)) : send(path, init);
    const chats = server.chats();
    chats.send('Hello?');
    const { id } = chats.current;
    const answer = answerOf(chats).id;
    await chats.delete(id);
    server.asked.length = 0;
    arrive(open(delta('Hel')).response());
    await expect.poll(() => server.paths('DELETE')).toContain(`/v1/agents/chat-${id}`);
    expect(server.paths('DELETE')).toEqual([`/admin/answers/${answer}`, `/v1/agents/chat-${id}`]);
    expect(chats.list()).toEqual([]);
  });

  it('is forgotten by the server later when it does not answer now, also by the next window', async () => {
    const chats = server.chats();
    chats.send('Hello?');
    await settled(chats);
    const { id } = chats.current;
    server.answers['/v1/agents/'] = () => {
      throw ServerError.unreachable();
    };
    await chats.delete(id);
    server.answers['/v1/agents/'] = () => Response.json({});
    const next = server.chats();
    await next.tend();
    await next.tend();
    expect(server.paths('DELETE')).toEqual([`/v1/agents/chat-${id}`, `/v1/agents/chat-${id}`]);
  });

  it('that the server knows nothing of is not asked for for ever', async () => {
    const chats = server.chats();
    chats.current.draft = 'only a draft';
    chats.save();
    server.answers['/v1/agents/'] = () => {
      throw new ServerError('there is no such agent', 404, 'agent_not_found');
    };
    await chats.delete(chats.current.id);
    await chats.tend();
    expect(server.paths('DELETE')).toHaveLength(1);
  });
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

// Parts as a person meets them: mounted, read and clicked.

import { flushSync, mount, unmount, type Component } from 'svelte';
import { afterEach, expect, it, vi } from 'vitest';

import { Chats } from '../src/lib/chats.svelte';
import { copyFrom } from '../src/lib/copying.svelte';
import type { Host } from '../src/lib/host';
import { Server } from '../src/lib/server.svelte';
import type { Answer } from '../src/lib/storage';
import type { View } from '../src/lib/wire';
import AnswerView from '../src/parts/AnswerView.svelte';
import Banner from '../src/parts/Banner.svelte';
import Composer from '../src/parts/Composer.svelte';
import Header from '../src/parts/Header.svelte';
import Keys from '../src/parts/Keys.svelte';
import QuitQuestion from '../src/parts/QuitQuestion.svelte';
import Strip from '../src/parts/Strip.svelte';
import StatusView from '../src/views/StatusView.svelte';
import { model, record, view } from './fixtures';

let mounted: Record<string, unknown> | null = null;

afterEach(() => {
  if (mounted) void unmount(mounted);
  mounted = null;
  localStorage.clear();
  vi.unstubAllGlobals();
});

function show<Props extends Record<string, unknown>>(part: Component<Props>, props: Props): void {
  document.body.replaceChildren();
  mounted = mount(part, { target: document.body, props });
  flushSync();
}

function host(change: Partial<Host> = {}): Host {
  const nothing = vi.fn(() => Promise.resolve());
  return {
    isDesktop: true,
    apiBase: () => Promise.resolve({ url: 'http://127.0.0.1:8642', token: null }),
    quit: nothing,
    quitNow: nothing,
    cancelQuit: nothing,
    retryLoad: nothing,
    openLogs: nothing,
    zoom: null,
    ...change,
  };
}

function seeing(change: Partial<View>, on: Host = host()): Server {
  const server = new Server(on);
  server.link = 'live';
  server.view = view(change);
  server.viewedAt = performance.now();
  return server;
}

const text = () => (document.body.textContent ?? '').replaceAll('\u202f', ' ').replace(/\s+/g, ' ');
const button = (name: string) => {
  const all = [...document.querySelectorAll<HTMLButtonElement>('button')];
  return all.find((each) => (each.getAttribute('aria-label') ?? each.textContent).trim() === name);
};

const answer = (change: Partial<Answer>): Answer => ({
  role: 'assistant',
  id: 'r-1',
  text: '',
  base: '',
  phase: 'waiting',
  done: 0,
  total: 0,
  record: null,
  trouble: null,
  earlier: [],
  ...change,
});

function showAnswer(change: Partial<Answer>, server = seeing({})): void {
  show(AnswerView, { answer: answer(change), chats: new Chats(server), server, isLast: true });
}

const request = { id: 'r-1', agent: null, prompt_tokens: 6000, generated_tokens: 0 };

it('a prompt that is read shows how far, with a bar, until the text takes its place', () => {
  const active = [{ ...request, phase: 'reading' as const, done_tokens: 3200 }];
  showAnswer({ phase: 'reading' }, seeing({ active }));
  expect(text()).toContain('reading 3 200 of 6 000 tokens');
  expect(document.querySelector('[role=progressbar]')?.getAttribute('aria-valuenow')).toBe('53');
  showAnswer({ phase: 'writing', text: 'Hello' }, seeing({ active }));
  expect(text()).not.toContain('reading');
  expect(text()).toContain('Hello');
});

it('an answer in the queue says how many are before it', () => {
  const waiting = { ...request, phase: 'waiting' as const, done_tokens: 0 };
  showAnswer({}, seeing({ active: [{ ...waiting, id: 'a' }, { ...waiting, id: 'b' }, waiting] }));
  expect(text()).toContain('Waiting: 2 requests before it');
});

it('the quiet line opens to the reasons', () => {
  showAnswer({ phase: 'done', text: 'Hello', record: record() });
  expect(text()).toContain('1.2k reused · 38 new · 41 tok/s');
  expect(text()).not.toContain('First word');
  document.querySelector<HTMLButtonElement>('.why')?.click();
  flushSync();
  expect(text()).toContain('the text is new after 1 200 tokens');
});

it('an answer that broke off says why and can be continued or tried again', () => {
  showAnswer({ phase: 'broken', text: 'Hel', trouble: 'Samovar stopped before its end.' });
  expect(text()).toContain('Samovar stopped before its end.');
  expect(button('Continue')).toBeTruthy();
  expect(button('Retry')).toBeTruthy();
});

it('while draining, the banner counts and has both ways out', () => {
  const on = host({ quitNow: vi.fn(() => Promise.resolve()), cancelQuit: vi.fn(() => Promise.resolve()) });
  const drain = { active: 2, unsaved_bytes: 0, deadline_s: 21 };
  show(Banner, { server: seeing({ state: 'draining', then: 'exit', drain }, on) });
  expect(text()).toContain('Finishing 2 requests · 21 s left');
  button('Quit Now')?.click();
  button('Cancel Quit')?.click();
  expect(on.quitNow).toHaveBeenCalledOnce();
  expect(on.cancelQuit).toHaveBeenCalledOnce();
});

it('a failure has its cause, its details, retry and the logs', () => {
  const on = host({ retryLoad: vi.fn(() => Promise.resolve()), openLogs: vi.fn(() => Promise.resolve()) });
  const cause = 'the model could not be loaded: x.gguf: no such file';
  show(Banner, { server: seeing({ state: 'failed', failure: 'no_such_file', cause }, on) });
  expect(text()).toContain('The model’s file is not there.');
  expect(text()).toContain('x.gguf: no such file');
  button('Retry')?.click();
  button('Open Logs')?.click();
  expect(on.retryLoad).toHaveBeenCalledOnce();
  expect(on.openLogs).toHaveBeenCalledOnce();
});

it('a command that the host refuses says so', async () => {
  const on = host({ cancelQuit: () => Promise.reject(new Error('too late')) });
  const drain = { active: 1, unsaved_bytes: 0, deadline_s: 21 };
  show(Banner, { server: seeing({ state: 'draining', then: 'exit', drain }, on) });
  button('Cancel Quit')?.click();
  await expect.poll(() => document.querySelector('[role=alert]')?.textContent).toContain('too late');
});

it('a locked server asks for its key', () => {
  const server = seeing({});
  server.link = 'locked';
  show(Banner, { server });
  expect(document.querySelector('input[type=password]')).toBeTruthy();
});

it('the input sends on Enter, breaks lines on Shift-Enter, and stops while an answer comes in', () => {
  const server = seeing({ state: 'loading' });
  const chats = new Chats(server);
  show(Composer, { chats, server });
  const field = document.querySelector('textarea');
  if (!field) throw new Error('no input');
  const type = (key: string, shiftKey = false) => {
    field.dispatchEvent(new KeyboardEvent('keydown', { key, shiftKey, cancelable: true, bubbles: true }));
    flushSync();
  };
  chats.current.draft = 'Hello?';
  flushSync();
  type('Enter', true);
  expect(chats.current.messages).toHaveLength(0);
  type('Enter');
  expect(chats.current.messages).toHaveLength(2);
  expect(chats.current.draft).toBe('');
  button('Stop')?.click();
  flushSync();
  expect(chats.pending).toBeNull();
  expect(button('Send')).toBeTruthy();
});

/** The input of a chat, and what types into it. */
function showComposer(server = seeing({ state: 'loading' })) {
  const chats = new Chats(server);
  show(Composer, { chats, server });
  const field = document.querySelector('textarea');
  if (!field) throw new Error('no input');
  const press = (init: KeyboardEventInit) => {
    field.dispatchEvent(new KeyboardEvent('keydown', { cancelable: true, bubbles: true, ...init }));
    flushSync();
  };
  const write = (draft: string) => {
    chats.current.draft = draft;
    flushSync();
  };
  return { chats, press, write };
}

it('Enter that ends a composition sends nothing, whichever way the browser tells', () => {
  const { chats, press, write } = showComposer();
  for (const init of [{ isComposing: true, keyCode: 229 }, { keyCode: 229 }, { isComposing: true }]) {
    write('茶は');
    press({ key: 'Enter', ...init });
    expect(chats.current.messages).toEqual([]);
    expect(chats.current.draft).toBe('茶は');
  }
  press({ key: 'Enter', keyCode: 13 });
  expect(chats.current.messages).toHaveLength(2);
});

it('Enter while an answer comes in says what is sent next, and that can be taken back', () => {
  const { chats, press, write } = showComposer();
  write('One?');
  press({ key: 'Enter' });
  write('Two?');
  expect(button('Stop')).toBeTruthy();
  press({ key: 'Enter' });
  expect(text()).toContain('next: Two?');
  expect(chats.current.draft).toBe('');
  button('Don’t send it: Two?')?.click();
  flushSync();
  expect(text()).not.toContain('next:');
  expect(chats.current.draft).toBe('Two?');
});

it('a message that is longer than the context says so before it is sent, and stays', () => {
  const { chats, press, write } = showComposer(seeing({}));
  write('The kettle sang and the tea was poured again. '.repeat(2000));
  expect(text()).toContain(
    'This is about 23k tokens; the model reads 8.2k. Shorten it, or start a new chat.',
  );
  expect(button('Send')?.disabled).toBe(true);
  press({ key: 'Enter' });
  expect(chats.current.messages).toEqual([]);
  expect(chats.current.draft.length).toBeGreaterThan(90_000);
  write('Hello?');
  expect(text()).not.toContain('tokens');
  expect(button('Send')?.disabled).toBe(false);
});

it('nothing that was sent can be stopped while there is no connection', () => {
  const server = seeing({});
  const { chats, press, write } = showComposer(server);
  write('Hello?');
  press({ key: 'Enter' });
  server.link = 'lost';
  flushSync();
  expect(chats.pending?.phase).toBe('waiting');
  expect(button('Stop')).toBeUndefined();
});

it('the input says why it is closed', () => {
  const server = seeing({ state: 'draining', then: 'exit' });
  show(Composer, { chats: new Chats(server), server });
  expect(document.querySelector('textarea')?.placeholder).toBe('Quitting: no new messages');
  expect(document.querySelector('textarea')?.disabled).toBe(true);
});

it('the strip says how full the pool is and opens the status', () => {
  const onopen = vi.fn();
  show(Strip, { server: seeing({ running: 2, waiting: 1 }), onopen });
  expect(text()).toContain('pool 41 % 2 running · 1 waiting');
  document.querySelector<HTMLButtonElement>('.strip')?.click();
  expect(onopen).toHaveBeenCalledOnce();
});

it('without a connection, numbers of before are none', () => {
  const server = seeing({ running: 2, waiting: 1 });
  server.link = 'lost';
  show(Strip, { server, onopen: () => undefined });
  expect(text()).not.toMatch(/\d|running|waiting/);
  expect(document.querySelector('.strip')?.getAttribute('aria-label')).not.toMatch(/\d/);
});

it('what a model thinks is folded away, and what it says is copied', async () => {
  const writeText = vi.fn<(text: string) => Promise<void>>(() => Promise.resolve());
  vi.stubGlobal('navigator', { ...navigator, clipboard: { writeText } });
  showAnswer({ phase: 'done', text: '<think>\nHm, *tea*.\n</think>\n\nYes.' });
  expect(text()).not.toContain('<think>');
  expect(document.querySelector('details.thought')?.textContent).toContain('Hm, *tea*.');
  expect(document.querySelector<HTMLDetailsElement>('details.thought')?.open).toBe(false);
  button('Copy')?.click();
  await expect.poll(() => writeText.mock.calls).toEqual([['Yes.']]);
  showAnswer({ phase: 'writing', text: '<think>\nHm' });
  expect(text()).toContain('Thinking…');
  vi.unstubAllGlobals();
});

it('a copy says that it worked or that it did not, and the button is itself again', async () => {
  vi.useFakeTimers();
  for (const [writeText, want] of [
    [() => Promise.resolve(), 'Copied'],
    [() => Promise.reject(new Error('no')), 'Not copied'],
  ] as const) {
    vi.stubGlobal('navigator', { ...navigator, clipboard: { writeText } });
    showAnswer({ phase: 'done', text: 'Yes.' });
    button('Copy')?.click();
    await vi.advanceTimersByTimeAsync(100);
    flushSync();
    expect(button(want), want).toBeTruthy();
    await vi.advanceTimersByTimeAsync(5000);
    flushSync();
    expect(button('Copy'), want).toBeTruthy();
  }
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it('the copy of a block of code says the same', async () => {
  vi.useFakeTimers();
  for (const [writeText, want] of [
    [() => Promise.resolve(), 'Copied'],
    [() => Promise.reject(new Error('no')), 'Not copied'],
  ] as const) {
    vi.stubGlobal('navigator', { ...navigator, clipboard: { writeText } });
    const place = Object.assign(document.createElement('button'), { textContent: 'Copy' });
    await copyFrom(place, 'x');
    expect(place.textContent).toBe(want);
    await vi.advanceTimersByTimeAsync(5000);
    expect(place.textContent).toBe('Copy');
  }
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it('an answer that was asked for again has the earlier ones below it', () => {
  const earlier = [
    { id: 'a', text: 'Second **try**.' },
    { id: 'b', text: 'First try.' },
  ];
  showAnswer({ phase: 'done', text: 'Third.', earlier });
  const all = [...document.querySelectorAll('details.earlier')].map((each) =>
    each.querySelector('.said')?.textContent.trim(),
  );
  expect(all).toEqual(['Second try.', 'First try.']);
});

it('in a browser, quitting is asked before it is done; in the app it is the app’s', () => {
  const nothing = () => undefined;
  for (const isDesktop of [false, true]) {
    const quit = vi.fn(() => Promise.resolve());
    const onquit = vi.fn();
    const props = {
      view: 'chat' as const,
      isFinding: false,
      onview: nothing,
      onnew: nothing,
      onfind: nothing,
    };
    show(Header, { server: seeing({}, host({ isDesktop, quit })), ...props, onquit, onsay: nothing });
    button('Menu')?.click();
    flushSync();
    const item = [...document.querySelectorAll<HTMLElement>('[role=menuitem]')].at(-1);
    item?.click();
    expect([quit.mock.calls.length, onquit.mock.calls.length]).toEqual(isDesktop ? [1, 0] : [0, 1]);
  }
});

it('the question whether to quit says what it means, and a key that was meant for something else keeps it running', () => {
  const quit = vi.fn(() => Promise.resolve());
  const onclose = vi.fn();
  show(QuitQuestion, { server: seeing({ running: 2 }, host({ isDesktop: false, quit })), onclose });
  expect(text()).toContain('The server ends for every program that uses it');
  expect(text()).toContain('It finishes 2 requests first.');
  expect(document.activeElement).toBe(button('Keep Running'));
  (document.activeElement as HTMLElement).click();
  expect([quit.mock.calls.length, onclose.mock.calls.length]).toEqual([0, 1]);
  button('Quit')?.click();
  expect(quit).toHaveBeenCalledOnce();
});

it('a question that the server has not yet said to wait is being sent', () => {
  showAnswer({ phase: 'waiting' });
  expect(text()).toContain('Sending…');
});

it('the model’s details and the status say where it runs, and why not on the GPU', () => {
  const nothing = () => undefined;
  const props = { view: 'chat' as const, isFinding: false, onview: nothing, onnew: nothing, onfind: nothing };
  const gpu_refusal = { kind: 'wrong' as const, text: 'layer 3: off by 0.5' };
  const server = seeing({ model: { ...model, gpu_refusal } });
  const words = 'On the CPU: the GPU computed wrong numbers when it was tried';
  show(Header, { server, ...props, onquit: nothing, onsay: nothing });
  expect(text()).not.toContain(words);
  button('Model SmolLM2')?.click();
  flushSync();
  expect(text()).toContain(words);
  vi.stubGlobal('fetch', () => new Promise(() => undefined));
  show(StatusView, { server, chats: new Chats(server) });
  expect(text()).toContain(`${words}.`);
  expect(text()).toContain('layer 3: off by 0.5');
});

it('the status shows checkpoints’ share of memory and of the disk, and says nothing of them where there are none', () => {
  vi.stubGlobal('fetch', () => new Promise(() => undefined));
  const none = seeing({});
  show(StatusView, { server: none, chats: new Chats(none) });
  expect(text()).not.toContain('Checkpoints');
  const { pool, store } = view();
  const server = seeing({
    pool: { ...pool, states: { live_bytes: 6000, checkpoints: 4, checkpoint_bytes: 12e3 } },
    store: { ...store, checkpoints: 5, checkpoint_bytes: 3e6 },
  });
  show(StatusView, { server, chats: new Chats(server) });
  const rows = [...document.querySelectorAll('main dt')].map(
    (name) => `${name.textContent}: ${name.nextElementSibling?.textContent.trim().replaceAll('\u202f', ' ')}`,
  );
  expect(rows).toEqual(
    expect.arrayContaining([
      'Running states: 6.0 kB',
      'Checkpoints: 4, 12 kB (12 %)',
      'Checkpoints: 5, 3.0 MB (25 %)',
    ]),
  );
});

it('the menu goes by arrow keys and closes on Escape', () => {
  const nothing = () => undefined;
  const props = {
    view: 'chat' as const,
    isFinding: false,
    onview: nothing,
    onnew: nothing,
    onfind: nothing,
    ...{ onquit: nothing, onsay: nothing },
  };
  show(Header, { server: seeing({}), ...props });
  button('Menu')?.click();
  flushSync();
  const items = [...document.querySelectorAll<HTMLElement>('[role=menuitem]')];
  expect(document.activeElement).toBe(items[0]);
  const type = (key: string) => {
    document.activeElement?.dispatchEvent(
      new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }),
    );
    flushSync();
  };
  type('ArrowDown');
  expect(document.activeElement).toBe(items[1]);
  type('ArrowUp');
  type('ArrowUp');
  expect(document.activeElement).toBe(items.at(-1));
  type('Escape');
  expect(document.querySelector('[role=menu]')).toBeNull();
  expect(document.activeElement).toBe(button('Menu'));
});

const KEYS = {
  required: true,
  keys: [
    { name: 'laptop', scopes: ['generate'], requests_per_minute: 60, created_at: 1 },
    { name: 'phone', scopes: ['generate', 'admin'], requests_per_minute: null, created_at: 2 },
  ],
};

/** A server that keeps these keys; what it is asked besides reading them. */
function keeping(list: unknown, on: Host = host()): { server: Server; asked: string[] } {
  const asked: string[] = [];
  const server = seeing({}, on);
  server.client.send = (path, init = {}) => {
    const body = typeof init.body === 'string' ? init.body : '';
    if (init.method !== undefined) asked.push(`${init.method} ${path} ${body}`.trim());
    const made = {
      name: 'new',
      scopes: ['generate'],
      requests_per_minute: null,
      created_at: 3,
      key: 'sk-123',
    };
    return Promise.resolve(Response.json(init.method === 'POST' ? made : list));
  };
  return { server, asked };
}

/** Waits until the page says so. */
const says = (what: string) =>
  vi.waitFor(() => {
    flushSync();
    expect(text()).toContain(what);
  });

function type(label: string, value: string): void {
  const field = document.querySelector<HTMLInputElement>(`input[aria-label="${label}"]`);
  if (!field) throw new Error(label);
  field.value = value;
  field.dispatchEvent(new Event('input', { bubbles: true }));
  flushSync();
}

it('lists keys by what they open and never what they are', async () => {
  show(Keys, { server: keeping(KEYS).server });
  await says('laptop answers, 60 requests a minute');
  expect(text()).toContain('phone answers, control');
});

it('asks before a key is revoked', async () => {
  const { server, asked } = keeping(KEYS);
  show(Keys, { server });
  await says('laptop');
  button('Revoke: laptop')?.click();
  flushSync();
  button('Keep')?.click();
  flushSync();
  button('Revoke: laptop')?.click();
  flushSync();
  expect(asked).toEqual([]);
  button('Revoke')?.click();
  await vi.waitFor(() => expect(asked).toEqual(['DELETE /admin/keys/laptop']));
});

it('shows a new key once, to be copied', async () => {
  const { server, asked } = keeping(KEYS);
  show(Keys, { server });
  await says('laptop');
  expect(button('Add Key')?.disabled).toBe(true);
  type('Name of a new key', 'new');
  type('Requests a minute', '5');
  button('Add Key')?.click();
  await says('sk-123');
  expect(asked).toEqual(['POST /admin/keys {"name":"new","scopes":["generate"],"requests_per_minute":5}']);
  expect(text()).toContain('Copy it now, it is not shown again.');
  button('Done')?.click();
  flushSync();
  expect(text()).not.toContain('sk-123');
});

it('makes the first key one that a browser can come back with, and shows it from then on', async () => {
  const { server, asked } = keeping({ required: false, keys: [] }, host({ isDesktop: false }));
  const unlock = vi.spyOn(server, 'unlock').mockImplementation(() => undefined);
  show(Keys, { server });
  await says('Programs on this machine need no key.');
  type('Name of a new key', 'new');
  button('Add Key')?.click();
  await says('sk-123');
  expect(asked).toEqual(['POST /admin/keys {"name":"new","scopes":["generate","admin"]}']);
  expect(unlock).toHaveBeenCalledWith('sk-123');
});

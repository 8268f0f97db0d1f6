import { afterEach, describe, expect, it, vi } from 'vitest';

import type { Host } from '../src/lib/host';
import { Server } from '../src/lib/server.svelte';
import { TestLocks, view } from './fixtures';

const host = { isDesktop: false, apiBase: () => Promise.resolve({ url: '', token: null }) } as Host;

/** Every request for events that is open, to be written to or cut. */
let streams: ReadableStreamDefaultController<Uint8Array>[] = [];
let nStatus = 0;
let isAway = false;
let isLocked = false;
const tabs: Server[] = [];

const event = (running: number) =>
  new TextEncoder().encode(`event: status\ndata: ${JSON.stringify(view({ running }))}\n\n`);

function serve(path: string, init: RequestInit = {}): Promise<Response> {
  if (isAway) return Promise.reject(new TypeError('refused'));
  const hasKey = new Headers(init.headers).get('authorization') === 'Bearer right';
  if (isLocked && !hasKey)
    return Promise.resolve(Response.json({ error: { message: 'no' } }, { status: 401 }));
  if (path === '/admin/status') nStatus += 1;
  if (path !== '/admin/events')
    return Promise.resolve(Response.json(path === '/admin/status' ? view() : { moments: [] }));
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => {
      streams.push(controller);
      controller.enqueue(event(0));
      init.signal?.addEventListener('abort', () => {
        streams = streams.filter((other) => other !== controller);
        controller.error(new DOMException('cut', 'AbortError'));
      });
    },
  });
  return Promise.resolve(new Response(body));
}

function open(locks: TestLocks | null): Server {
  vi.stubGlobal('fetch', serve);
  const tab = new Server(host, locks);
  tabs.push(tab);
  void tab.open();
  return tab;
}

afterEach(() => {
  for (const tab of tabs.splice(0)) tab.close();
  vi.unstubAllGlobals();
  sessionStorage.clear();
  streams = [];
  nStatus = 0;
  isAway = isLocked = false;
});

describe('tabs', () => {
  it('share one connection for what the server says, and all hear it', async () => {
    const locks = new TestLocks();
    const all = Array.from({ length: 8 }, () => open(locks));
    await expect.poll(() => all.map((tab) => tab.link)).toEqual(Array(8).fill('live'));
    await expect.poll(() => streams.length).toBe(1);
    streams[0]?.enqueue(event(3));
    await expect.poll(() => all.map((tab) => tab.now?.running)).toEqual(Array(8).fill(3));
    expect(nStatus).toBe(8);
  });

  it('go on when the one that listens is closed, or is not seen any more', async () => {
    const locks = new TestLocks();
    const first = open(locks);
    await expect.poll(() => streams.length).toBe(1);
    const second = open(locks);
    const third = open(locks);
    await expect.poll(() => third.link).toBe('live');
    first.hide();
    await expect.poll(() => streams.length).toBe(1);
    streams[0]?.enqueue(event(1));
    await expect.poll(() => [second.now?.running, third.now?.running]).toEqual([1, 1]);
    second.close();
    await expect.poll(() => streams.length).toBe(1);
    streams[0]?.enqueue(event(2));
    await expect.poll(() => third.now?.running).toBe(2);
    first.show();
    await expect.poll(() => first.now?.running).toBe(0);
    expect(streams).toHaveLength(1);
  });

  it('lose a server together and find it together', async () => {
    const locks = new TestLocks();
    const all = [open(locks), open(locks), open(locks)];
    await expect.poll(() => all.map((tab) => tab.link)).toEqual(Array(3).fill('live'));
    await expect.poll(() => streams.length).toBe(1);
    isAway = true;
    streams.splice(0)[0]?.close();
    await expect.poll(() => all.map((tab) => tab.link)).toEqual(Array(3).fill('lost'));
    expect(all.map((tab) => tab.now)).toEqual([null, null, null]);
    isAway = false;
    for (const tab of all) tab.tryNow();
    await expect.poll(() => all.map((tab) => tab.link), { timeout: 10_000 }).toEqual(Array(3).fill('live'));
  }, 20_000);

  it('show nothing of a server whose key they have not shown, whatever another tab hears', async () => {
    isLocked = true;
    const locks = new TestLocks();
    const first = open(locks);
    const second = open(locks);
    await expect.poll(() => [first.link, second.link]).toEqual(['locked', 'locked']);
    first.unlock('right');
    await expect.poll(() => streams.length).toBe(1);
    streams[0]?.enqueue(event(1));
    await expect.poll(() => first.now?.running).toBe(1);
    expect([second.link, second.view]).toEqual(['locked', null]);
    second.unlock('right');
    await expect.poll(() => second.link).toBe('live');
  });

  it('that have no locks listen each for themselves', async () => {
    const tab = open(null);
    await expect.poll(() => streams.length).toBe(1);
    streams[0]?.enqueue(event(4));
    await expect.poll(() => tab.now?.running).toBe(4);
  });
});

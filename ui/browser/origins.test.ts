// Pages of other origins in a real browser: none may read what the server says, nor have it do anything, whichever API it
// speaks and whichever way a page has to send something. The app's own page still works.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterAll, beforeAll, expect, it } from 'vitest';

import type { View } from '../src/lib/wire';
import { closeBrowser, openBrowser, Samovar, until, Window } from './rig';

/** A name that a page's owner has led to this machine. */
const REBOUND = 'rebound.test';

const ASKED = [{ role: 'user', content: 'Say hello.' }];
/** A generation, and what else costs something, in every dialect. */
const CALLS: Record<string, object> = {
  '/v1/chat/completions': { messages: ASKED, max_tokens: 4 },
  '/v1/completions': { prompt: 'Say hello.', max_tokens: 4 },
  '/v1/responses': { input: 'Say hello.', max_output_tokens: 16 },
  '/v1/embeddings': { input: 'hello' },
  '/v1/messages': { messages: ASKED, max_tokens: 4 },
  '/v1/messages/count_tokens': { messages: ASKED },
  '/api/chat': { messages: ASKED, options: { num_predict: 4 } },
  '/api/generate': { prompt: 'Say hello.', options: { num_predict: 4 } },
  '/api/embed': { input: 'hello' },
  '/admin/drain': {},
  '/admin/stop': {},
};
/** What can be read without asking for anything. */
const VIEWS = [
  '/v1/models',
  '/v1/agents',
  '/api/tags',
  '/admin/status',
  '/admin/requests',
  '/metrics',
  '/openapi.json',
];

interface Tried {
  /** What was read, by way and path: nothing may be. */
  read: string[];
  nTried: number;
}

/** Runs in the other page: every way that a page has to send a body somewhere, or to look at something. */
async function tryAll([address, calls, views]: [string, Record<string, object>, string[]]): Promise<Tried> {
  const read: string[] = [];
  let nTried = 0;
  const attempt = async (what: string, send: () => Promise<Response>) => {
    nTried += 1;
    try {
      const text = await (await send()).text();
      if (text !== '') read.push(`${what}: ${text.slice(0, 80)}`);
    } catch {
      // As it should be: the browser keeps it to itself, or the server has refused before it was asked.
    }
  };
  for (const [path, body] of Object.entries(calls)) {
    const text = JSON.stringify(body);
    for (const mode of ['cors', 'no-cors'] as const) {
      for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded']) {
        for (const credentials of ['omit', 'include'] as const) {
          const init = { method: 'POST', mode, credentials, headers: { 'content-type': type }, body: text };
          await attempt(`${mode} ${type} ${path}`, () => fetch(address + path, init));
        }
      }
      await attempt(`${mode} nothing ${path}`, () =>
        fetch(address + path, { method: 'POST', mode, body: new Blob([text]) }),
      );
    }
    nTried += 2;
    navigator.sendBeacon(address + path, text);
    const frame = document.createElement('iframe');
    frame.name = path;
    document.body.append(frame);
    const form = document.createElement('form');
    Object.assign(form, { method: 'post', enctype: 'text/plain', action: address + path, target: path });
    const field = document.createElement('input');
    // As text/plain this is sent as NAME=VALUE: a whole JSON object.
    Object.assign(field, { name: `${text.slice(0, -1)}${text === '{}' ? '' : ','}"x":"`, value: '"}' });
    form.append(field);
    document.body.append(form);
    const loaded = new Promise((resolve) => frame.addEventListener('load', resolve));
    form.submit();
    await Promise.race([loaded, new Promise((resolve) => setTimeout(resolve, 5000))]);
    try {
      if (frame.contentDocument?.body.innerText) read.push(`form ${path}`);
    } catch {
      // Of another origin.
    }
  }
  for (const path of views) {
    for (const mode of ['cors', 'no-cors'] as const)
      await attempt(`${mode} ${path}`, () => fetch(address + path, { mode }));
  }
  nTried += 1;
  const events = new EventSource(`${address}/admin/events`);
  await new Promise<void>((resolve) => {
    events.onerror = () => resolve();
    events.onmessage = (event) => {
      read.push(`events: ${String(event.data).slice(0, 80)}`);
      resolve();
    };
  });
  events.close();
  return { read, nTried };
}

let server: Samovar;
const other = createServer((_, response) => {
  response.setHeader('content-type', 'text/html');
  response.end('<!doctype html><title>another page</title><body>');
});
let port = 0;

beforeAll(async () => {
  server = new Samovar();
  await server.start();
  await server.ready();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  ({ port } = other.address() as AddressInfo);
});
afterAll(async () => {
  other.close();
  await closeBrowser();
  await server.end();
});

const nAsked = async () => {
  const metrics = await (await fetch(`${server.address}/metrics`)).text();
  return Number(/^samovar_requests_total (\d+)$/m.exec(metrics)?.[1]);
};

/** Have a page at `url` try everything against the server at `address`. */
async function attack(url: string, address: string): Promise<Tried> {
  const page = await (await (await openBrowser()).newContext()).newPage();
  await page.goto(url);
  const tried = await page.evaluate(tryAll, [address, CALLS, VIEWS] as [
    string,
    Record<string, object>,
    string[],
  ]);
  await page.context().close();
  return tried;
}

async function checkUntouched(): Promise<void> {
  const view = await server.get<View>('/admin/status');
  expect([view.state, view.active, await nAsked()]).toEqual(['ready', [], 0]);
}

it.each(['127.0.0.1', 'localhost'])(
  'a page on another port of %s reads nothing and has nothing done',
  async (name) => {
    for (const host of ['127.0.0.1', 'localhost']) {
      const address = server.address.replace('127.0.0.1', host);
      const { read, nTried } = await attack(`http://${name}:${port}/`, address);
      expect(read).toEqual([]);
      expect(nTried).toBeGreaterThan(150);
      await checkUntouched();
    }
  },
);

it('a page without an origin, from a file or in a sandbox, reads nothing and has nothing done', async () => {
  const { read } = await attack('data:text/html,<title>nowhere</title><body>', server.address);
  expect(read).toEqual([]);
  await checkUntouched();
});

it('a page whose name was led to this machine after it was loaded is told that its host is not known', async () => {
  const address = server.address.replace('127.0.0.1', REBOUND);
  const page = await (await (await openBrowser()).newContext()).newPage();
  const response = await page.goto(`${address}/`);
  expect(response?.status()).toBe(403);
  const statuses = await page.evaluate(
    ([paths, body]) =>
      Promise.all(
        paths.map(async (path) => {
          const headers = { 'content-type': 'application/json' };
          return (await fetch(path, { method: 'POST', headers, body })).status;
        }),
      ),
    [Object.keys(CALLS), JSON.stringify({ messages: ASKED })] as [string[], string],
  );
  expect(new Set(statuses)).toEqual(new Set([403]));
  await page.context().close();
  await checkUntouched();
});

it("the app's own page still works", async () => {
  const window = await Window.open(server);
  await window.state('Ready');
  await window.send('Say hello.');
  await window.answer(0).getByText('tok/s').waitFor();
  expect(window.complaints).toEqual([]);
  await until('it was asked', async () => (await nAsked()) === 1);
});

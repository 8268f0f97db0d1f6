// The real headless server with the real model, and a real Chromium in front of it: one of each a test.

import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';

import type { ActiveRequest, View } from '../src/lib/wire';

/** Set by make: the debug build, which has hold points, and a folder with the test models. */
const BINARY = resolve(process.env['SAMOVAR_TEST_BIN'] ?? '../target/debug/samovar');
const MODELS = process.env['SAMOVAR_TEST_MODELS'] ?? '';
const CHROMIUM = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
].find(existsSync);
/** For work on the page: its files are taken from here and not out of the binary. */
const DIST = process.env['SAMOVAR_TEST_DIST'];
const MODEL = 'SmolLM2-135M-Instruct.Q4_1.gguf';

/** Greedy, so that an answer is the same every time; a pool for several servers; a drain and a queue that no machine
 * outlasts. */
const FLAGS = '--temperature 0 --kv-pool 256MiB --drain-timeout 600 --queue-timeout 600'.split(' ');
/** Nothing is measured: only so that a hang ends. */
const GIVE_UP_MS = 120_000;

export type Scheme = 'light' | 'dark';

/** A server of a test's own: on a free port, with a data folder that nobody else has. */
export class Samovar {
  #child: ChildProcess | null = null;
  readonly #data = mkdtempSync(join(tmpdir(), 'samovar-ui-'));
  readonly #holds = join(this.#data, 'holds');
  address = '';

  constructor() {
    mkdirSync(this.#holds);
  }

  /** Start it, on the port of the last time if there was one. */
  async start(...flags: string[]): Promise<void> {
    const model = join(MODELS, MODEL);
    if (!existsSync(model))
      throw new Error(`there is no ${model}: run make models and set SAMOVAR_TEST_MODELS`);
    const port = this.address === '' ? '0' : new URL(this.address).port;
    const environment = Object.entries(process.env).filter(([name]) => !name.startsWith('SAMOVAR_'));
    const child = spawn(BINARY, ['serve', '--port', port, '--model', model, ...FLAGS, ...flags], {
      env: {
        ...Object.fromEntries(environment),
        SAMOVAR_DATA_DIR: this.#data,
        SAMOVAR_HOLD_DIR: this.#holds,
      },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    this.#child = child;
    // A test runner that dies must not leave a server behind.
    process.once('exit', () => child.kill('SIGKILL'));
    const lines = createInterface({ input: child.stdout });
    for await (const line of lines) {
      const [, address] = /^listening on (http:\/\/\S+)$/.exec(line) ?? [];
      if (address === undefined) throw new Error(`the first line on stdout is '${line}'`);
      this.address = address;
      return;
    }
    throw new Error('the server ended before it listened');
  }

  hold(point: string): void {
    writeFileSync(join(this.#holds, `${point}.hold`), '');
  }

  release(point: string): void {
    rmSync(join(this.#holds, `${point}.hold`));
  }

  async held(point: string): Promise<void> {
    await until(`held at ${point}`, () => existsSync(join(this.#holds, `${point}.held`)));
  }

  /** Make the next step fail. */
  fault(): void {
    writeFileSync(join(this.#holds, 'step.error'), '');
  }

  async ready(): Promise<void> {
    await until('ready', async () => (await fetch(`${this.address}/health/ready`)).ok);
  }

  async get<T>(path: string): Promise<T> {
    return (await (await fetch(this.address + path)).json()) as T;
  }

  /** The requests in flight. */
  async active(): Promise<ActiveRequest[]> {
    return (await this.get<View>('/admin/status')).active;
  }

  /** End every answer that a window has asked for. */
  async quiet(): Promise<void> {
    for (const { id } of await this.active()) {
      await fetch(`${this.address}/admin/answers/${id}`, { method: 'DELETE' });
    }
    await until('nothing runs', async () => (await this.active()).length === 0);
  }

  /** A chat of another client; gives its status. */
  async ask(content: string, more: object = {}): Promise<number> {
    const body = JSON.stringify({ messages: [{ role: 'user', content }], ...more });
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${this.address}/v1/chat/completions`, { method: 'POST', headers, body });
    await response.text();
    return response.status;
  }

  /** Its exit code, once it has ended. */
  async exit(): Promise<number | null> {
    const child = this.#child;
    if (child === null) return null;
    if (child.exitCode === null) await new Promise((resolve) => child.once('exit', resolve));
    return child.exitCode;
  }

  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.exit();
  }

  async end(): Promise<void> {
    await this.kill();
    rmSync(this.#data, { recursive: true, force: true });
  }
}

let browser: Browser | null = null;

export async function openBrowser(): Promise<Browser> {
  browser ??= await chromium.launch({
    executablePath: CHROMIUM ?? 'chromium',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      // A name of another's that leads here, as a page's owner can have it.
      '--host-resolver-rules=MAP rebound.test 127.0.0.1',
    ],
  });
  return browser;
}

export async function closeBrowser(): Promise<void> {
  await browser?.close();
  browser = null;
}

/** A window of the app's size, and everything that went wrong in it. */
export class Window {
  readonly complaints: string[] = [];

  private constructor(
    readonly context: BrowserContext,
    readonly page: Page,
  ) {}

  static async open(server: Samovar, scheme: Scheme = 'light'): Promise<Window> {
    const context = await (
      await openBrowser()
    ).newContext({ viewport: { width: 400, height: 600 }, colorScheme: scheme, deviceScaleFactor: 2 });
    if (DIST !== undefined) {
      await context.route(/\/(assets\/.*|icon\.svg)?$/, (route) => {
        const path = new URL(route.request().url()).pathname;
        return route.fulfill({ path: join(DIST, path === '/' ? 'index.html' : path) });
      });
    }
    const window = new Window(context, await context.newPage());
    window.#listen();
    await window.page.goto(server.address);
    return window;
  }

  #listen(): void {
    this.page.setDefaultTimeout(GIVE_UP_MS);
    this.page.on('pageerror', (error) => this.complaints.push(error.message));
    this.page.on('console', (message) => {
      // A server that is gone or refuses is what some tests are about; the page's own mistakes never are.
      const isRefusal = message.text().startsWith('Failed to load resource');
      if (message.type() === 'error' && !isRefusal) this.complaints.push(message.text());
    });
  }

  /** A window of the same browser, after this one. */
  async again(server: Samovar): Promise<Window> {
    const window = new Window(this.context, await this.context.newPage());
    window.#listen();
    await window.page.goto(server.address);
    return window;
  }

  state(word: string): Promise<void> {
    return this.page.locator('.state', { hasText: word }).waitFor();
  }

  async write(text: string): Promise<void> {
    await this.page.getByLabel('Message').fill(text);
  }

  async send(text: string): Promise<void> {
    await this.write(text);
    await this.page.keyboard.press('Enter');
  }

  /** The n-th answer's text, counted from 0. */
  answer(n: number) {
    return this.page.locator('li:has(h2:text-is("samovar"))').nth(n);
  }

  async choose(item: string): Promise<void> {
    await this.page.getByRole('button', { name: 'Menu' }).click();
    await this.page.getByRole('menuitem', { name: item }).click();
  }

  button(name: string) {
    return this.page.getByRole('button', { name, exact: true });
  }
}

/** Wait for something that no event tells of; it takes as long as it takes. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const since = Date.now();
  for (;;) {
    const is = await Promise.resolve(holds()).catch(() => false);
    if (is) return;
    if (Date.now() - since > GIVE_UP_MS) throw new Error(`not in ${GIVE_UP_MS / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

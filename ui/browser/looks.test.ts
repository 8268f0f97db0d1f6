// A walk through every state, in one server and one window: in light and in dark nothing complains, axe finds nothing,
// and with SAMOVAR_SCREENSHOTS a picture is left.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import axe from 'axe-core';
import { afterAll, beforeAll, expect, it } from 'vitest';

import { closeBrowser, Samovar, until, Window, type Scheme } from './rig';

const PICTURES = process.env['SAMOVAR_SCREENSHOTS'];
const SCHEMES: Scheme[] = ['light', 'dark'];
const QUESTION = 'Name three planets, as a short Markdown list.';
const STORY = 'Tell me a long story about a samovar.';

let server: Samovar;
let window: Window;

beforeAll(async () => {
  server = new Samovar();
  server.hold('load_half');
  await server.start();
  window = await Window.open(server);
});
afterAll(async () => {
  await closeBrowser();
  await server.end();
});

/** Look at what is there now. */
async function look(name: string): Promise<void> {
  for (const colorScheme of SCHEMES) {
    await window.page.emulateMedia({ colorScheme });
    await still();
    if (PICTURES) {
      mkdirSync(PICTURES, { recursive: true });
      await window.page.screenshot({ path: join(PICTURES, `${name}-${colorScheme}.png`) });
    }
    expect(await faults(), `${name}, ${colorScheme}`).toEqual([]);
  }
  expect(window.complaints).toEqual([]);
}

/** Wait until no colour is on its way to another one. */
async function still(): Promise<void> {
  await window.page.evaluate(async () => {
    await new Promise((next) => requestAnimationFrame(next));
    await Promise.allSettled(document.getAnimations().map((animation) => animation.finished));
  });
}

/** What axe finds, one line each. */
async function faults(): Promise<string[]> {
  await window.page.evaluate(axe.source);
  return window.page.evaluate(async () => {
    const results = await (globalThis as unknown as { axe: typeof axe }).axe.run();
    return results.violations.map(({ id, nodes }) => [id, ...nodes.map((node) => node.html)].join('\n  '));
  });
}

it('loading: the header counts, and one can write already', async () => {
  await server.held('load_half');
  await window.page.locator('.state', { hasText: /Loading [1-9]/ }).waitFor();
  expect(await window.page.getByRole('progressbar', { name: 'Loading the model' }).count()).toBe(1);
  await look('loading');
});

it('queued: a message that cannot be sent yet says so, and goes out when the model is there', async () => {
  await window.send(QUESTION);
  await window.answer(0).getByText('Will be sent when the model is loaded').waitFor();
  await look('queued');
  server.release('load_half');
  await window.answer(0).getByText('tok/s').waitFor();
  await window.state('Ready');
});

it('chat: the second answer reuses the first one’s context', async () => {
  await window.send('Which of them is the largest?');
  await window
    .answer(1)
    .getByText(/\d+ reused · \d+ new · .*tok.s/)
    .waitFor();
  await window.state('Ready');
  await look('chat');
});

it('reasons: the quiet line opens to why', async () => {
  await window.answer(1).getByText('tok/s').click();
  await window.answer(1).getByText('already in memory').waitFor();
  await look('reasons');
});

it('menu', async () => {
  await window.page.getByRole('button', { name: 'Menu' }).click();
  await look('menu');
  await window.page.keyboard.press('Escape');
});

it('find: what is sought is counted and marked', async () => {
  await window.button('Find in this chat').click();
  await window.page.getByRole('textbox', { name: 'Find in this chat' }).fill('largest');
  await window.page.getByText(/^\d+ of \d+$/).waitFor();
  await look('find');
  await window.page.keyboard.press('Escape');
});

it('status: memory, speed and who writes', async () => {
  for (const agent of ['research', 'mail']) {
    await server.ask(`Hello from ${agent}. Say a few words about tea.`, {
      max_tokens: 24,
      session_id: agent,
    });
  }
  const writing = server.ask(STORY, { max_tokens: 2000, ignore_eos: true, session_id: 'writer' });
  await window.page.getByRole('button', { name: /^Status/ }).click();
  await window.page.getByText('writing').waitFor();
  await window.page.getByText('Up for').waitFor();
  server.hold('step');
  await server.held('step');
  await look('status');
  await window.button('Chat').click();
  await window.choose('Pause');
  await window.page.getByText(/Finishing 1 request · .* left/).waitFor();
  await window.button('Pause Now').click();
  server.release('step');
  expect(await writing).toBe(503);
});

it('paused: the input says why it is closed, and Resume opens it', async () => {
  await window.state('Paused');
  expect(await window.page.getByLabel('Message').isDisabled()).toBe(true);
  await look('paused');
  await window.button('Resume').click();
  await window.state('Ready');
});

it('reading: how many tokens of how many', async () => {
  await window.choose('New Chat');
  await window.send(`Summarise this. ${'The kettle sang and the tea was poured again. '.repeat(700)}`);
  await until('some of it is read', async () => (await server.active())[0]?.phase === 'reading');
  server.hold('step');
  await server.held('step');
  await window
    .answer(0)
    .getByText(/reading .* of .* tokens/)
    .waitFor();
  await look('reading');
  await window.button('Stop').click();
  server.release('step');
  await window.answer(0).getByText('stopped').waitFor();
});

it('failed: the cause in a sentence, details, and Retry brings the model back', async () => {
  await window.choose('New Chat');
  // The worker is rebuilt after a failure, twice; the third one is left to a person.
  for (let n = 0; n < 3; n += 1) {
    await server.ready();
    server.fault();
    await server.ask('Hello');
  }
  await window.state('Failed');
  await window.page.getByText('Details').click();
  await look('failed');
  await window.button('Retry').click();
  await window.state('Ready');
  await look('empty');
});

it('draining: a running answer goes on, and the banner has both ways out', async () => {
  await window.send(STORY);
  await window.answer(0).locator('.text').waitFor();
  server.hold('step');
  await server.held('step');
  await window.choose('Quit Samovar');
  await window.page.getByRole('alertdialog').waitFor();
  await look('quit-question');
  await window.button('Quit').click();
  await window.page.getByText(/Finishing 1 request · .* left/).waitFor();
  const banner = window.page.getByRole('region', { name: 'Quitting' });
  expect(await banner.evaluate((banner) => banner.scrollHeight - banner.clientHeight)).toBe(0);
  await look('draining');
  await window.button('Cancel Quit').click();
  await window.state('Answering');
  server.release('step');
});

it('quit: at the end it says that it has quit, and that the chat is kept', async () => {
  await window.choose('Quit Samovar');
  await window.button('Quit').click();
  await window.button('Quit Now').click();
  await window.page.getByText('Samovar has quit.').waitFor();
  await window.answer(0).getByText('Samovar stopped before its end.').waitFor();
  await look('quit');
  // An answer was interrupted, and the exit code says so.
  expect(await server.exit()).toBe(3);
});

// What a person may rely on, one promise after the other in one server: that nothing is lost, that stop stops, and that
// a quit is clean.

import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';

import type { View } from '../src/lib/wire';
import { closeBrowser, Samovar, until, Window } from './rig';

/** Long enough that nobody waits for its end. */
const STORY = 'Tell me a long story about a samovar.';

let server: Samovar;
let window: Window;

beforeAll(async () => {
  server = new Samovar();
  await server.start();
  window = await Window.open(server);
});
beforeEach(async () => {
  await window.state('Ready');
  await window.choose('New Chat');
});
afterEach(() => {
  expect(window.complaints).toEqual([]);
});
afterAll(async () => {
  await closeBrowser();
  await server.end();
});

const text = () => window.answer(0).locator('.text').innerText();

/** Wait until the answer has more text than `before`; gives what it has then. */
async function grown(before = ''): Promise<string> {
  await until('there is more text', async () => (await text()).length > before.length);
  return text();
}

async function stop(): Promise<void> {
  await window.page.keyboard.press('Escape');
  await window
    .answer(0)
    .getByText(/stopped · .* new/)
    .waitFor();
  await until('nothing runs', async () => (await server.active()).length === 0);
}

it('closing the window loses nothing: the answer goes on, and draft and text are there again', async () => {
  await window.send(STORY);
  const before = await grown();
  await window.write('a thought for later');
  await window.page.close();
  const [first] = await server.active();
  await until('it goes on without a window', async () => {
    const [active] = await server.active();
    return (active?.generated_tokens ?? 0) > (first?.generated_tokens ?? 0);
  });

  window = await window.again(server);
  expect(await window.page.getByLabel('Message').inputValue()).toBe('a thought for later');
  expect((await grown(before)).startsWith(before.slice(0, 10))).toBe(true);
  await stop();
});

it('stop ends the answer in the server too and keeps its text; continue goes on, retry begins again', async () => {
  await window.send(STORY);
  await grown();
  await stop();
  const before = await text();
  await window.button('Continue').click();
  await grown(before);
  await stop();
  await window.button('Retry').click();
  await grown();
  await stop();
  expect(await window.page.locator('li').count()).toBe(2);
});

it('everything can be reached and done by keyboard', async () => {
  const { keyboard } = window.page;
  await keyboard.type('Say hello.');
  await keyboard.press('Enter');
  await grown();
  await keyboard.press('Control+j');
  await window.page.getByRole('main', { name: 'Status' }).waitFor();
  await keyboard.press('Escape');
  await keyboard.press('Control+k');
  await window.page.getByText('Ask something.').waitFor();
  await keyboard.press('Control+o');
  await window.page.getByRole('main', { name: 'Chats' }).getByText('Say hello.').waitFor();
  const focused = () => window.page.locator('button:focus').allInnerTexts();
  for (let n = 0; n < 20 && !(await focused()).join().includes('Say hello.'); n += 1)
    await keyboard.press('Tab');
  await keyboard.press('Enter');
  await window.answer(0).getByText('tok/s').waitFor();
});

it('a server that is killed in mid-answer leaves the text so far, and the next one continues it', async () => {
  await window.send(STORY);
  await grown();
  await server.kill();
  await window.state('Not connected');
  const before = await text();
  await server.start();
  await window.answer(0).getByText('Samovar stopped before its end.').waitFor();
  await window.state('Ready');
  await window.button('Continue').click();
  expect((await grown(before)).startsWith(before.slice(0, 10))).toBe(true);
  await stop();
});

it('a quit finishes the answer, the process ends with 0, and the page goes on with the next server', async () => {
  await window.send('Say hello.');
  await grown();
  await window.choose('Quit Samovar');
  expect((await server.get<View>('/admin/status')).state).toBe('ready');
  await window.button('Quit').click();
  await window.page.getByText('Samovar has quit.').waitFor();
  expect(await server.exit()).toBe(0);
  expect(await window.answer(0).getByText('Samovar stopped before its end.').count()).toBe(0);

  await server.start();
  await window.state('Ready');
  await window.send('And again.');
  await window.answer(1).getByText('tok/s').waitFor();
});

// Many chats and many tabs of one browser: it opens six connections to a host, and every answer comes in all the same.

import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';

import { closeBrowser, Samovar, until, Window } from './rig';

/** Long enough that nobody waits for its end. */
const story = (n: number) => `Tell me a long story about samovar number ${n}.`;

let server: Samovar;
let windows: Window[] = [];

beforeAll(async () => {
  server = new Samovar();
  await server.start();
  await server.ready();
});
beforeEach(async () => {
  windows = [await Window.open(server)];
  await windows[0]?.state('Ready');
});
afterEach(async () => {
  expect(windows.flatMap(({ complaints }) => complaints)).toEqual([]);
  await windows[0]?.context.close();
  await server.quiet();
});
afterAll(async () => {
  await closeBrowser();
  await server.end();
});

const first = () => {
  const [window] = windows;
  if (!window) throw new Error('no window');
  return window;
};
const text = (window: Window) => window.answer(0).locator('.text').innerText();
const begun = (window: Window) => until('there is text', async () => (await text(window)).length > 0);

it('sixteen chats of one window are all answered, and each can be looked at', async () => {
  const window = first();
  for (let n = 0; n < 16; n += 1) {
    await window.choose('New Chat');
    await window.send(story(n));
    await begun(window);
  }
  // The engine answers sixteen at a time: one more waits and says so. What is short is not held up.
  await window.choose('New Chat');
  await window.send('Say hello.');
  await window
    .answer(0)
    .getByText(/Waiting for its turn|tok.s/)
    .waitFor();
  await window.page.getByRole('button', { name: /^Status: pool/ }).click();
  await window.page.getByText('Up for').waitFor();
  await window.choose('Chats');
  for (const n of [0, 7, 15]) {
    await window.page
      .getByRole('button', { name: `samovar number ${n}.` })
      .first()
      .click();
    const before = await text(window);
    await until('it goes on', async () => {
      const now = await text(window);
      return now.length > before.length || (await window.answer(0).getByText('tok/s').count()) > 0;
    });
    await window.choose('Chats');
  }
});

it('eight tabs that are all looked at are all answered, with the state in each', async () => {
  while (windows.length < 8) windows.push(await first().again(server));
  for (const [n, window] of windows.entries()) {
    await window.choose('New Chat');
    await window.send(story(n));
  }
  for (const window of windows) {
    await begun(window);
    await window.state('Answering');
  }
  const before = await Promise.all(windows.map(text));
  for (const [n, window] of windows.entries()) {
    await until('it goes on', async () => {
      const now = await text(window);
      return now.length > (before[n]?.length ?? 0) || (await window.answer(0).getByText('tok/s').count()) > 0;
    });
  }
  const last = windows.at(-1);
  await last?.page.keyboard.press('Escape');
  await last?.answer(0).getByText('stopped').waitFor();
});

it('a tab of the same chat can only read it, sees what is written, and writes when the other one is gone', async () => {
  const window = first();
  await window.send('Say hello.');
  await window.answer(0).getByText('tok/s').waitFor();
  const second = await window.again(server);
  windows.push(second);
  await second.page.getByText('This chat is open in another tab, where it can be written.').waitFor();
  expect(await second.page.getByLabel('Message').count()).toBe(0);
  expect(await second.button('Retry').count()).toBe(0);
  await window.send('Say hello again.');
  await window.answer(1).getByText('tok/s').waitFor();
  await second.answer(1).getByText('tok/s').waitFor();
  expect(await second.answer(1).locator('.text').innerText()).toBe(
    await window.answer(1).locator('.text').innerText(),
  );

  await second.button('New Chat').click();
  await second.write('in the second tab');
  await second.page.reload();
  expect(await second.page.getByLabel('Message').inputValue()).toBe('in the second tab');

  await second.choose('Chats');
  await second.page.getByRole('button', { name: 'Say hello.' }).first().click();
  await second.page.getByText('This chat is open in another tab, where it can be written.').waitFor();
  await window.page.close();
  await second.send('And a third time.');
  await second.answer(2).getByText('tok/s').waitFor();
});

it('a chat that is deleted is gone from every tab and from the server, and does not come back', async () => {
  const window = first();
  const agents = async () => (await server.get<{ data: { id: string }[] }>('/v1/agents')).data.length;
  const before = await agents();
  await window.send(story(99));
  await begun(window);
  const second = await window.again(server);
  windows.push(second);
  await second.page.getByText('This chat is open in another tab').waitFor();

  await second.choose('Chats');
  await second.button('Delete: ' + story(99)).click();
  await second.button('Delete').click();
  await second.page.getByText('open in another tab').waitFor();
  await window.choose('Chats');
  await window.button('Delete: ' + story(99)).click();
  await window.button('Delete').click();
  await until('nothing runs', async () => (await server.active()).length === 0);
  await until('the server has forgotten it', async () => (await agents()) === before);
  await until('the other tab has, too', async () => (await second.page.getByText(story(99)).count()) === 0);
  await second.page.reload();
  await second.choose('Chats');
  expect(await second.page.getByText(story(99)).count()).toBe(0);
  expect(await agents()).toBe(before);
});

it('a page that is not seen holds no connection, and is up to date when it is seen again', async () => {
  const window = first();
  const look = (state: string) =>
    window.page.evaluate((state) => {
      Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, state);
  await window.send(story(0));
  await begun(window);
  const open = new Set<string>();
  window.page.on('request', (request) => open.add(request.url()));
  window.page.on('requestfinished', (request) => open.delete(request.url()));
  window.page.on('requestfailed', (request) => open.delete(request.url()));
  await look('hidden');
  await look('visible');
  await until('it follows again', () => [...open].some((url) => url.includes('/admin/answers/')));
  await until('it listens again', () => [...open].some((url) => url.includes('/admin/events')));
  await look('hidden');
  await until('it has let go', () => open.size === 0);
  const before = await text(window);
  const [running] = await server.active();
  await until('it goes on at the server', async () => {
    const [now] = await server.active();
    return now === undefined || now.generated_tokens > (running?.generated_tokens ?? 0) + 20;
  });
  // Now and then it looks, and that is short.
  expect([...open].filter((url) => !url.includes('follow=false'))).toEqual([]);
  await look('visible');
  await until('it is up to date', async () => (await text(window)).length > before.length);
});

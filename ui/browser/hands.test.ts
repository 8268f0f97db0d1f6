// What hands do: keys, input methods, a much enlarged page, what is dropped, and where the focus is afterwards.

import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';

import { closeBrowser, Samovar, until, Window } from './rig';

const STORY = 'Tell me a long story about a samovar.';

let server: Samovar;
let window: Window;

beforeAll(async () => {
  server = new Samovar();
  await server.start();
  window = await Window.open(server);
});
beforeEach(async () => {
  await window.page.setViewportSize({ width: 400, height: 600 });
  await server.quiet();
  await window.state('Ready');
  await window.page.keyboard.press('Control+k');
  await window.page.getByText('Ask something.').waitFor();
});
afterEach(() => {
  expect(window.complaints).toEqual([]);
});
afterAll(async () => {
  await closeBrowser();
  await server.end();
});

/** What has the focus: its name, or its text. */
const focused = () =>
  window.page.evaluate(() => {
    const active = document.activeElement;
    return active === document.body
      ? 'body'
      : (active?.getAttribute('aria-label') ?? active?.textContent?.trim() ?? '');
  });
const focusIsKept = (after: string) =>
  until(`the focus is somewhere after: ${after}`, async () => (await focused()) !== 'body');

async function stop(): Promise<void> {
  await window.page.keyboard.press('Escape');
  await window
    .answer(0)
    .getByText(/stopped · .* new/)
    .waitFor();
}

it('find by key takes the keys, from everywhere, and Enter there sends nothing', async () => {
  const { keyboard } = window.page;
  await window.send('Say hello.');
  await window.answer(0).getByText('tok/s').waitFor();
  await window.write('a draft');
  for (const way of ['from the message', 'again', 'from the status', 'from the chats', 'from the menu']) {
    if (way === 'from the status') await keyboard.press('Control+j');
    if (way === 'from the chats') await keyboard.press('Control+o');
    if (way === 'from the menu') await window.choose('Find');
    else await keyboard.press('Control+f');
    await until(way, async () => (await focused()) === 'Find in this chat');
    await keyboard.type('hello');
    await keyboard.press('Enter');
    expect(await window.page.getByRole('textbox', { name: 'Find in this chat' }).inputValue(), way).toBe(
      'hello',
    );
    expect(await window.page.getByLabel('Message').inputValue(), way).toBe('a draft');
    expect(await window.page.locator('li').count(), way).toBe(2);
  }
  await keyboard.press('Escape');
  await until('the keys go to the message', async () => (await focused()) === 'Message');
});

it('an input method composes in peace: Enter and Escape are its own', async () => {
  const { page } = window;
  const devtools = await window.context.newCDPSession(page);
  const field = page.getByLabel('Message');
  const compose = (text: string) =>
    devtools.send('Input.imeSetComposition', {
      text,
      selectionStart: text.length,
      selectionEnd: text.length,
    });
  const key = async (name: string) => {
    // As the system gives a key that an input method takes.
    for (const type of ['rawKeyDown', 'keyUp'] as const) {
      await devtools.send('Input.dispatchKeyEvent', {
        type,
        key: name,
        code: name,
        windowsVirtualKeyCode: 229,
      });
    }
  };
  for (const [half, whole] of [
    ['ちゃ', '茶'],
    ['zhong', '中'],
    ['ㅎㅏ', '하'],
    ['´', 'é'],
    ['にほんご', '日本語'],
  ] as const) {
    await field.focus();
    await compose(half);
    await key('Enter');
    expect(await page.locator('li').count(), half).toBe(0);
    await devtools.send('Input.insertText', { text: whole });
    await key('Enter');
    expect(await field.inputValue()).toBe(whole);
    expect(await page.locator('li').count(), whole).toBe(0);
    await field.fill('');
  }
  await window.send(STORY);
  await window.answer(0).locator('.text').waitFor();
  await compose('ちゃ');
  await key('Escape');
  expect(await window.answer(0).getByText('stopped').count()).toBe(0);
  await devtools.send('Input.insertText', { text: '' });
  await stop();
});

it('a view that is opened or clicked has no ring around it, and one that Tab goes to has', async () => {
  const { page } = window;
  const { keyboard } = page;
  const ring = () => page.locator('main').evaluate((main) => getComputedStyle(main).outlineStyle);
  const hasFocus = () => page.locator('main').evaluate((main) => document.activeElement === main);
  for (const [name, open] of [
    ['Status', () => keyboard.press('Control+j')],
    ['Chats', () => keyboard.press('Control+o')],
    ['Status', () => window.choose('Status')],
    ['Chats', () => window.choose('Chats')],
  ] as const) {
    await open();
    await page.getByRole('main', { name }).waitFor();
    await until(`the keys go to ${name}`, hasFocus);
    await keyboard.press('PageDown');
    expect(await ring(), name).toBe('none');
    await keyboard.press('Shift+Tab');
    expect(await hasFocus()).toBe(false);
    await keyboard.press('Tab');
    expect([await hasFocus(), await ring()], name).toEqual([true, 'solid']);
  }
  await keyboard.press('Escape');
  await page.locator('main').click();
  await keyboard.press('PageUp');
  expect([await hasFocus(), await ring()]).toEqual([true, 'none']);
});

it('after every command the keys go somewhere', async () => {
  const { page } = window;
  const { keyboard } = page;
  await window.send(STORY);
  await window.answer(0).locator('.text').waitFor();
  await window.button('Stop').click();
  await window.answer(0).getByText('stopped').waitFor();
  await focusIsKept('Stop');
  for (const name of ['Continue', 'Retry']) {
    await window.button(name).click();
    await window.button('Stop').waitFor();
    await focusIsKept(name);
    await stop();
  }
  for (const key of [
    'Control+j',
    'Escape',
    'Control+o',
    'Escape',
    'Control+f',
    'Escape',
    'Control+j',
    'Control+o',
    'Control+k',
  ]) {
    await keyboard.press(key);
    await focusIsKept(key);
  }
  for (const item of ['Status', 'Chats', 'Find', 'New Chat']) {
    await window.choose(item);
    await focusIsKept(item);
    await keyboard.press('Escape');
    await focusIsKept(`Escape after ${item}`);
  }
  await window.choose('Chats');
  await page
    .getByRole('button', { name: /^Delete: / })
    .first()
    .click();
  await focusIsKept('the first Delete');
  await window.button('Keep').click();
  await focusIsKept('Keep');
  await page
    .getByRole('button', { name: /^Delete: / })
    .first()
    .click();
  await window.button('Delete').click();
  await focusIsKept('Delete');
  await keyboard.press('Escape');
  await window.choose('Quit Samovar');
  await window.button('Keep Running').click();
  await focusIsKept('Keep Running');
  await window.choose('Pause');
  await window.state('Paused');
  await focusIsKept('Pause');
  await window.button('Resume').click();
  await window.state('Ready');
  await focusIsKept('Resume');
});

it.each([
  [400, 600],
  [320, 480],
  [200, 300],
  [160, 240],
  [134, 200],
  [160, 160],
  [320, 160],
])('at %d × %d points, as much as 200 %% zoom leaves, everything is in reach', async (width, height) => {
  const { page } = window;
  await page.setViewportSize({ width, height });
  /** Whether all of it is in the window and nothing lies over it. */
  const inReach = async (name: string) => {
    const box = await window.button(name).boundingBox();
    expect(box, name).not.toBeNull();
    if (!box) return;
    expect(
      [box.x >= 0, box.y >= 0, box.x + box.width <= width, box.y + box.height <= height],
      `${name} in ${width}`,
    ).toEqual(Array(4).fill(true));
    await window.button(name).click({ trial: true });
  };
  await window.write('line\n'.repeat(12));
  await inReach('Send');
  await inReach('Menu');
  const field = await page.getByLabel('Message').boundingBox();
  expect(field && field.y + field.height <= height).toBe(true);
  expect(field?.height, 'two lines and their margins').toBeGreaterThanOrEqual(2 * 21 + 14);
  await page.keyboard.press('Control+f');
  await inReach('Next');
  await inReach('Close');
  expect(await page.locator('.window').evaluate((window) => window.scrollHeight)).toBe(height);
  await window.button('Close').click();
  await until('the keys are back', async () => (await focused()) === 'Message');
  await window.write(STORY);
  await window.button('Send').click();
  await window.button('Stop').waitFor();
  await inReach('Stop');
  await inReach('Menu');
  await window.button('Menu').click();
  for (const item of ['New Chat', 'Quit Samovar']) {
    await page.getByRole('menuitem', { name: item }).scrollIntoViewIfNeeded();
    const box = await page.getByRole('menuitem', { name: item }).boundingBox();
    expect(box && box.x >= 0 && box.x + box.width <= width && box.y + box.height <= height, item).toBe(true);
  }
  await page.getByRole('menuitem', { name: 'Quit Samovar' }).click();
  await window.button('Keep Running').scrollIntoViewIfNeeded();
  await inReach('Keep Running');
  await window.button('Keep Running').click();
  await window.button('Stop').click();
  for (const [key, said] of [
    ['Control+j', 'Up for'],
    ['Control+o', STORY],
  ] as const) {
    await page.keyboard.press(key);
    await page.getByRole('main').getByText(said).first().waitFor();
    expect(await page.locator('main').evaluate((main) => main.scrollWidth), said).toBe(width);
  }
  await page.keyboard.press('Escape');
  expect(await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth])).toEqual([
    width,
    width,
  ]);
});

it('the field follows its text also when the window gets narrower', async () => {
  const { page } = window;
  const lines = () => page.getByLabel('Message').evaluate((field) => (field as HTMLTextAreaElement).rows);
  await window.write('A message that fits a line here.');
  expect(await lines()).toBe(1);
  await page.setViewportSize({ width: 200, height: 600 });
  await until('it has more lines', async () => (await lines()) > 1);
  await page.setViewportSize({ width: 400, height: 600 });
  await until('it has one again', async () => (await lines()) === 1);
});

it('up and down go from chat to chat, and Enter opens one', async () => {
  const { page } = window;
  const { keyboard } = page;
  for (const question of ['Say one.', 'Say two.', 'Say three.']) {
    await keyboard.press('Control+k');
    await window.send(question);
    await window.answer(0).getByText('tok/s').waitFor();
  }
  await keyboard.press('Control+o');
  await page.getByRole('main', { name: 'Chats' }).waitFor();
  for (const [key, title] of [
    ['ArrowDown', 'three'],
    ['ArrowDown', 'two'],
    ['ArrowDown', 'one'],
    ['ArrowUp', 'two'],
    ['ArrowUp', 'three'],
    ['ArrowUp', 'three'],
    ['ArrowDown', 'two'],
  ]) {
    await keyboard.press(key ?? '');
    expect(await focused()).toContain(`Say ${title}.`);
  }
  await keyboard.press('Enter');
  await page.locator('.question', { hasText: 'Say two.' }).waitFor();
  expect(await focused()).toBe('Message');
});

it('what is dropped never takes the page away, and a file says that it cannot be attached', async () => {
  const { page } = window;
  const drop = (where: string, types: Record<string, string>, withFile: boolean) =>
    page.locator(where).evaluate(
      (target, [types, withFile]) => {
        const data = new DataTransfer();
        for (const [type, value] of Object.entries(types)) data.setData(type, value);
        if (withFile) data.items.add(new File(['hello'], 'notes.txt', { type: 'text/plain' }));
        const say = (type: string) =>
          target.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
        // What a page does not refuse, the browser does: for a file or a link it goes there.
        return say('dragover') || say('drop');
      },
      [types, withFile] as const,
    );
  const link = { 'text/uri-list': 'https://example.com/' };
  expect(await drop('main', {}, true)).toBe(false);
  await page.getByText('Files cannot be attached.').waitFor();
  expect(await drop('header', {}, true)).toBe(false);
  expect(await drop('textarea', {}, true)).toBe(false);
  expect(await drop('main', link, false)).toBe(false);
  expect(await drop('footer', { 'text/plain': 'words' }, false)).toBe(false);
  // Words are dropped where words are written.
  expect(await drop('textarea', { 'text/plain': 'words' }, false)).toBe(true);
});

it('a message goes next while an answer is written, and a longer one than the context stays and says why', async () => {
  const { page } = window;
  server.hold('step');
  await window.send('Say hello.');
  await server.held('step');
  await window.send('Say hello again.');
  await page.getByText('next: Say hello again.').waitFor();
  server.release('step');
  await window.answer(1).getByText('tok/s').waitFor();
  expect(await page.getByText('next:').count()).toBe(0);

  const long = 'The kettle sang and the tea was poured again. '.repeat(1500);
  await window.write(long);
  await page.getByText(/This is about .* tokens; the model reads .*\. Shorten it/).waitFor();
  await page.keyboard.press('Enter');
  expect(await window.button('Send').isDisabled()).toBe(true);
  expect(await page.getByLabel('Message').inputValue()).toBe(long);
  // What only the server can know comes back from there.
  const random = Array.from({ length: 9000 }, (_, n) => 'qxzjkvwbpf'[(n * 7 + ((n * n) % 11)) % 10]).join(
    ' ',
  );
  await window.write(random.slice(0, 17_000));
  await page.keyboard.press('Enter');
  await page.getByText(/This is .* tokens; the model reads .*\. Shorten it/).waitFor();
  expect(await page.getByLabel('Message').inputValue()).toBe(random.slice(0, 17_000).trim());
  expect(await page.locator('li').count()).toBe(4);
  await window.send('Say hello a third time.');
  await window.answer(2).getByText('tok/s').waitFor();
});

it('a banner leaves the end of the chat in sight', async () => {
  const { page } = window;
  await window.send(`${'A line of what was said.\n'.repeat(60)}${STORY}`);
  await window.answer(0).locator('.text').waitFor();
  await stop();
  const fromEnd = () =>
    page
      .locator('main')
      .evaluate((main) => Math.round(main.scrollHeight - main.scrollTop - main.clientHeight));
  await until('the end is in sight', async () => (await fromEnd()) <= 1);
  await window.choose('Pause');
  await window.button('Resume').waitFor();
  await until('it still is', async () => (await fromEnd()) <= 1);
  await window.button('Resume').click();
  await window.state('Ready');
  await window.write('line\n'.repeat(8));
  await until('also above a long message', async () => (await fromEnd()) <= 1);
  await page.locator('main').evaluate((main) => main.scrollTo({ top: 0 }));
  await until('who reads above', async () => (await fromEnd()) > 100);
  await window.write('');
  expect(await page.locator('main').evaluate((main) => main.scrollTop)).toBe(0);
});

it('who scrolls while the room for the chat changes goes where they want to', async () => {
  const { page } = window;
  const main = page.locator('main');
  const scrollTop = () => main.evaluate((main) => Math.round(main.scrollTop));
  /** In one frame, as on a busy machine: the chat is scrolled, and its room grows or shrinks. */
  const scrollAndWrite = (top: number, text: string) =>
    main.evaluate(
      async (main, { top, text }) => {
        const message = document.querySelector('textarea');
        if (!message) throw new Error('there is nothing to write in');
        main.scrollTo({ top });
        message.value = text;
        message.dispatchEvent(new Event('input', { bubbles: true }));
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      },
      { top, text },
    );
  await window.send(`${'A line of what was said.\n'.repeat(60)}${STORY}`);
  await window.answer(0).locator('.text').waitFor();
  await stop();
  for (const [text, top] of [
    ['line\n'.repeat(8), 0],
    ['', 40],
    ['line\n'.repeat(8), 80],
  ] as const) {
    await scrollAndWrite(top, text);
    expect(await scrollTop()).toBe(top);
  }
});

it('what was answered before a retry stays below', async () => {
  const { page } = window;
  await window.send('Say hello.');
  await window.answer(0).getByText('tok/s').waitFor();
  const before = await window.answer(0).locator('.text').innerText();
  await window.button('Retry').click();
  await window.answer(0).getByText('Earlier answer').click();
  expect(await window.answer(0).locator('.earlier .said').innerText()).toBe(before);
  await window.answer(0).getByText('tok/s').waitFor();
  await page.reload();
  await window.answer(0).getByText('Earlier answer').click();
  expect(await window.answer(0).locator('.earlier .said').innerText()).toBe(before);
});

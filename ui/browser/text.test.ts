// What an answer's text looks like, and what can be read of a button that cannot be pressed.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';

import { closeBrowser, Samovar, Window } from './rig';

const KEY = 'a-key-of-at-least-sixteen-letters';
const TEXT = `<think>
Hm, *tea*.
</think>

| left | middle | right |
|:-----|:------:|------:|
| a    |   b    |     c |

So \\(\\frac{a_1}{b_1}\\) is it.

\`\`\`sh
make tea
\`\`\`
`;

let server: Samovar;
let window: Window;
const folder = mkdtempSync(join(tmpdir(), 'samovar-key-'));

beforeAll(async () => {
  const file = join(folder, 'key');
  writeFileSync(file, `${KEY}\n`, { mode: 0o600 });
  server = new Samovar();
  await server.start('--api-key-file', file);
  window = await Window.open(server);
});
afterEach(() => {
  expect(window.complaints).toEqual([]);
});
afterAll(async () => {
  await closeBrowser();
  await server.end();
  rmSync(folder, { recursive: true });
});

it('the button that is not ready to unlock can be read, in light and in dark', async () => {
  const unlock = window.button('Unlock');
  await unlock.waitFor();
  for (const colorScheme of ['light', 'dark'] as const) {
    await window.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    const contrast = await unlock.evaluate((button) => {
      const light = (colour: string) => {
        const [r = 0, g = 0, b = 0] = (colour.match(/[\d.]+/g) ?? []).map((part) => {
          const share = Number(part) / 255;
          return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const { color, backgroundColor } = getComputedStyle(button);
      const [low = 0, high = 0] = [light(color), light(backgroundColor)].sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05);
    });
    expect(await unlock.isDisabled()).toBe(true);
    expect(contrast, colorScheme).toBeGreaterThanOrEqual(4.5);
  }
  await window.page.getByLabel('Key').fill('wrong');
  await window.page.keyboard.press('Enter');
  await window.page.getByText('That was not the right one.').waitFor();
  await window.page.getByLabel('Key').fill(KEY);
  await window.page.keyboard.press('Enter');
  await window.state('Ready');
});

it('tables keep their alignment, thoughts are folded, formulas have their backslashes, and copies say what became of them', async () => {
  const { page } = window;
  await page.evaluate((text) => {
    const answer = {
      role: 'assistant',
      id: 'a',
      text,
      base: '',
      phase: 'done',
      done: 0,
      total: 0,
      record: null,
      trouble: null,
    };
    const chat = {
      id: 'x',
      at: 1,
      messages: [{ role: 'user', id: 'q', text: 'Well?' }, answer],
      draft: '',
      scroll: null,
    };
    localStorage.setItem('samovar.chat.x', JSON.stringify(chat));
  }, TEXT);
  await window.choose('Chats');
  await page.getByRole('button', { name: 'Well?' }).first().click();
  await window.answer(0).locator('table').waitFor();
  const aligned = await page
    .locator('td')
    .evaluateAll((cells) => cells.map((cell) => getComputedStyle(cell).textAlign));
  expect(aligned).toEqual(['left', 'center', 'right']);
  expect(await page.getByText('Hm, *tea*.').isVisible()).toBe(false);
  await page.getByText('Thought', { exact: true }).click();
  expect(await page.getByText('Hm, *tea*.').isVisible()).toBe(true);
  expect(await window.answer(0).innerText()).toContain('So \\(\\frac{a_1}{b_1}\\) is it.');
  expect(await window.answer(0).innerText()).not.toContain('think>');

  for (const [outcome, works] of [
    ['Copied', true],
    ['Not copied', false],
  ] as const) {
    await page.evaluate((works) => {
      const writeText = () => (works ? Promise.resolve() : Promise.reject(new Error('denied')));
      Object.defineProperty(navigator, 'clipboard', { value: { writeText }, configurable: true });
      document.execCommand = () => false;
    }, works);
    for (const button of [page.locator('.copy'), window.answer(0).locator('.act', { hasText: 'Copy' })]) {
      await button.click();
      await page.getByText(outcome, { exact: true }).waitFor();
      await page.getByText(outcome, { exact: true }).waitFor({ state: 'detached' });
      await button.getByText('Copy', { exact: true }).or(button).first().waitFor();
    }
  }
});

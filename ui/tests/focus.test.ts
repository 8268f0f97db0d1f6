import { afterEach, expect, it } from 'vitest';

import { keepFocus } from '../src/lib/focus';

let end: () => void = () => undefined;
afterEach(() => end());

function page(): { root: HTMLElement; first: HTMLButtonElement; second: HTMLButtonElement } {
  document.body.innerHTML = '<div><p><button>first</button></p><button>second</button></div>';
  const root = document.querySelector('div');
  const [first, second] = document.querySelectorAll('button');
  if (!root || !first || !second) throw new Error('no page');
  end = keepFocus(root, () => second);
  return { root, first, second };
}

it('what vanishes with the focus, also as a part of something, hands it on', async () => {
  for (const vanish of [
    ({ first }: { first: HTMLElement }) => first.remove(),
    ({ first }: { first: HTMLElement }) => first.parentElement?.remove(),
    ({ first }: { first: HTMLElement }) => first.replaceWith('gone'),
    ({ first }: { first: HTMLElement }) => (first.parentElement ?? first).replaceChildren(),
    ({ first }: { first: HTMLElement }) => {
      // A browser takes the focus from what is disabled, jsdom does not.
      first.toggleAttribute('disabled', true);
      first.blur();
    },
  ]) {
    const { first, second } = page();
    first.focus();
    vanish({ first });
    await expect.poll(() => document.activeElement).toBe(second);
    end();
  }
});

it('a button that is clicked has the focus, also where the browser gives it none', async () => {
  const { first, second } = page();
  first.addEventListener('click', () => first.remove());
  expect(document.activeElement).toBe(document.body);
  first.click();
  await expect.poll(() => document.activeElement).toBe(second);
});

it('who has left on purpose is not called back', async () => {
  const { root, first } = page();
  first.focus();
  first.blur();
  await Promise.resolve();
  first.remove();
  root.append('x');
  await new Promise((resolve) => queueMicrotask(() => resolve(null)));
  expect(document.activeElement).toBe(document.body);
});

it('what vanishes without the focus takes nothing away', async () => {
  const { root, first, second } = page();
  const third = document.createElement('input');
  root.append(third);
  third.focus();
  first.remove();
  second.remove();
  await new Promise((resolve) => queueMicrotask(() => resolve(null)));
  expect(document.activeElement).toBe(third);
});

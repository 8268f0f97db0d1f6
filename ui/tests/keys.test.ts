import { describe, expect, it } from 'vitest';

import { isComposing, isShortcut, zoomAsked } from '../src/lib/keys';

const key = (init: KeyboardEventInit) => new KeyboardEvent('keydown', init);

describe('a key of an input method', () => {
  it.each([
    [
      'Enter that ends a composition, as Chromium tells it',
      { key: 'Enter', isComposing: true, keyCode: 229 },
    ],
    ['Enter that ended a composition, as WebKit tells it', { key: 'Enter', keyCode: 229 }],
    ['Escape that takes a composition back', { key: 'Escape', keyCode: 229 }],
    ['a letter that is being composed', { key: 'Process', keyCode: 229 }],
    ['a letter with an accent to come', { key: 'Dead', isComposing: true }],
  ])('is not ours: %s', (_, init) => {
    expect(isComposing(key(init))).toBe(true);
  });

  it.each([
    ['Enter', { key: 'Enter', keyCode: 13 }],
    ['Escape', { key: 'Escape', keyCode: 27 }],
    ['a letter', { key: 'å', keyCode: 221 }],
  ])('is told from a plain one: %s', (_, init) => {
    expect(isComposing(key(init))).toBe(false);
  });
});

it('a shortcut is the modifier with the letter and nothing else', () => {
  expect(isShortcut(key({ key: 'f', ctrlKey: true }), 'F')).toBe(true);
  expect(isShortcut(key({ key: 'F', ctrlKey: true, shiftKey: true }), 'F')).toBe(false);
  expect(isShortcut(key({ key: 'f', ctrlKey: true, altKey: true }), 'F')).toBe(false);
  expect(isShortcut(key({ key: 'f' }), 'F')).toBe(false);
});

it('the zoom is asked for with and without Shift, as keyboards have its signs', () => {
  const asked = (init: KeyboardEventInit) => zoomAsked(key({ ctrlKey: true, ...init }));
  expect([asked({ key: '+', shiftKey: true }), asked({ key: '=' }), asked({ key: '+' })]).toEqual([
    'in',
    'in',
    'in',
  ]);
  expect([asked({ key: '-' }), asked({ key: '_', shiftKey: true })]).toEqual(['out', 'out']);
  expect(asked({ key: '0' })).toBe('reset');
  expect([asked({ key: '0', altKey: true }), zoomAsked(key({ key: '+' })), asked({ key: '1' })]).toEqual([
    null,
    null,
    null,
  ]);
});

import { expect, it } from 'vitest';

import { rangesOf } from '../src/lib/find';

it('every occurrence is found in reading order, whatever its case', () => {
  const root = document.createElement('div');
  root.innerHTML = '<p>Tea and <b>tea</b></p><p>TEATEA</p>';
  const found = rangesOf(root, 'tea').map((range) => range.toString());
  expect(found).toEqual(['Tea', 'tea', 'TEA', 'TEA']);
  expect(rangesOf(root, '')).toEqual([]);
  expect(rangesOf(root, 'coffee')).toEqual([]);
});

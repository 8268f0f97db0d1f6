import { expect, it } from 'vitest';

import { areaPath, linePath, spread } from '../src/lib/shapes';

it('a line goes through its points, with up being up', () => {
  const points = [
    { x: 0, y: 0 },
    { x: 0.5, y: 1 },
  ];
  expect(linePath(points, 100, 10)).toBe('M0 10L50 0');
  expect(areaPath(points, 100, 10)).toBe('M0 10L50 0L50 10L0 10Z');
  expect(areaPath([], 100, 10)).toBe('');
});

it('values fill the width and leave air above the highest', () => {
  expect(spread([1, 2])).toEqual([
    { x: 0, y: 0.45 },
    { x: 1, y: 0.9 },
  ]);
  expect(spread([0, 0]).map(({ y }) => y)).toEqual([0, 0]);
  expect(spread([])).toEqual([]);
});

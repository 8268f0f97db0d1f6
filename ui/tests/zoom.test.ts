import { expect, it, vi } from 'vitest';

import type { Host } from '../src/lib/host';
import { Zoom } from '../src/lib/zoom';
import { memory } from './fixtures';

const host = (zoom: Host['zoom']) => ({ zoom }) as Host;

it('the app zooms in steps between its bounds, and is as large as it was the last time', () => {
  const set = vi.fn<(scale: number) => Promise<void>>(() => Promise.resolve());
  const storage = memory();
  const zoom = new Zoom(host(set), storage);
  zoom.restore();
  expect(set).not.toHaveBeenCalled();
  zoom.change('in');
  zoom.change('in');
  expect(set.mock.calls.flat()).toEqual([1.1, 1.25]);
  new Zoom(host(set), storage).restore();
  expect(set.mock.lastCall).toEqual([1.25]);
  for (let n = 0; n < 30; n += 1) zoom.change('in');
  expect(set.mock.lastCall).toEqual([3]);
  for (let n = 0; n < 30; n += 1) zoom.change('out');
  expect(set.mock.lastCall).toEqual([0.5]);
  zoom.change('reset');
  expect(set.mock.lastCall).toEqual([1]);
});

it('a browser zooms by itself', () => {
  expect(new Zoom(host(null), memory()).change('in')).toBe(false);
});

it('what was remembered and is no step is the usual size', () => {
  const set = vi.fn<(scale: number) => Promise<void>>(() => Promise.resolve());
  for (const kept of ['', 'x', '-1', '1e9', '101']) {
    const storage = memory();
    storage.setItem('samovar.zoom', kept);
    new Zoom(host(set), storage).change('in');
    expect(set.mock.lastCall, kept).toEqual([1.1]);
  }
});

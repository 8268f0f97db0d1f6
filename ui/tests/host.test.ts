import { expect, it, vi } from 'vitest';

import { findHost } from '../src/lib/host';
import { COMMANDS } from '../src/lib/kinds';

type TauriInvoke = (command: string) => Promise<never>;

it('in a browser, quitting is asked of the server', async () => {
  const post = vi.fn(() => Promise.resolve());
  const host = findHost(post, {});
  await host.quit();
  await host.quitNow();
  await host.cancelQuit();
  await host.retryLoad();
  expect(post.mock.calls).toEqual([
    ['/admin/stop'],
    ['/admin/stop', { timeout_s: 0 }],
    ['/admin/resume'],
    ['/admin/load'],
  ]);
  expect(await host.apiBase()).toEqual({ url: '', token: null });
  expect(host.openLogs).toBeNull();
});

it('in the app, it is the app’s', async () => {
  const invoke = vi.fn<TauriInvoke>(() => Promise.resolve(undefined as never));
  const post = vi.fn(() => Promise.resolve());
  const host = findHost(post, { __TAURI__: { core: { invoke } } });
  await host.apiBase();
  await host.quit();
  await host.quitNow();
  await host.cancelQuit();
  await host.retryLoad();
  await host.openLogs?.();
  await host.zoom?.(1.5);
  expect(invoke.mock.calls.map(([command]) => command)).toEqual(COMMANDS);
  expect(post).not.toHaveBeenCalled();
});

// The one seam between this page and what shows it: the desktop app's window, or any browser.
//
// In the app, quitting is the app's: it owns the process and the tray. In a browser the same is asked of the
// server over HTTP. Everything else goes over HTTP in both. A browser zooms by itself, and the app's window is told to.

import type { Command } from './kinds';

/** Where the server is, and what it wants to be shown. */
export interface ApiBase {
  /** Without a trailing slash; empty for the page's own origin. */
  url: string;
  token: string | null;
}

export interface Host {
  readonly isDesktop: boolean;
  apiBase(): Promise<ApiBase>;
  /** Finish what runs, then end. */
  quit(): Promise<void>;
  /** Move the end of a quit under way to now. */
  quitNow(): Promise<void>;
  cancelQuit(): Promise<void>;
  /** Load the model again after a failure. */
  retryLoad(): Promise<void>;
  /** Only where there is a folder to open. */
  openLogs: (() => Promise<void>) | null;
  /** Show the page this many times as large; only where nobody else does. */
  zoom: ((scale: number) => Promise<void>) | null;
}

/** Sends a POST to the server; throws what a person should read. */
export type Post = (path: string, body?: unknown) => Promise<void>;

interface TauriCore {
  invoke<T>(command: Command, args?: Record<string, unknown>): Promise<T>;
}

declare global {
  interface Window {
    __TAURI__?: { core: TauriCore };
  }
}

/** The host that this page has; `post` is how the browser's one asks the server. */
export function findHost(post: Post, window_: Pick<Window, '__TAURI__'> = window): Host {
  const core = window_.__TAURI__?.core;
  return core ? desktop(core) : browser(post);
}

function desktop(core: TauriCore): Host {
  return {
    isDesktop: true,
    apiBase: () => core.invoke<ApiBase>('api_base'),
    quit: () => core.invoke('quit'),
    quitNow: () => core.invoke('quit_now'),
    cancelQuit: () => core.invoke('cancel_quit'),
    retryLoad: () => core.invoke('retry_load'),
    openLogs: () => core.invoke('open_logs'),
    zoom: (scale) => core.invoke('zoom', { scale }),
  };
}

function browser(post: Post): Host {
  return {
    isDesktop: false,
    apiBase: () => Promise.resolve({ url: '', token: null }),
    quit: () => post('/admin/stop'),
    quitNow: () => post('/admin/stop', { timeout_s: 0 }),
    cancelQuit: () => post('/admin/resume'),
    retryLoad: () => post('/admin/load'),
    openLogs: null,
    zoom: null,
  };
}

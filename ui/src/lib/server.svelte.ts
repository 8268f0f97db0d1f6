// The server as this page sees it: one live view, kept up over whatever happens to the connection.
//
// Browsers have few connections to a host, so one tab listens to the server and tells the others: a tab that is seen
// and has the lock.

import { Client, ServerError } from './client';
import { findHost, type Host } from './host';
import { sharedLocks, type Locks } from './locks';
import { eventsOf } from './sse';
import type { Moment, View } from './wire';

/** How the connection stands. */
export type Link = 'connecting' | 'live' | 'lost' | 'locked';

/** Between two tries to connect, growing. */
const PAUSES_MS = [300, 700, 1500, 3000, 5000];
/** The server says something every ten seconds at least; a connection that is silent for longer is dead. */
const SILENCE_MS = 25_000;
/** As the server's own history. */
const MOMENT_MS = 2000;
const N_MOMENTS = 150;

/** The lock of the tab that listens, and where the others hear it. */
const LISTENER = 'samovar.listener';

/** What tabs tell each other. */
type Told = { view: View } | { alive: true } | { lost: true } | { tryNow: true };

/** Where a key is kept: for this tab, and never on disk. */
const KEY = 'samovar.key';

export class Server {
  link = $state<Link>('connecting');
  /** What the server said last; kept when the connection is lost. */
  view = $state.raw<View | null>(null);
  /** When that was, by `performance.now()`: a countdown goes on from there. */
  viewedAt = $state.raw(0);
  /** How long the drain under way may last: the longest that it was said to have left, in seconds. */
  drainSpan = $state.raw(0);
  /** The last minutes, oldest first. */
  moments = $state.raw<Moment[]>([]);
  readonly client = new Client();
  readonly host: Host;

  readonly #locks: Locks | null;
  readonly #others: BroadcastChannel | null;
  #tries = 0;
  #wake: (() => void) | null = null;
  #connection: AbortController | null = null;
  /** Waits for the lock, as long as another tab listens. */
  #queue: AbortController | null = null;
  #isSeen = true;
  #closed = false;
  #keyIsWrong = $state(false);
  #silence = 0;

  constructor(host?: Host, locks = sharedLocks()) {
    this.host = host ?? findHost(this.client.post);
    this.#locks = locks;
    this.#others = locks === null ? null : new BroadcastChannel(LISTENER);
    if (this.#others !== null) this.#others.onmessage = ({ data }) => this.#hear(data as Told);
  }

  /** Whether a key was shown and was not the right one. */
  get keyIsWrong(): boolean {
    return this.#keyIsWrong;
  }

  /** Whether messages are taken now. */
  get isReady(): boolean {
    return this.link === 'live' && this.view?.state === 'ready';
  }

  /** What the server says now: nothing while there is no connection, because what it said before is old. */
  get now(): View | null {
    return this.link === 'live' ? this.view : null;
  }

  /** Connect and stay connected, until `close`. */
  async open(): Promise<void> {
    const base = await this.host.apiBase();
    this.client.use(base);
    const key = sessionStorage.getItem(KEY);
    if (key !== null && base.token === null) this.client.unlock(key);
    const clock = setInterval(() => this.#note(), MOMENT_MS);
    // Each asks once for itself: whether its key is the right one, no other tab can tell it.
    await this.#look();
    while (!this.#closed) {
      if (!this.#isSeen) await new Promise<void>((resolve) => (this.#wake = resolve));
      else if (this.link === 'locked') {
        await this.#pause();
        await this.#look();
      } else if (await this.#listenIfNobodyDoes()) await this.#pause();
    }
    clearInterval(clock);
    this.#others?.close();
  }

  close(): void {
    this.#closed = true;
    this.#letGo();
  }

  /** Nobody looks at this page: another one may listen. */
  hide(): void {
    this.#isSeen = false;
    this.#letGo();
  }

  show(): void {
    if (this.#isSeen) return;
    this.#isSeen = true;
    this.#tries = 0;
    void this.#look();
    this.#wake?.();
  }

  #letGo(): void {
    clearTimeout(this.#silence);
    this.#connection?.abort();
    this.#queue?.abort();
    this.#wake?.();
  }

  /** Don't wait for the next try. */
  tryNow(): void {
    this.#tries = 0;
    this.#wake?.();
    this.#tell({ tryNow: true });
    if (this.#queue !== null) void this.#look();
  }

  unlock(key: string): void {
    sessionStorage.setItem(KEY, key);
    this.client.unlock(key);
    this.#tries = 0;
    this.#wake?.();
  }

  #tell(what: Told): void {
    if (!this.#closed) this.#others?.postMessage(what);
  }

  /** What the tab says that listens; before this one has shown the right key it is none of its business. */
  #hear(told: Told): void {
    if (this.link === 'locked' || this.link === 'connecting' || this.#closed) return;
    if ('tryNow' in told) {
      this.#tries = 0;
      if (this.#queue === null) this.#wake?.();
    } else if (this.#queue !== null || !this.#isSeen) {
      this.#listenForSilence();
      if ('view' in told) this.#see(told.view);
      else if ('lost' in told) this.link = 'lost';
      else if (this.link === 'lost') void this.#look();
    }
  }

  /** A tab that says nothing for longer than the server would hangs; until its lock is free this one looks itself. */
  #listenForSilence(): void {
    clearTimeout(this.#silence);
    if (!this.#isSeen) return;
    this.#silence = window.setTimeout(() => {
      void this.#look();
      this.#listenForSilence();
    }, SILENCE_MS);
  }

  /** One short look. */
  async #look(): Promise<void> {
    try {
      this.#see(await this.client.get<View>('/admin/status'));
      if (this.moments.length === 0) void this.#remember();
    } catch (error) {
      this.#lose(error);
    }
  }

  #lose(error: unknown): void {
    // A key for something else opens this page no more than a wrong one.
    const isLocked =
      error instanceof ServerError && (error.status === 401 || error.code === 'key_not_allowed');
    this.#keyIsWrong = isLocked && sessionStorage.getItem(KEY) !== null;
    this.link = isLocked ? 'locked' : 'lost';
    // Without the key there is nothing to wait for.
    if (isLocked) this.#queue?.abort();
  }

  /** Listen until the connection is lost; `false` when it was never this tab's turn. */
  async #listenIfNobodyDoes(): Promise<boolean> {
    if (this.#locks === null) {
      await this.#listen();
      return true;
    }
    this.#queue = new AbortController();
    this.#listenForSilence();
    const held = await this.#locks.wait(LISTENER, this.#queue.signal);
    clearTimeout(this.#silence);
    this.#queue = null;
    if (held === null) return false;
    try {
      if (this.#isSeen && !this.#closed) await this.#listen();
      // What is lost is lost for all; who has let go leaves it to the next one.
      if (this.#isSeen) this.#tell({ lost: true });
    } finally {
      held.release();
    }
    return this.#isSeen;
  }

  async #listen(): Promise<void> {
    const connection = new AbortController();
    this.#connection = connection;
    let watchdog = 0;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = window.setTimeout(() => connection.abort(), SILENCE_MS);
    };
    try {
      alive();
      const response = await this.client.send('/admin/events', { signal: connection.signal });
      void this.#remember();
      for await (const event of eventsOf(response)) {
        alive();
        const isView = 'name' in event && event.name === 'status';
        if (isView) this.#see(JSON.parse(event.data) as View);
        this.#tell(isView && this.view !== null ? { view: this.view } : { alive: true });
      }
      this.link = 'lost';
    } catch (error) {
      // Who has let go has not lost anything.
      if (this.#isSeen) this.#lose(error);
    } finally {
      clearTimeout(watchdog);
    }
  }

  #see(view: View): void {
    this.view = view;
    this.viewedAt = performance.now();
    this.drainSpan = view.drain === null ? 0 : Math.max(this.drainSpan, view.drain.deadline_s);
    this.link = 'live';
    this.#tries = 0;
  }

  /** Fetch what was before this page. */
  async #remember(): Promise<void> {
    try {
      const { moments } = await this.client.get<{ moments: Moment[] }>('/admin/history');
      this.moments = moments;
    } catch {
      // Pictures begin now, then.
    }
  }

  /** One more moment of the history. */
  #note(): void {
    const view = this.view;
    if (this.link !== 'live' || view === null) return;
    const { held, cached, total } = view.pool.blocks;
    const moment = {
      at: Date.now() / 1000,
      held,
      cached,
      total,
      generated_tokens: view.totals.generated_tokens,
    };
    this.moments = [...this.moments, moment].slice(-N_MOMENTS);
  }

  #pause(): Promise<void> {
    // Without the key there is nothing to try.
    if (this.link === 'locked') return new Promise((resolve) => (this.#wake = resolve));
    const ms = PAUSES_MS[Math.min(this.#tries, PAUSES_MS.length - 1)] ?? 0;
    this.#tries += 1;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

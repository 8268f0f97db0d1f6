// The server as this page sees it: one live view, kept up over whatever happens to the connection.

import { Client, ServerError } from './client';
import { findHost, type Host } from './host';
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

  #tries = 0;
  #wake: (() => void) | null = null;
  #connection: AbortController | null = null;
  #closed = false;
  #keyIsWrong = $state(false);

  constructor(host?: Host) {
    this.host = host ?? findHost(this.client.post);
  }

  /** Whether a key was shown and was not the right one. */
  get keyIsWrong(): boolean {
    return this.#keyIsWrong;
  }

  /** Whether messages are taken now. */
  get isReady(): boolean {
    return this.link === 'live' && this.view?.state === 'ready';
  }

  /** Connect and stay connected, until `close`. */
  async open(): Promise<void> {
    const base = await this.host.apiBase();
    this.client.use(base);
    const key = sessionStorage.getItem(KEY);
    if (key !== null && base.token === null) this.client.unlock(key);
    const clock = setInterval(() => this.#note(), MOMENT_MS);
    while (!this.#closed) {
      await this.#listen();
      if (!this.#closed) await this.#pause();
    }
    clearInterval(clock);
  }

  close(): void {
    this.#closed = true;
    this.#connection?.abort();
    this.#wake?.();
  }

  /** Don't wait for the next try. */
  tryNow(): void {
    this.#tries = 0;
    this.#wake?.();
  }

  unlock(key: string): void {
    sessionStorage.setItem(KEY, key);
    this.client.unlock(key);
    this.tryNow();
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
        if ('name' in event && event.name === 'status') this.#see(JSON.parse(event.data) as View);
      }
      this.link = 'lost';
    } catch (error) {
      const isLocked = error instanceof ServerError && error.status === 401;
      this.#keyIsWrong = isLocked && sessionStorage.getItem(KEY) !== null;
      this.link = isLocked ? 'locked' : 'lost';
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

import type { Held, Locks } from '../src/lib/locks';
import type { RequestRecord, View } from '../src/lib/wire';

/** A model that is there. */
export const model: NonNullable<View['model']> = {
  id: 'SmolLM2',
  purpose: 'generate',
  context_length: 8192,
  file_bytes: 98e6,
  backend: 'cpu',
  gpu_refusal: null,
};

/** What a server that is ready and idle says, with changes. */
export function view(change: Partial<View> = {}): View {
  return {
    state: 'ready',
    ready: true,
    load: { progress: 1, bytes_done: 98e6, bytes_total: 98e6 },
    model,
    pool: {
      utilization: 41.2,
      blocks: { free: 40, held: 41, pinned: 0, cached: 19, total: 100 },
      block_bytes: 1000,
      block_tokens: 32,
      states: { live_bytes: 0, checkpoints: 0, checkpoint_bytes: 0 },
    },
    store: {
      on: true,
      trouble: null,
      bytes: 12e6,
      max_bytes: 20e9,
      checkpoints: 0,
      checkpoint_bytes: 0,
      written_today_bytes: 3e6,
    },
    running: 0,
    waiting: 0,
    active: [],
    drain: null,
    totals: { requests: 0, prefilled_tokens: 0, reused_tokens: 0, generated_tokens: 0 },
    ...change,
  };
}

export function record(change: Partial<RequestRecord> = {}): RequestRecord {
  return {
    id: 'r-1',
    agent: null,
    ended_at: 0,
    outcome: 'end_of_turn',
    prompt_tokens: 1238,
    prefilled_tokens: 38,
    reused_tokens: 1200,
    restored_tokens: 0,
    spliced_tokens: 0,
    first_difference: 1200,
    difference: null,
    generated_tokens: 83,
    preempted: 0,
    queued_s: 0,
    time_to_first_token_s: 0.42,
    decoding_s: 2,
    ...change,
  };
}

/** What tabs of one browser share, for tests: the locks are the same for all who have this object. */
export class TestLocks implements Locks {
  readonly #queues = new Map<string, (() => void)[]>();

  take = (name: string): Promise<Held | null> =>
    Promise.resolve(this.#queues.has(name) ? null : this.#grant(name));

  wait(name: string, signal: AbortSignal): Promise<Held | null> {
    const queue = this.#queues.get(name);
    if (queue === undefined) return Promise.resolve(this.#grant(name));
    return new Promise((resolve) => {
      const next = () => resolve(this.#held(name));
      queue.push(next);
      signal.addEventListener('abort', () => {
        const at = queue.indexOf(next);
        if (at >= 0) queue.splice(at, 1);
        resolve(null);
      });
    });
  }

  #grant(name: string): Held {
    this.#queues.set(name, []);
    return this.#held(name);
  }

  #held(name: string): Held {
    return {
      release: () => {
        const next = this.#queues.get(name)?.shift();
        if (next) next();
        else this.#queues.delete(name);
      },
    };
  }
}

/** A storage of a test's own. */
export function memory(): Storage {
  const entries = new Map<string, string>();
  return {
    get length() {
      return entries.size;
    },
    key: (n) => [...entries.keys()][n] ?? null,
    getItem: (key) => entries.get(key) ?? null,
    setItem: (key, value) => void entries.set(key, value),
    removeItem: (key) => void entries.delete(key),
    clear: () => entries.clear(),
  };
}

// Locks that all tabs of this page share: who writes a chat, who listens to the server, who has a connection to spare.

export interface Held {
  release(): void;
}

export interface Locks {
  /** At once, or not at all. */
  take(name: string): Promise<Held | null>;
  /** As soon as it is free; `null` when `signal` came first. */
  wait(name: string, signal: AbortSignal): Promise<Held | null>;
}

/** The browser's own; `null` where the page's origin is not one that browsers trust with them. */
export function sharedLocks(): Locks | null {
  const manager = (navigator as { locks?: LockManager }).locks;
  if (manager === undefined) return null;
  const request = (name: string, options: LockOptions) =>
    new Promise<Held | null>((resolve) => {
      const asked = manager.request(name, options, (lock) => {
        if (lock === null) return resolve(null);
        // The lock is held until this promise is kept.
        return new Promise<void>((release) => resolve({ release }));
      });
      // Waiting was given up.
      asked.catch(() => resolve(null));
    });
  return {
    take: (name) => request(name, { ifAvailable: true }),
    wait: (name, signal) => request(name, { signal }),
  };
}

/**
 * Connections that stream an answer, of all tabs together: a browser opens six to a host over HTTP/1.1, one of them has
 * the server's events, and two are left for what is short.
 */
const N_STREAMS = 3;
const NO_LOCK: Held = { release: () => undefined };

/** The right to stream, or `null`: then one looks again and again. */
export async function takeStream(locks: Locks | null): Promise<Held | null> {
  if (locks === null) return NO_LOCK;
  for (let n = 0; n < N_STREAMS; n += 1) {
    const held = await locks.take(`samovar.stream.${n}`);
    if (held !== null) return held;
  }
  return null;
}

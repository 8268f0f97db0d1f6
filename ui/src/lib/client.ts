// HTTP to the server: its address, its key, and errors in words for a person.

import type { ApiBase } from './host';
import type { FaultCode } from './kinds';

/** How long a prompt is, and how long it may be, in tokens. */
export interface Lengths {
  prompt: number;
  context: number;
}

/** What went wrong, what that means, and what can be done. */
export class ServerError extends Error {
  constructor(
    message: string,
    readonly status: number,
    /** What to go by: never the message. */
    readonly code: FaultCode | 'unreachable' | null = null,
    /** Seconds after which it may be worth asking again. */
    readonly retryAfter: number | null = null,
    /** Of a prompt that is too long. */
    readonly lengths: Lengths | null = null,
  ) {
    super(message);
  }

  /** Nobody answered at all. */
  static unreachable(): ServerError {
    return new ServerError('Samovar does not answer.', 0, 'unreachable');
  }
}

export class Client {
  #base: ApiBase = { url: '', token: null };

  use(base: ApiBase): void {
    this.#base = { url: base.url.replace(/\/$/, ''), token: base.token };
  }

  /** Show this key from now on. */
  unlock(token: string): void {
    this.#base = { ...this.#base, token };
  }

  /** The address for programs, without the path of an API. */
  get address(): string {
    return this.#base.url || location.origin;
  }

  /** A response that is fine; anything else is thrown. */
  async send(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.#base.token) headers.set('authorization', `Bearer ${this.#base.token}`);
    if (init.body !== undefined) headers.set('content-type', 'application/json');
    let response: Response;
    try {
      response = await fetch(this.#base.url + path, { ...init, headers, cache: 'no-store' });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw ServerError.unreachable();
    }
    if (response.ok) return response;
    throw await refusal(response);
  }

  async get<T>(path: string): Promise<T> {
    const response = await this.send(path);
    return (await response.json()) as T;
  }

  post = async (path: string, body?: unknown): Promise<void> => {
    await this.send(path, { method: 'POST', ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  };
}

async function refusal(response: Response): Promise<ServerError> {
  const retryAfter = Number(response.headers.get('retry-after')) || null;
  const body: unknown = await response.json().catch(() => null);
  const told = errorIn(body, response.status, retryAfter);
  return (
    told ?? new ServerError(`The server answered ${response.status}.`, response.status, null, retryAfter)
  );
}

interface ErrorBody {
  error?: { message?: unknown; code?: unknown; prompt_tokens?: unknown; context_length?: unknown };
}

/** The error that a body tells of, also one of a frame in a stream; `null` where it is none. */
export function errorIn(body: unknown, status = 200, retryAfter: number | null = null): ServerError | null {
  const {
    message,
    code,
    prompt_tokens: prompt,
    context_length: context,
  } = (body as ErrorBody | null)?.error ?? {};
  if (typeof message !== 'string') return null;
  // A code that this page does not know is one of a newer server: nothing goes by it.
  const known = typeof code === 'string' ? (code as FaultCode) : null;
  const lengths = typeof prompt === 'number' && typeof context === 'number' ? { prompt, context } : null;
  return new ServerError(message, status, known, retryAfter, lengths);
}

// HTTP to the server: its address, its key, and errors in words for a person.

import type { ApiBase } from './host';

/** What went wrong, what that means, and what can be done. */
export class ServerError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string | null = null,
    /** Seconds after which it may be worth asking again. */
    readonly retryAfter: number | null = null,
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
  const { message, code } = errorOf(body);
  return new ServerError(
    message ?? `The server answered ${response.status}.`,
    response.status,
    code,
    retryAfter,
  );
}

/** Message and code of an error's body, also of a frame in a stream. */
export function errorOf(body: unknown): { message: string | null; code: string | null } {
  const error = (body as { error?: { message?: unknown; code?: unknown; type?: unknown } } | null)?.error;
  const text = (value: unknown) => (typeof value === 'string' ? value : null);
  return { message: text(error?.message), code: text(error?.code) ?? text(error?.type) };
}

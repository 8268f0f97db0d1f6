// Server-sent events out of a response's body, comments included: the server puts a prompt's progress in them.

export interface ServerEvent {
  name: string;
  data: string;
}

export interface Comment {
  comment: string;
}

/** Takes text in pieces of any size and gives what is complete. */
export class SseParser {
  #rest = '';
  #name = '';
  #data: string[] = [];

  push(text: string): (ServerEvent | Comment)[] {
    const out: (ServerEvent | Comment)[] = [];
    // A carriage return at the very end may be half of a line's end.
    const all = this.#rest + text;
    const usable = all.endsWith('\r') ? all.slice(0, -1) : all;
    const lines = usable.split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? '') + all.slice(usable.length);
    for (const line of lines) this.#line(line, out);
    return out;
  }

  #line(line: string, out: (ServerEvent | Comment)[]): void {
    if (line === '') {
      if (this.#data.length > 0) out.push({ name: this.#name || 'message', data: this.#data.join('\n') });
      this.#name = '';
      this.#data = [];
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (colon === 0) out.push({ comment: value });
    else if (field === 'event') this.#name = value;
    else if (field === 'data') this.#data.push(value);
  }
}

/** Every event and comment of a response, until it ends. */
export async function* eventsOf(response: Response): AsyncGenerator<ServerEvent | Comment> {
  if (response.body === null) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = new SseParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    // Left early: the server must hear that nobody listens. A stream that broke has nothing to cancel.
    void reader.cancel().catch(() => undefined);
  }
}

// The conversation: what is asked, how answers come in, and that none of it is lost.
//
// The server keeps an answer that is under way (`X-Samovar-Keep`), so it goes on when this window is closed; a window
// that opens again follows it from its beginning. What has been said is written to storage as it comes.

import { ServerError, errorOf } from './client';
import { freshId } from './id';
import type { Server } from './server.svelte';
import { eventsOf } from './sse';
import { ChatStore, newChat, sessionOf, type Answer, type Chat, type Message } from './storage';
import type { RequestRecord } from './wire';

/** How often text that streams in is shown: faster than that nobody reads. */
const FRAME_MS = 40;
const SAVE_MS = 250;
/** A stopped request's books are closed within a step. */
const RECORD_TRIES = 5;
const RECORD_PAUSE_MS = 200;

interface Chunk {
  choices?: { delta?: { content?: string } }[];
}

export function isUnderWay(answer: Answer): boolean {
  return ['queued', 'waiting', 'reading', 'writing'].includes(answer.phase);
}

export class Chats {
  current = $state<Chat>(newChat());
  /** Whether storage has no room for what is being said. */
  isUnsaved = $state(false);

  readonly #server: Server;
  readonly #store: ChatStore;
  // Neither map is shown, so neither needs to be reactive.
  /* eslint-disable svelte/prefer-svelte-reactivity */
  /** Requests of this window that are being followed, by answer. */
  readonly #following = new Map<string, AbortController>();
  /** Chats whose answers come in; they stay these very objects when another chat is opened. */
  readonly #live = new Map<string, Chat>();
  /* eslint-enable svelte/prefer-svelte-reactivity */
  #saving = 0;

  constructor(server: Server, store = new ChatStore()) {
    this.#server = server;
    this.#store = store;
    this.current = store.current() ?? newChat();
  }

  get last(): Message | undefined {
    return this.current.messages.at(-1);
  }

  /** The answer that is coming in, or waits to. */
  get pending(): Answer | null {
    const last = this.last;
    return last?.role === 'assistant' && isUnderWay(last) ? last : null;
  }

  list() {
    this.save();
    return this.#store.list();
  }

  /** Open a chat, or a new one. */
  open(id: string | null): void {
    this.save();
    const chat = id === null ? null : (this.#live.get(id) ?? this.#store.load(id));
    this.current = chat ?? newChat();
    this.#store.open(this.current.id);
    this.catchUp();
  }

  delete(id: string): void {
    const chat = id === this.current.id ? this.current : this.#live.get(id);
    for (const message of chat?.messages ?? []) {
      if (message.role === 'assistant' && isUnderWay(message)) void this.stop(message);
    }
    this.#live.delete(id);
    if (id === this.current.id) {
      this.current = newChat();
      this.#store.open(this.current.id);
    }
    this.#store.delete(id);
  }

  /** Ask; what cannot be sent yet is queued. */
  send(text: string): void {
    const chat = this.current;
    const question = text.trim();
    if (question === '' || this.pending !== null) return;
    chat.messages.push({ role: 'user', id: freshId(), text: question }, emptyAnswer(''));
    chat.draft = '';
    chat.scroll = null;
    chat.at = Date.now();
    this.#store.open(chat.id);
    this.save();
    this.catchUp();
  }

  /** Throw the last answer away and ask again. */
  retry(): void {
    this.#again('');
  }

  /** Go on where the last answer broke off. */
  goOn(): void {
    const last = this.last;
    if (last?.role === 'assistant') this.#again(last.text);
  }

  #again(base: string): void {
    if (this.last?.role !== 'assistant' || this.pending !== null) return;
    this.current.messages.pop();
    this.current.messages.push(emptyAnswer(base));
    this.current.scroll = null;
    this.save();
    this.catchUp();
  }

  /** End an answer; what is there of it stays. */
  async stop(answer: Answer): Promise<void> {
    const wasSent = answer.phase !== 'queued';
    answer.phase = 'stopped';
    this.#following.get(answer.id)?.abort();
    this.save();
    if (!wasSent) return;
    try {
      await this.#server.client.send(`/admin/answers/${answer.id}`, { method: 'DELETE' });
      await this.#explain(answer);
    } catch {
      // It has ended by itself, or there is no server that could go on with it.
    }
    this.save();
  }

  /** Send what is queued and follow what is under way, as far as the server lets us. */
  catchUp(): void {
    const chat = this.current;
    const last = chat.messages.at(-1);
    if (last?.role !== 'assistant' || this.#following.has(last.id)) return;
    if (last.phase === 'queued' && this.#server.isReady) void this.#follow(chat, last, true);
    else if (isUnderWay(last) && last.phase !== 'queued' && this.#server.link === 'live') {
      void this.#follow(chat, last, false);
    }
  }

  /** Write everything down that is not yet. */
  save(): void {
    clearTimeout(this.#saving);
    this.#saving = 0;
    const others = [...this.#live.values()].filter((chat) => chat.id !== this.current.id);
    for (const chat of [this.current, ...others]) {
      if (chat.messages.length === 0 && chat.draft === '') this.#store.delete(chat.id);
      else this.isUnsaved = !this.#store.save($state.snapshot(chat) as Chat);
    }
    this.#store.open(this.current.id);
  }

  saveSoon(): void {
    if (this.#saving === 0) this.#saving = window.setTimeout(() => this.save(), SAVE_MS);
  }

  async #follow(chat: Chat, answer: Answer, isNew: boolean): Promise<void> {
    const abort = new AbortController();
    this.#following.set(answer.id, abort);
    this.#live.set(chat.id, chat);
    if (isNew) answer.phase = 'waiting';
    try {
      const response = isNew
        ? await this.#ask(chat, answer, abort.signal)
        : await this.#server.client.send(`/admin/answers/${answer.id}`, { signal: abort.signal });
      await this.#take(answer, response);
    } catch (error) {
      if (!abort.signal.aborted) this.#broken(answer, error, isNew);
    }
    this.#following.delete(answer.id);
    if (!isUnderWay(answer)) {
      await this.#explain(answer);
      chat.at = Date.now();
      this.save();
      this.#live.delete(chat.id);
    }
  }

  #ask(chat: Chat, answer: Answer, signal: AbortSignal): Promise<Response> {
    const at = chat.messages.findIndex((message) => message.id === answer.id);
    const messages = promptOf(chat.messages.slice(0, at));
    if (answer.base !== '') messages.push({ role: 'assistant', content: answer.base });
    const body = {
      messages,
      stream: true,
      ...(answer.base === '' ? {} : { continue_final_message: true }),
    };
    const headers = {
      'x-request-id': answer.id,
      'x-session-id': sessionOf(chat.id),
      'x-samovar-keep': 'true',
    };
    const request = { method: 'POST', headers, body: JSON.stringify(body), signal };
    return this.#server.client.send('/v1/chat/completions', request);
  }

  /** Take in a stream that begins with the answer's beginning. */
  async #take(answer: Answer, response: Response): Promise<void> {
    let text = answer.base;
    let timer = 0;
    const show = () => {
      timer = 0;
      answer.text = text;
      this.saveSoon();
    };
    try {
      for await (const event of eventsOf(response)) {
        if ('comment' in event) {
          const [, done, total] = /^prefill (\d+)\/(\d+)$/.exec(event.comment) ?? [];
          if (done !== undefined && answer.phase !== 'writing') {
            Object.assign(answer, { phase: 'reading', done: Number(done), total: Number(total) });
          }
          continue;
        }
        if (event.data === '[DONE]') {
          answer.phase = 'done';
          return;
        }
        const chunk = JSON.parse(event.data) as Chunk;
        const { message, code } = errorOf(chunk);
        if (message !== null) throw new ServerError(message, 200, code);
        const piece = chunk.choices?.[0]?.delta?.content ?? '';
        if (piece === '') continue;
        text += piece;
        answer.phase = 'writing';
        if (timer === 0) timer = window.setTimeout(show, FRAME_MS);
      }
      // The connection ended before the answer: it is followed again as soon as there is a server.
    } finally {
      clearTimeout(timer);
      // A stream that broke before it said anything must not take away what an earlier one has said.
      if (text.length > answer.text.length) answer.text = text;
      this.saveSoon();
    }
  }

  #broken(answer: Answer, error: unknown, isNew: boolean): void {
    const isOurs = error instanceof ServerError;
    if (!isOurs || error.code === 'unreachable') {
      // Nothing was sent, or the stream tore: the server may have the answer.
      if (isNew && isOurs) answer.phase = 'queued';
      return;
    }
    if (isNew && error.code === 'model_loading') {
      answer.phase = 'queued';
      return;
    }
    answer.phase = 'broken';
    answer.trouble = error.status === 404 ? 'Samovar stopped before its end.' : troubleOf(error);
  }

  /** Fetch why the answer was as fast or slow as it was. */
  async #explain(answer: Answer): Promise<void> {
    for (let tries = 0; tries < RECORD_TRIES; tries += 1) {
      try {
        answer.record = await this.#server.client.get<RequestRecord>(`/admin/requests/${answer.id}`);
        return;
      } catch (error) {
        if (!(error instanceof ServerError) || error.status !== 404) return;
      }
      await new Promise((resolve) => setTimeout(resolve, RECORD_PAUSE_MS));
    }
  }
}

function emptyAnswer(base: string): Answer {
  const id = freshId();
  return {
    role: 'assistant',
    id,
    text: base,
    base,
    phase: 'queued',
    done: 0,
    total: 0,
    record: null,
    trouble: null,
  };
}

/** A conversation as the model gets it: no empty answers, and what was asked twice in a row as one question. */
export function promptOf(messages: Message[]): { role: string; content: string }[] {
  const prompt: { role: string; content: string }[] = [];
  for (const { role, text } of messages) {
    const before = prompt.at(-1);
    if (text === '') continue;
    if (role === 'user' && before?.role === 'user') before.content += `\n\n${text}`;
    else prompt.push({ role, content: text });
  }
  return prompt;
}

/** An error in words for a person; the server's own are good where there is nothing to add. */
export function troubleOf(error: ServerError): string {
  switch (error.code) {
    case 'interrupted':
      return 'Samovar stopped before its end.';
    case 'internal_error':
      return 'Something went wrong while it was being written.';
    case 'pool_exhausted':
      return 'There is no memory for it now: other requests need it all.';
    case 'rate_limit_exceeded':
      return 'Too many requests are waiting.';
    case 'context_length_exceeded':
      return 'This chat is longer than the model can read. Start a new one.';
    case 'shutting_down':
    case 'parked':
      return 'Samovar takes no new messages now.';
    default:
      return error.message;
  }
}

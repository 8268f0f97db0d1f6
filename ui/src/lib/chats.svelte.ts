// The conversation: what is asked, how answers come in, and that none of it is lost.
//
// The server keeps an answer that is under way (`X-Samovar-Keep`), so only the one that is looked at is followed:
// browsers have few connections to a host. What goes on elsewhere is looked up now and then. A chat is written by one
// tab at a time, the one that has its lock; what has been said is written to storage as it comes.

import { ServerError } from './client';
import { ask, emptyAnswer, questionOf, refuse, returnNext, sendNext } from './conversation';
import { troubleOf } from './faults';
import { Followed, follow } from './following';
import { sharedLocks, type Held, type Locks } from './locks';
import type { Server } from './server.svelte';
import {
  ChatStore,
  isUnderWay,
  lockOf,
  newChat,
  pendingOf,
  sessionOf,
  type Answer,
  type Chat,
  type Message,
} from './storage';
import type { RequestRecord } from './wire';

const SAVE_MS = 250;
/** A stopped request's books are closed within a step. */
const RECORD_TRIES = 5;
const RECORD_PAUSE_MS = 200;
/** A lock that another tab has for a moment only, to look a chat's answer up, is not worth a word. */
const PATIENCE_MS = 400;
/** So often it is looked whether what still goes on with a chat is over. */
const BUSY_TRIES = 40;
const BUSY_PAUSE_MS = 50;
/** A page that nobody looks at looks after its chats no more often. */
const HIDDEN_TEND_MS = 10_000;
/** Where a browser has no locks, every tab writes. */
const NO_LOCK: Held = { release: () => undefined };

/** Whether this tab may write the chat that it shows: not known yet, yes, or another one does. */
export type Writer = 'asking' | 'here' | 'elsewhere';

export class Chats {
  current = $state<Chat>(newChat());
  writer = $state<Writer>('asking');
  /** Whether storage has no room for what is being said. */
  isUnsaved = $state(false);

  readonly #server: Server;
  readonly #store: ChatStore;
  readonly #locks: Locks | null;
  // What is below is never shown, so it need not be reactive.
  /* eslint-disable svelte/prefer-svelte-reactivity */
  /** Requests of this tab that are being sent or followed, by answer. */
  readonly #following = new Map<string, Followed>();
  /** Chats whose lock this tab has. */
  readonly #held = new Map<string, Held>();
  /** Chats that wait for an answer and may be looked at by nobody. */
  readonly #left: Set<string>;
  /* eslint-enable svelte/prefer-svelte-reactivity */
  #entering = new AbortController();
  #isTending = false;
  #tendedAt = 0;
  #isSeen = true;
  #saving = 0;

  constructor(server: Server, store = new ChatStore(), locks = sharedLocks()) {
    this.#server = server;
    this.#store = store;
    this.#locks = locks;
    // eslint-disable-next-line svelte/prefer-svelte-reactivity
    this.#left = new Set(store.waiting());
    this.#enter(store.current() ?? newChat());
  }

  get last(): Message | undefined {
    return this.current.messages.at(-1);
  }

  /** The answer that is coming in, or waits to. */
  get pending(): Answer | null {
    return pendingOf(this.current);
  }

  list() {
    this.save();
    return this.#store.list();
  }

  /** Open a chat, or a new one. */
  open(id: string | null): void {
    if (id === this.current.id) return;
    this.#leave();
    this.#enter((id === null ? null : this.#store.load(id)) ?? newChat());
    this.#store.open(this.current.id);
  }

  /** Delete a chat, its answer under way, and the context that the server keeps of it; `false` while another tab has it. */
  async delete(id: string): Promise<boolean> {
    const isCurrent = id === this.current.id;
    for (let tries = 0; !isCurrent && this.#held.has(id) && tries < BUSY_TRIES; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, BUSY_PAUSE_MS));
    }
    if (isCurrent ? this.writer !== 'here' : !(await this.#take(id))) return false;
    const chat = isCurrent ? this.current : this.#store.load(id);
    const answer = chat && pendingOf(chat);
    this.#left.delete(id);
    this.#store.delete(id);
    this.#store.doom(sessionOf(id));
    // From here on nothing writes it any more, whatever still comes in.
    this.#release(id);
    if (answer) {
      answer.phase = 'stopped';
      this.#following.get(answer.id)?.leave();
    }
    if (isCurrent) {
      this.#enter(newChat());
      this.#store.open(this.current.id);
    }
    if (answer) await this.#end(answer);
    await this.#forget();
    return true;
  }

  /** Ask; what cannot be sent yet is queued, and what comes while an answer is written is sent after it. */
  send(text: string): void {
    const chat = this.current;
    const question = text.trim();
    if (question === '' || this.writer === 'elsewhere') return;
    chat.draft = '';
    chat.refused = null;
    if (this.pending === null) ask(chat, question);
    else chat.next = chat.next === null ? question : `${chat.next}\n\n${question}`;
    this.save();
    this.catchUp();
  }

  /** Take back what was to be sent next. */
  takeBack(): void {
    returnNext(this.current);
    this.save();
  }

  /** Ask the same again; what was answered stays below. */
  retry(): void {
    const last = this.last;
    if (last?.role !== 'assistant') return;
    const kept = last.text === '' ? [] : [{ id: last.id, text: last.text }];
    this.#again('', [...kept, ...last.earlier]);
  }

  /** Go on where the last answer broke off. */
  goOn(): void {
    const last = this.last;
    if (last?.role === 'assistant') this.#again(last.text, last.earlier);
  }

  #again(base: string, earlier: Answer['earlier']): void {
    if (this.last?.role !== 'assistant' || this.pending !== null || this.writer === 'elsewhere') return;
    this.current.messages.pop();
    this.current.messages.push(emptyAnswer(base, earlier));
    this.current.scroll = null;
    this.save();
    this.catchUp();
  }

  /** End an answer; what is there of it stays. */
  async stop(answer: Answer): Promise<void> {
    const chat = this.current;
    if (this.writer === 'elsewhere') return;
    const wasSent = answer.phase !== 'queued';
    answer.phase = 'stopped';
    returnNext(chat);
    this.#following.get(answer.id)?.leave();
    this.save();
    if (!wasSent) return;
    await this.#end(answer);
    this.save();
  }

  /** Send what is queued and follow what is under way, as far as the server lets us. */
  catchUp(): void {
    const answer = this.pending;
    if (answer === null || this.writer !== 'here' || this.#following.has(answer.id)) return;
    if (answer.phase === 'queued' ? this.#server.isReady : this.#isSeen && this.#server.link === 'live') {
      void this.#attend(this.current, answer);
    }
  }

  /** Nobody looks at this page: its connections are for others. */
  hide(): void {
    this.#isSeen = false;
    this.save();
    for (const followed of this.#following.values()) followed.leave();
  }

  show(): void {
    this.#isSeen = true;
    this.catchUp();
  }

  /** Another tab has written something. */
  onstorage(event: StorageEvent): void {
    const change = this.#store.changed(event);
    if (change?.id !== this.current.id) return;
    const isFollowing = this.pending !== null && this.#following.has(this.pending.id);
    const isLater = (change.chat?.rev ?? 0) > this.current.rev;
    // Also after a lock was handed over, what was written before it may be told after it.
    if (change.chat !== null && isLater && !isFollowing) this.#adopt(change.chat);
  }

  /** Look after what nobody looks at: chats that wait for an answer, and agents that are to be forgotten. */
  async tend(): Promise<void> {
    const isTooSoon = !this.#isSeen && Date.now() - this.#tendedAt < HIDDEN_TEND_MS;
    if (this.#isTending || isTooSoon || this.#server.link !== 'live') return;
    this.#isTending = true;
    this.#tendedAt = Date.now();
    try {
      for (const id of [...this.#left]) await this.#look(id);
      const answer = this.pending;
      if (this.#isSeen) this.catchUp();
      else if (answer !== null && this.writer === 'here' && !this.#following.has(answer.id)) {
        if (answer.phase !== 'queued' || this.#server.isReady) await this.#attend(this.current, answer);
      }
      await this.#forget();
    } finally {
      this.#isTending = false;
    }
  }

  /** Write everything down that is not yet. */
  save(): void {
    clearTimeout(this.#saving);
    this.#saving = 0;
    if (this.writer !== 'here') return;
    this.#keep(this.current);
    this.#store.open(this.current.id);
  }

  saveSoon(): void {
    if (this.#saving === 0) this.#saving = window.setTimeout(() => this.save(), SAVE_MS);
  }

  #keep(chat: Chat): void {
    // Whose lock is not ours any more is deleted, or another one's.
    if (!this.#held.has(chat.id)) return;
    if (chat.messages.length === 0 && chat.draft === '') this.#store.delete(chat.id);
    else {
      chat.rev += 1;
      this.isUnsaved = !this.#store.save($state.snapshot(chat) as Chat);
    }
  }

  /** Show a chat, and write it if nobody else does. */
  #enter(chat: Chat): void {
    this.#entering.abort();
    const entering = new AbortController();
    this.#entering = entering;
    this.current = chat;
    this.#left.delete(chat.id);
    this.writer = 'asking';
    // Something of it is still under way here: `#settle` gives it back.
    if (this.#held.has(chat.id)) return;
    if (this.#locks !== null) void this.#askToWrite(this.#locks, chat.id, entering.signal);
    else this.#write(NO_LOCK);
  }

  async #askToWrite(locks: Locks, id: string, gone: AbortSignal): Promise<void> {
    const name = lockOf(id);
    let held = await locks.take(name);
    if (held === null && !gone.aborted) {
      const patience = setTimeout(() => {
        if (gone.aborted) return;
        this.writer = 'elsewhere';
        this.#adopt(this.#store.load(id) ?? this.current);
      }, PATIENCE_MS);
      held = await locks.wait(name, gone);
      clearTimeout(patience);
    }
    if (held === null) return;
    if (gone.aborted) return held.release();
    const latest = this.#store.load(id);
    if (latest !== null && latest.rev > this.current.rev) this.#adopt(latest);
    else if (latest === null && this.current.rev > 0) {
      // The other one has deleted it.
      held.release();
      return this.#enter(newChat());
    }
    this.#write(held);
  }

  #write(held: Held): void {
    this.#held.set(this.current.id, held);
    this.writer = 'here';
    this.save();
    this.catchUp();
  }

  /** Show what another tab has made of the chat. */
  #adopt(chat: Chat): void {
    this.current = { ...chat, scroll: this.current.scroll };
  }

  #leave(): void {
    this.save();
    const { id } = this.current;
    if (this.pending !== null) this.#left.add(id);
    const attended = this.#attended(id);
    this.#entering.abort();
    // A question on its way arrives first, and what an answer took is told after its end; the lock goes with them.
    for (const followed of attended) followed.leave();
    if (attended.length === 0 && this.writer === 'here') this.#release(id);
  }

  /** The lock of a chat that is not shown. */
  async #take(id: string): Promise<boolean> {
    if (this.#held.has(id)) return false;
    const held = this.#locks === null ? NO_LOCK : await this.#locks.take(lockOf(id));
    if (held === null) return false;
    this.#held.set(id, held);
    return true;
  }

  #release(id: string): void {
    this.#held.get(id)?.release();
    this.#held.delete(id);
  }

  /** What of a chat is under way here. */
  #attended(id: string): Followed[] {
    return [...this.#following.values()].filter(({ chat }) => chat === id);
  }

  /** Something of a chat is not under way here any more: if nothing is, but what is shown of it, its lock is free. */
  #settle(id: string): void {
    const held = this.#held.get(id);
    if (held === undefined || this.#attended(id).length > 0) return;
    if (id === this.current.id && this.writer === 'here') return;
    if (id !== this.current.id) return this.#release(id);
    this.#adopt(this.#store.load(id) ?? this.current);
    this.#write(held);
  }

  /** A chat that is not shown: send what is queued, take in what has been answered. */
  async #look(id: string): Promise<void> {
    if (id === this.current.id || !(await this.#take(id))) return;
    const chat = this.#store.load(id);
    const answer = chat && pendingOf(chat);
    // What runs is looked up when it does not any more; a page that is not seen does not hear of that.
    const runs = this.#isSeen && this.#server.view?.active.some((request) => request.id === answer?.id);
    if (!answer) this.#left.delete(id);
    else if (!runs && (answer.phase !== 'queued' || this.#server.isReady)) await this.#attend(chat, answer);
    this.#settle(id);
  }

  /** Send an answer's question if that is to be done, and take in what comes as long as somebody looks at it. */
  async #attend(chat: Chat, answer: Answer): Promise<void> {
    const isNew = answer.phase === 'queued';
    const followed = new Followed(chat.id, () => this.#isSeen && chat === this.current);
    this.#following.set(answer.id, followed);
    if (isNew) answer.phase = 'waiting';
    this.#keep(chat);
    try {
      const question = isNew ? questionOf(chat, answer) : null;
      await follow(this.#server.client, this.#locks, answer, followed, question, () => this.saveSoon());
    } catch (error) {
      if (!followed.hasLeft) this.#broken(chat, answer, error, isNew);
    }
    const hasEnded = !isUnderWay(answer);
    if (hasEnded) {
      chat.at = Date.now();
      sendNext(chat, answer);
      this.#keep(chat);
      if (answer.phase === 'stopped' && followed.leftEarly) {
        await this.#end(answer);
        // Of a chat that is deleted its context is now there to be forgotten.
        if (!this.#held.has(chat.id)) this.#store.doom(sessionOf(chat.id));
        await this.#forget();
      } else await this.#explain(answer);
    }
    if (pendingOf(chat) !== null && chat !== this.current) this.#left.add(chat.id);
    this.#keep(chat);
    this.#following.delete(answer.id);
    if (chat !== this.current) this.#settle(chat.id);
    // Somebody has left and come back, or there is more to ask.
    else if (hasEnded || followed.hasLeft) this.catchUp();
  }

  #broken(chat: Chat, answer: Answer, error: unknown, isNew: boolean): void {
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
    answer.trouble = troubleOf(error);
    if (error.code === 'context_length_exceeded') refuse(chat, answer, error.lengths);
  }

  /** Have the server end an answer, and wait until it has. */
  async #end(answer: Answer): Promise<void> {
    try {
      await this.#server.client.send(`/admin/answers/${answer.id}`, { method: 'DELETE' });
      await this.#explain(answer);
    } catch {
      // It has ended by itself, or there is no server that could go on with it.
    }
  }

  /** Have the server forget the context of deleted chats. What cannot be done now is done later, by whichever tab. */
  async #forget(): Promise<void> {
    const active = this.#server.view?.active ?? [];
    for (const name of this.#store.doomed()) {
      // What still runs would be kept again at its end.
      if (active.some(({ agent }) => agent === name)) continue;
      try {
        await this.#server.client.send(`/v1/agents/${name}`, { method: 'DELETE' });
      } catch (error) {
        const isUnknown = error instanceof ServerError && error.code === 'agent_not_found';
        if (!isUnknown) continue;
      }
      this.#store.forgot(name);
    }
  }

  /** Fetch why the answer was as fast or slow as it was. */
  async #explain(answer: Answer): Promise<void> {
    for (let tries = 0; tries < RECORD_TRIES; tries += 1) {
      try {
        answer.record = await this.#server.client.get<RequestRecord>(`/admin/requests/${answer.id}`);
        return;
      } catch (error) {
        if (!(error instanceof ServerError) || error.code !== 'request_not_found') return;
      }
      await new Promise((resolve) => setTimeout(resolve, RECORD_PAUSE_MS));
    }
  }
}

// Where chats are kept: in this browser (in the app: in the window's own storage), one entry each.

import { freshId } from './id';
import type { RequestRecord } from './wire';

export interface Question {
  role: 'user';
  id: string;
  text: string;
}

/** What an answer is doing; from `done` on nothing more comes by itself. */
export type Phase = 'queued' | 'waiting' | 'reading' | 'writing' | 'done' | 'stopped' | 'broken';

export interface Answer {
  role: 'assistant';
  /** The request's id, under which the server keeps the answer. */
  id: string;
  text: string;
  /** What was there before this request: it continues an answer that was cut off. */
  base: string;
  phase: Phase;
  /** Prompt tokens read, and all of them. */
  done: number;
  total: number;
  /** What the server says about it once it has ended. */
  record: RequestRecord | null;
  /** Why it broke off, for a person. */
  trouble: string | null;
  /** What was answered to the same before it was asked again, the latest first. */
  earlier: { id: string; text: string }[];
}

export type Message = Question | Answer;

export interface Chat {
  id: string;
  /** When something was said last, in milliseconds since 1970. */
  at: number;
  messages: Message[];
  draft: string;
  /** What is sent as soon as the answer under way is complete. */
  next: string | null;
  /** Why what stands in the draft came back. */
  refused: string | null;
  /** How often it was written down: the higher one is the later one. */
  rev: number;
  /** Pixels from the top; `null` is the end, wherever that is. */
  scroll: number | null;
}

export interface Summary {
  id: string;
  at: number;
  title: string;
}

const CURRENT = 'samovar.current';
const CHAT = 'samovar.chat.';
const DOOMED = 'samovar.forget';

export function newChat(): Chat {
  const id = freshId();
  return { id, at: Date.now(), messages: [], draft: '', next: null, refused: null, rev: 0, scroll: null };
}

/** The lock of who writes a chat. */
export function lockOf(id: string): string {
  return CHAT + id;
}

/** The answer that a chat waits for, if it does. */
export function pendingOf(chat: Chat): Answer | null {
  const last = chat.messages.at(-1);
  return last?.role === 'assistant' && isUnderWay(last) ? last : null;
}

export function isUnderWay(answer: Answer): boolean {
  return ['queued', 'waiting', 'reading', 'writing'].includes(answer.phase);
}

/** What a chat is called by the server: the agent whose context is kept. */
export function sessionOf(id: string): string {
  return `chat-${id}`;
}

/** What a chat is called: its first words. */
export function titleOf(chat: Pick<Chat, 'messages' | 'draft'>): string {
  const text = chat.messages[0]?.text ?? chat.draft;
  const line = text.trim().split('\n', 1)[0] ?? '';
  return line === '' ? 'New chat' : line.length > 80 ? `${line.slice(0, 79)}…` : line;
}

export class ChatStore {
  constructor(
    private readonly storage: Storage = localStorage,
    /** Of this tab alone. */
    private readonly tab: Storage = sessionStorage,
  ) {}

  /** The chat that was open last: in this tab, else in any. */
  current(): Chat | null {
    const id = this.tab.getItem(CURRENT) ?? this.storage.getItem(CURRENT);
    return id === null ? null : this.load(id);
  }

  load(id: string): Chat | null {
    const text = this.storage.getItem(CHAT + id);
    return text === null ? null : parsed(text);
  }

  /** The chat that another tab has just written or deleted; `undefined` when it was something else. */
  changed(event: StorageEvent): { id: string; chat: Chat | null } | undefined {
    if (event.storageArea !== this.storage || event.key?.startsWith(CHAT) !== true) return undefined;
    const chat = event.newValue === null ? null : parsed(event.newValue);
    return { id: event.key.slice(CHAT.length), chat };
  }

  /** Keep a chat; `false` when there is no room. */
  save(chat: Chat): boolean {
    try {
      this.storage.setItem(CHAT + chat.id, JSON.stringify(chat));
      return true;
    } catch {
      return false;
    }
  }

  open(id: string): void {
    this.tab.setItem(CURRENT, id);
    this.storage.setItem(CURRENT, id);
  }

  delete(id: string): void {
    this.storage.removeItem(CHAT + id);
  }

  /** Every chat, the latest first. */
  list(): Summary[] {
    const chats = this.#all().map((chat) => ({ id: chat.id, at: chat.at, title: titleOf(chat) }));
    return chats.sort((a, b) => b.at - a.at);
  }

  /** The chats that wait for an answer. */
  waiting(): string[] {
    return this.#all()
      .filter((chat) => pendingOf(chat) !== null)
      .map((chat) => chat.id);
  }

  #all(): Chat[] {
    const chats: Chat[] = [];
    for (let i = 0; i < this.storage.length; i += 1) {
      const key = this.storage.key(i);
      const chat = key?.startsWith(CHAT) ? this.load(key.slice(CHAT.length)) : null;
      if (chat !== null) chats.push(chat);
    }
    return chats;
  }

  /** The agents whose chats were deleted and that the server has still to forget. */
  doomed(): string[] {
    try {
      const names: unknown = JSON.parse(this.storage.getItem(DOOMED) ?? '[]');
      return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
    } catch {
      return [];
    }
  }

  doom(name: string): void {
    this.#setDoomed([...this.doomed().filter((other) => other !== name), name]);
  }

  forgot(name: string): void {
    this.#setDoomed(this.doomed().filter((other) => other !== name));
  }

  #setDoomed(names: string[]): void {
    try {
      if (names.length === 0) this.storage.removeItem(DOOMED);
      else this.storage.setItem(DOOMED, JSON.stringify(names));
    } catch {
      // A storage that is full up to these few letters; what is lost is a clean-up.
    }
  }
}

/** Also what an earlier version of this page has written. */
function parsed(text: string): Chat | null {
  try {
    const chat = { ...newChat(), ...(JSON.parse(text) as Chat) };
    for (const message of chat.messages) {
      if (message.role === 'assistant') message.earlier ??= [];
    }
    return chat;
  } catch {
    return null;
  }
}

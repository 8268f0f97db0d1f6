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
}

export type Message = Question | Answer;

export interface Chat {
  id: string;
  /** When something was said last, in milliseconds since 1970. */
  at: number;
  messages: Message[];
  draft: string;
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

export function newChat(): Chat {
  return { id: freshId(), at: Date.now(), messages: [], draft: '', scroll: null };
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
  constructor(private readonly storage: Storage = localStorage) {}

  /** The chat that was open last. */
  current(): Chat | null {
    const id = this.storage.getItem(CURRENT);
    return id === null ? null : this.load(id);
  }

  load(id: string): Chat | null {
    const text = this.storage.getItem(CHAT + id);
    if (text === null) return null;
    try {
      return JSON.parse(text) as Chat;
    } catch {
      return null;
    }
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
    this.storage.setItem(CURRENT, id);
  }

  delete(id: string): void {
    this.storage.removeItem(CHAT + id);
  }

  /** Every chat, the latest first. */
  list(): Summary[] {
    const chats: Summary[] = [];
    for (let i = 0; i < this.storage.length; i += 1) {
      const key = this.storage.key(i);
      const chat = key?.startsWith(CHAT) ? this.load(key.slice(CHAT.length)) : null;
      if (chat !== null) chats.push({ id: chat.id, at: chat.at, title: titleOf(chat) });
    }
    return chats.sort((a, b) => b.at - a.at);
  }
}

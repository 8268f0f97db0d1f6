// An answer as it comes in: streamed while somebody looks at it and there is a connection to spare, looked up otherwise.

import { errorIn, type Client } from './client';
import { takeStream, type Locks } from './locks';
import { eventsOf } from './sse';
import { isUnderWay, type Answer } from './storage';

/** How often text that streams in is shown: faster than that nobody reads. */
const FRAME_MS = 40;
/** Between two looks at an answer that is looked at without a connection of its own. */
const LOOK_MS = 400;

interface Chunk {
  choices?: { delta?: { content?: string } }[];
}

/** What somebody follows, until they leave. */
export class Followed {
  /** Whether the question is on its way: it is let arrive, or nobody would know whether it has. */
  isAsking = false;
  hasLeft = false;
  /** Whether somebody left before the question had arrived: what was asked of its answer then was asked too early. */
  leftEarly = false;
  readonly #abort = new AbortController();

  constructor(
    readonly chat: string,
    private readonly isWatched: () => boolean,
  ) {}

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get isLookedAt(): boolean {
    return !this.hasLeft && this.isWatched();
  }

  /** Let go of the connection. The answer goes on at the server. */
  leave(): void {
    this.hasLeft = true;
    if (this.isAsking) this.leftEarly = true;
    else this.#abort.abort();
  }
}

/** Ask, if `request` is a question, and take in what comes: until the end, or until nobody looks at it any more. */
export async function follow(
  client: Client,
  locks: Locks | null,
  answer: Answer,
  followed: Followed,
  request: RequestInit | null,
  onchange: () => void,
): Promise<void> {
  const { signal } = followed;
  let response: Response | null = null;
  if (request !== null) {
    followed.isAsking = true;
    try {
      response = await client.send('/v1/chat/completions', { ...request, signal });
    } finally {
      followed.isAsking = false;
    }
  }
  for (let isFirst = request !== null; ; isFirst = false) {
    const isLookedAt = followed.isLookedAt;
    const stream = isLookedAt ? await takeStream(locks) : null;
    let hasEnded: boolean;
    try {
      if (stream === null) {
        void response?.body?.cancel().catch(() => undefined);
        // It has arrived; who wants to know more looks later.
        if (isFirst && !isLookedAt) return;
        response = await client.send(`/admin/answers/${answer.id}?follow=false`, { signal });
      } else response ??= await client.send(`/admin/answers/${answer.id}`, { signal });
      hasEnded = await take(answer, response, onchange);
    } finally {
      stream?.release();
    }
    if (!isUnderWay(answer)) return;
    if (hasEnded) {
      // Somebody else has stopped it.
      answer.phase = 'stopped';
      return;
    }
    // The stream of a question ends without a word when it is stopped elsewhere: the server says which it was. Any
    // other one tore, and is followed again as soon as there is a server.
    if ((stream !== null && !isFirst) || !isLookedAt) return;
    response = null;
    if (stream === null) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Take in a stream that begins with the answer's beginning; whether the server says that there will be no more. */
async function take(answer: Answer, response: Response, onchange: () => void): Promise<boolean> {
  let text = answer.base;
  let timer = 0;
  const show = () => {
    timer = 0;
    // Who looks again sees the beginning again.
    if (text.length > answer.text.length) answer.text = text;
    onchange();
  };
  try {
    for await (const event of eventsOf(response)) {
      // What was stopped here says no more, whatever was still on its way.
      if (!isUnderWay(answer)) return true;
      if ('comment' in event) {
        if (event.comment === 'ended') return true;
        const [, done, total] = /^prefill (\d+)\/(\d+)$/.exec(event.comment) ?? [];
        if (done !== undefined && answer.phase !== 'writing') {
          Object.assign(answer, { phase: 'reading', done: Number(done), total: Number(total) });
        }
        continue;
      }
      if (event.data === '[DONE]') {
        answer.phase = 'done';
        return true;
      }
      const chunk = JSON.parse(event.data) as Chunk;
      const error = errorIn(chunk);
      if (error !== null) throw error;
      const piece = chunk.choices?.[0]?.delta?.content ?? '';
      if (piece === '') continue;
      text += piece;
      answer.phase = 'writing';
      if (timer === 0) timer = window.setTimeout(show, FRAME_MS);
    }
    return false;
  } finally {
    clearTimeout(timer);
    // A stream that broke before it said anything must not take away what an earlier one has said.
    if (text.length > answer.text.length) answer.text = text;
    onchange();
  }
}

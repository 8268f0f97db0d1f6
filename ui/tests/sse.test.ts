import { expect, it } from 'vitest';

import { SseParser } from '../src/lib/sse';

const STREAM =
  'event: status\r\ndata: {"a":1}\r\n\r\n: prefill 3/9\n\ndata: one\ndata: two\n\nid: 7\ndata:x\n\n';
const WANT = [
  { name: 'status', data: '{"a":1}' },
  { comment: 'prefill 3/9' },
  { name: 'message', data: 'one\ntwo' },
  { name: 'message', data: 'x' },
];

it('the same events come out however the stream is cut', () => {
  for (let size = 1; size <= STREAM.length; size += 1) {
    const parser = new SseParser();
    const got = [];
    for (let at = 0; at < STREAM.length; at += size) got.push(...parser.push(STREAM.slice(at, at + size)));
    expect(got, `pieces of ${size}`).toEqual(WANT);
  }
});

it('an event that is not complete is not given', () => {
  const parser = new SseParser();
  expect(parser.push('data: half')).toEqual([]);
  expect(parser.push('\n')).toEqual([]);
  expect(parser.push('\n')).toEqual([{ name: 'message', data: 'half' }]);
});

import { describe, expect, it } from 'vitest';

import { bytes, count, countdown, percent, rate, seconds, short, whole } from '../src/lib/format';

/** Thin spaces as people would type them. */
const plain = (text: string) => text.replaceAll('\u202f', ' ');

describe('numbers have thin separators and units', () => {
  it.each([
    [whole(0), '0'],
    [whole(999), '999'],
    [whole(3200), '3 200'],
    [whole(1234567), '1 234 567'],
    [whole(-4500), '−4 500'],
    [short(980), '980'],
    [short(1234), '1.2k'],
    [short(9960), '10k'],
    [short(38400), '38k'],
    [count(1, 'request'), '1 request'],
    [count(2, 'request'), '2 requests'],
    [percent(0.457), '46 %'],
    [seconds(0.42), '0.4 s'],
    [seconds(-1), '0.0 s'],
    [seconds(21.4), '21 s'],
    [seconds(200), '3 min 20 s'],
    [seconds(180), '3 min'],
    [seconds(7500), '2 h 5 min'],
    [countdown(20.2), '21 s'],
    [countdown(-3), '0 s'],
    [countdown(600), '10 min'],
    [bytes(12), '12 B'],
    [bytes(4_400_000), '4.4 MB'],
    [bytes(98_362_432), '98 MB'],
    [bytes(999_999_999), '1.0 GB'],
    [rate(41.4), '41 tok/s'],
    [rate(6), '6.0 tok/s'],
  ])('%s', (got, want) => {
    expect(plain(got)).toBe(want);
  });
});

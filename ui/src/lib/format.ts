// Numbers as people read them: thin separators, units, no more digits than matter.

/** Narrow and unbroken: between a number's groups, and between a number and its unit. */
export const THIN = '\u202f';

/** `12 345` */
export function whole(n: number): string {
  const digits = Math.abs(Math.round(n)).toString();
  const grouped = digits.replace(/\B(?=(\d{3})+$)/g, THIN);
  return n < -0.5 ? `\u2212${grouped}` : grouped;
}

/** `980`, `1.2k`, `38k`: for a line that is read in passing. */
export function short(n: number): string {
  if (n < 1000) return whole(n);
  const thousands = n / 1000;
  return thousands < 9.95 ? `${thousands.toFixed(1)}k` : `${whole(thousands)}k`;
}

/** `1 request`, `2 requests` */
export function count(n: number, one: string, many = `${one}s`): string {
  return `${whole(n)} ${n === 1 ? one : many}`;
}

/** `46 %` of a share between 0 and 1. */
export function percent(share: number): string {
  return `${whole(share * 100)}${THIN}%`;
}

/** `0.4 s`, `21 s`, `3 min 20 s`, `2 h 5 min` */
export function seconds(s: number): string {
  if (s < 9.95) return `${Math.max(0, s).toFixed(1)}${THIN}s`;
  const all = Math.round(s);
  if (all < 60) return `${all}${THIN}s`;
  const minutes = Math.floor(all / 60);
  if (minutes < 60) return joined(minutes, 'min', all % 60, 's');
  return joined(Math.floor(minutes / 60), 'h', minutes % 60, 'min');
}

function joined(big: number, bigUnit: string, small: number, smallUnit: string): string {
  const first = `${whole(big)}${THIN}${bigUnit}`;
  return small === 0 ? first : `${first} ${small}${THIN}${smallUnit}`;
}

/** `21 s` that are left, whole seconds: a countdown with tenths is restless. */
export function countdown(s: number): string {
  const all = Math.ceil(Math.max(0, s));
  return all < 60 ? `${all}${THIN}s` : seconds(all);
}

/** `98 MB`, as the system's file dialogs count: by thousands. */
export function bytes(n: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let size = n;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || size >= 9.95 ? whole(size) : size.toFixed(1);
  return `${digits}${THIN}${units[unit]}`;
}

/** `41 tok/s` */
export function rate(tokensPerSecond: number): string {
  const digits = tokensPerSecond < 9.95 ? tokensPerSecond.toFixed(1) : whole(tokensPerSecond);
  return `${digits}${THIN}tok/s`;
}

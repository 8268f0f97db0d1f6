// Fresh ids, also where the page was not loaded over a secure origin and `crypto.randomUUID` is missing.

export function freshId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

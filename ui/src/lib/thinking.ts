// What a model thinks before and between what it says: models mark it in their text.

export interface Passage {
  kind: 'text' | 'thought';
  text: string;
  /** Whether more of it may come: a thought that has not been closed. */
  isOpen: boolean;
}

const NAMES = 'think|thinking|thought';
const OPENING = new RegExp(`^[ \\t]*<(${NAMES})>[ \\t]*\\n?`, 'i');
const CLOSING = new RegExp(`</(?:${NAMES})>[ \\t]*\\n*`, 'i');
const FENCE = /^ {0,3}(`{3,}|~{3,})/;

/**
 * An answer as what is said and what is thought. A thought begins at the beginning of a line outside of code. Some
 * templates put the opening mark into the prompt, so an answer may begin in the middle of a thought: then everything
 * up to a closing mark without an opening one is one.
 */
export function passagesOf(text: string): Passage[] {
  const passages: Passage[] = [];
  const push = (kind: Passage['kind'], piece: string, isOpen = false) => {
    if (piece.trim() !== '') passages.push({ kind, text: piece, isOpen });
  };
  let rest = text;
  const first = strayClosing(rest);
  if (first !== null) {
    push('thought', rest.slice(0, first.at).trim());
    rest = rest.slice(first.end);
  }
  let said = '';
  let fence = '';
  while (rest !== '') {
    const opening = fence === '' ? OPENING.exec(rest) : null;
    if (opening !== null) {
      push('text', said);
      said = '';
      rest = rest.slice(opening[0].length);
      const closing = CLOSING.exec(rest);
      push(
        'thought',
        (closing ? rest.slice(0, closing.index) : withoutHalfMark(rest)).trim(),
        closing === null,
      );
      if (closing === null && passages.at(-1)?.kind !== 'thought') {
        passages.push({ kind: 'thought', text: '', isOpen: true });
      }
      rest = closing ? rest.slice(closing.index + closing[0].length) : '';
      continue;
    }
    const end = rest.indexOf('\n') + 1 || rest.length;
    const line = rest.slice(0, end);
    const mark = FENCE.exec(line)?.[1] ?? '';
    if (fence === '') fence = mark;
    else if (mark.startsWith(fence) && line.trim() === mark) fence = '';
    said += line;
    rest = rest.slice(end);
  }
  push('text', fence === '' ? withoutHalfMark(said) : said);
  return passages;
}

/** What is said of it, for who copies it. */
export function spokenOf(text: string): string {
  const said = passagesOf(text).filter(({ kind }) => kind === 'text');
  return said
    .map((passage) => passage.text)
    .join('')
    .trim();
}

/** Where a closing mark stands that nothing has opened, outside of code. */
function strayClosing(text: string): { at: number; end: number } | null {
  const closing = CLOSING.exec(text);
  if (closing === null) return null;
  const before = text.slice(0, closing.index);
  const isOpened = new RegExp(`<(?:${NAMES})>`, 'i').test(before);
  const isInCode = (before.match(/`/g)?.length ?? 0) % 2 === 1;
  return isOpened || isInCode ? null : { at: closing.index, end: closing.index + closing[0].length };
}

/** Without the beginning of a mark at the end of a text that is coming in. */
function withoutHalfMark(text: string): string {
  const half = /(?:^|\n)[ \t]*<\/?([a-z]*)$|<\/([a-z]*)$/i.exec(text);
  const name = (half?.[1] ?? half?.[2])?.toLowerCase();
  if (half === null || name === undefined) return text;
  return NAMES.split('|').some((each) => each.startsWith(name)) ? text.slice(0, half.index) : text;
}

// The keys of the page. The modifier is the system's: Command on a Mac, Control elsewhere.

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);

/** How a shortcut is written in a menu. */
export function shown(letter: string): string {
  return isMac ? `⌘${letter}` : `Ctrl ${letter}`;
}

/** As `aria-keyshortcuts` wants it. */
export function spoken(letter: string): string {
  return `${isMac ? 'Meta' : 'Control'}+${letter}`;
}

/** Whether the event is the modifier with this letter, and nothing else. */
export function isShortcut(event: KeyboardEvent, letter: string): boolean {
  return hasModifier(event) && !event.shiftKey && event.key.toLowerCase() === letter.toLowerCase();
}

/** What a key asks of the zoom. Plus is with Shift on many keyboards, and without on others. */
export function zoomAsked(event: KeyboardEvent): 'in' | 'out' | 'reset' | null {
  if (!hasModifier(event)) return null;
  if (event.key === '+' || event.key === '=') return 'in';
  if (event.key === '-' || event.key === '_') return 'out';
  return event.key === '0' ? 'reset' : null;
}

/**
 * Whether the key belongs to an input method that composes a character. WebKit ends the composition before it tells of
 * the key that ended it, so there only the code that stands for "taken by an input method" is left of it.
 */
export function isComposing(event: KeyboardEvent): boolean {
  return event.isComposing || event.keyCode === TAKEN_BY_INPUT_METHOD;
}

const TAKEN_BY_INPUT_METHOD = 229;

function hasModifier(event: KeyboardEvent): boolean {
  const modifier = isMac ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey;
  return modifier && !event.altKey;
}

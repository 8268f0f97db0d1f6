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
  const modifier = isMac ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey;
  return modifier && !event.altKey && !event.shiftKey && event.key.toLowerCase() === letter.toLowerCase();
}

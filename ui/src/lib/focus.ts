// The keyboard's place: what has the focus may vanish or be disabled, and then it must not fall out of the page; and
// where the ring says what has it.

/** Watch `root`; when what had the focus in it is gone, `next` gets it. Gives what ends that. */
export function keepFocus(root: HTMLElement, next: () => HTMLElement | null | undefined): () => void {
  let last: Element | null = null;
  const remember = (event: FocusEvent) => (last = event.target instanceof Element ? event.target : null);
  const forget = (event: FocusEvent) => {
    const { target } = event;
    if (event.relatedTarget !== null || !(target instanceof Element)) return;
    // Left on purpose, for nothing: by a click beside everything. What vanishes is told of as well, a moment before.
    queueMicrotask(() => {
      if (last === target && isUsable(target)) last = null;
    });
  };
  // Safari gives a button that is clicked no focus, and takes it from what had it.
  const take = (event: Event) => {
    const button = event.target instanceof Element ? event.target.closest('button') : null;
    if (button !== null && document.activeElement === document.body) button.focus({ preventScroll: true });
  };
  const look = () => {
    const active = document.activeElement;
    const hasFallen = active === null || active === document.body || !isUsable(active);
    if (last === null || isUsable(last) || !hasFallen) return;
    last = null;
    next()?.focus({ preventScroll: true });
  };
  const watcher = new MutationObserver(look);
  watcher.observe(root, { subtree: true, childList: true, attributeFilter: ['disabled'] });
  root.addEventListener('focusin', remember);
  root.addEventListener('focusout', forget);
  root.addEventListener('click', take, true);
  return () => {
    watcher.disconnect();
    root.removeEventListener('focusin', remember);
    root.removeEventListener('focusout', forget);
    root.removeEventListener('click', take, true);
  };
}

/**
 * Keep the ring from what has the focus without having been gone to by Tab: around a whole view that was just opened, or
 * clicked, it frames all that is seen and points at nothing. Gives what ends that.
 */
export function ringByTabOnly(root: HTMLElement, isView: (element: Element) => boolean): () => void {
  let byTab = false;
  const listen = (event: Event) => (byTab = event instanceof KeyboardEvent && event.key === 'Tab');
  const mark = ({ target }: FocusEvent) => {
    if (target instanceof Element && isView(target)) target.toggleAttribute('data-no-ring', !byTab);
  };
  window.addEventListener('keydown', listen, true);
  window.addEventListener('pointerdown', listen, true);
  root.addEventListener('focusin', mark);
  return () => {
    window.removeEventListener('keydown', listen, true);
    window.removeEventListener('pointerdown', listen, true);
    root.removeEventListener('focusin', mark);
  };
}

function isUsable(element: Element): boolean {
  return element.isConnected && !element.matches(':disabled');
}

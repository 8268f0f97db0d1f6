// The keyboard's place: what has the focus may vanish or be disabled, and then it must not fall out of the page.

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

function isUsable(element: Element): boolean {
  return element.isConnected && !element.matches(':disabled');
}

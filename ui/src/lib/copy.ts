// Copying, also where the page's origin is not one that browsers trust with the clipboard.

export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

/** The way of before: what is selected in a field that nobody sees. */
function copySelected(text: string): boolean {
  const before = document.activeElement;
  const field = Object.assign(document.createElement('textarea'), { value: text, className: 'unseen' });
  document.body.append(field);
  field.select();
  let worked = false;
  try {
    // Deprecated, and all there is without a secure origin.
    worked = document.execCommand('copy');
  } catch {
    // Then it did not work.
  }
  field.remove();
  if (before instanceof HTMLElement) before.focus({ preventScroll: true });
  return worked;
}

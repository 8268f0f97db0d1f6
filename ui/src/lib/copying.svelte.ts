// A copy that was asked for: its button says for a moment what became of it.

import { copy } from './copy';

const SHOWN_MS = 2000;

export class Copying {
  #outcome = $state<boolean | null>(null);
  #timer = 0;

  async copy(text: string): Promise<boolean> {
    const worked = await copy(text);
    this.#outcome = worked;
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => (this.#outcome = null), SHOWN_MS);
    return worked;
  }

  /** What the button says, whose name is `name` otherwise. */
  label(name: string): string {
    if (this.#outcome === null) return name;
    return this.#outcome ? 'Copied' : 'Not copied';
  }
}

/** The same for a button that is no part of ours but of an answer's text. */
export async function copyFrom(button: Element, text: string): Promise<void> {
  button.textContent = (await copy(text)) ? 'Copied' : 'Not copied';
  setTimeout(() => (button.textContent = 'Copy'), SHOWN_MS);
}

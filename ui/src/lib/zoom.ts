// How large the app's window shows the page: by key, in steps, remembered.

import type { Host } from './host';

const KEPT = 'samovar.zoom';
/** In percent; 400 points at the last one are 133, which the page still fits into. */
const STEPS = [50, 67, 75, 80, 90, 100, 110, 125, 150, 175, 200, 250, 300];
const USUAL = STEPS.indexOf(100);

export class Zoom {
  constructor(
    private readonly host: Host,
    private readonly storage: Storage = localStorage,
  ) {}

  /** As it was the last time. */
  restore(): void {
    if (this.#step !== USUAL) this.#set(this.#step);
  }

  /** `false` where somebody else zooms. */
  change(how: 'in' | 'out' | 'reset'): boolean {
    if (this.host.zoom === null) return false;
    const step = how === 'reset' ? USUAL : this.#step + (how === 'in' ? 1 : -1);
    this.#set(Math.min(STEPS.length - 1, Math.max(0, step)));
    return true;
  }

  get #step(): number {
    const step = STEPS.indexOf(Number(this.storage.getItem(KEPT) ?? 100));
    return step < 0 ? USUAL : step;
  }

  #set(step: number): void {
    const percent = STEPS[step] ?? 100;
    try {
      this.storage.setItem(KEPT, String(percent));
    } catch {
      // It is not remembered, then.
    }
    // What fails here is seen: nothing changes.
    void this.host.zoom?.(percent / 100).catch(() => undefined);
  }
}

// What the buttons do that lead out of a condition.

import type { Offer } from './kinds';
import type { Server } from './server.svelte';

/** `null` where it cannot be done from here. */
export function offered(server: Server, offer: Offer): (() => Promise<void>) | null {
  const { client, host } = server;
  switch (offer) {
    case 'retry':
      return () => host.retryLoad();
    case 'open_logs':
      return host.openLogs;
    case 'quit_now':
      return () => host.quitNow();
    case 'cancel_quit':
      return () => host.cancelQuit();
    case 'pause_now':
      return () => client.post('/admin/drain?wait=false', { timeout_s: 0 });
    case 'resume':
      return () => client.post('/admin/resume');
  }
}

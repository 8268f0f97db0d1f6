import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: 'dist',
    // The page's policy admits no inline script, and the polyfill is one.
    modulePreload: { polyfill: false },
    // Safari of macOS 13 and the WebKit of Debian 12.
    target: ['safari16', 'chrome109'],
    // An inlined image would be a second way in.
    assetsInlineLimit: 0,
  },
  test: {
    projects: [
      {
        extends: true,
        resolve: { conditions: ['browser'] },
        test: {
          name: 'unit',
          environment: 'jsdom',
          include: ['tests/**/*.test.ts'],
          setupFiles: ['tests/setup.ts'],
          // One page for all files: making one costs more than all tests together.
          isolate: false,
          poolOptions: { threads: { singleThread: true } },
          pool: 'threads',
          // Only so that a hang ends; nothing is measured.
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'browser',
          environment: 'node',
          include: ['browser/**/*.test.ts'],
          // Only so that a hang ends; nothing is measured. One server and one browser at a time.
          testTimeout: 240_000,
          hookTimeout: 240_000,
          pool: 'forks',
          poolOptions: { forks: { singleFork: true } },
        },
      },
    ],
  },
});

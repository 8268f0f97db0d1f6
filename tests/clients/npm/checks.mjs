// What the clients' scripts for Node have in common; checks.py is the same for Python, and says what the servers are.

import { readFileSync } from "node:fs";

export const [STARTER, SCRIPTED] = process.argv.slice(2, 4).map((address) => address.replace(/\/$/, ""));

// No answer takes that long, on a busy machine and in a debug build either: what does is a hang.
const HANG_MS = 180_000;
const words = JSON.parse(readFileSync(new URL("../words.json", import.meta.url), "utf8"));
export const [SYSTEM, QUESTION, LONG] = [words.system, words.question, words.long];
export const CAPITAL = [
  { role: "system", content: SYSTEM },
  { role: "user", content: QUESTION },
];
export const [TOOL, TOOL_SAYS, SCRIPTED_TOLD] = [words.tool, words.tool_says, words.scripted_told];
export const WEATHER_QUESTION = words.weather_question;

export function assert(isSo, what) {
  if (!isSo) throw new Error(typeof what === "string" ? what : JSON.stringify(what));
}

/** A request of this script's own, to routes that no client has. */
export async function ask(address, path, body) {
  const json = { "content-type": "application/json" };
  const asked = body ? { method: "POST", headers: json, body: JSON.stringify(body) } : {};
  const response = await fetch(address + path, { ...asked, signal: AbortSignal.timeout(HANG_MS) });
  if (!response.ok) throw Object.assign(new Error(`${path}: ${response.status}`), { status: response.status });
  return response.json();
}

/** What `happened` gives, as soon as that is true. */
async function until(what, happened) {
  const deadline = Date.now() + HANG_MS;
  for (;;) {
    const result = await happened();
    if (result) return result;
    assert(Date.now() < deadline, `it never came that ${what}`);
    await new Promise((go) => setTimeout(go, 20));
  }
}

export function modelOf(address) {
  return until("the model is ready", async () => {
    try {
      await ask(address, "/health/ready");
      return (await ask(address, "/v1/models")).data[0]?.id;
    } catch (error) {
      if (!error.status) throw error;
    }
  });
}

/** How many POSTs were answered with one of these. */
async function countRefused(address, statuses) {
  const page = await (await fetch(address + "/metrics")).text();
  return page
    .split("\n")
    .filter((line) => line.startsWith('samovar_http_requests_total{method="POST"'))
    .filter((line) => statuses.some((status) => line.includes(`status="${status}"`)))
    .reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

/** An answer that goes on until its controller aborts it. */
async function openLongAnswer(address) {
  const controller = new AbortController();
  const response = await fetch(address + "/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    // Until the context is full.
    body: JSON.stringify({ messages: [{ role: "user", content: LONG }], stream: true, ignore_eos: true }),
    signal: controller.signal,
  });
  if (!response.ok) {
    await response.text();
    return response.status;
  }
  await response.body.getReader().read();
  return controller;
}

async function isIdle(address) {
  const { running, waiting, active } = await ask(address, "/admin/status");
  return running === 0 && waiting === 0 && active.length === 0;
}

/** Relieves the server as soon as one more request was refused, which must come of `within`. */
async function untilRefused(address, statuses, relieve, within) {
  const before = await countRefused(address, statuses);
  let left = false;
  const watching = (async () => {
    while (!left && (await countRefused(address, statuses)) === before) await new Promise((go) => setTimeout(go, 20));
    await relieve();
  })();
  try {
    await within();
  } finally {
    left = true;
    await watching;
    await until("the server is idle", () => isIdle(address));
  }
  assert((await countRefused(address, statuses)) > before, "nothing was refused");
}

/** The server drains, and takes requests again as soon as it has refused one (503, and 529 in Anthropic's API). */
export async function drainingUntilRefused(address, within) {
  const answer = await openLongAnswer(address);
  const relieve = async () => {
    answer.abort();
    await ask(address, "/admin/resume", {});
  };
  await ask(address, "/admin/drain?wait=false", { timeout_s: 2 });
  await untilRefused(address, ["503", "529"], relieve, within);
}

/** The server has as many requests as it takes, until it has refused one (429, and 529 in Anthropic's API). */
export async function fullUntilRefused(address, within) {
  const answers = [];
  for (;;) {
    const answer = await openLongAnswer(address);
    if (answer === 429) break;
    answers.push(answer);
  }
  await untilRefused(address, ["429", "529"], () => answers.forEach((answer) => answer.abort()), within);
}

/** An answer that is left in `within` must have been cancelled, and the server be idle. */
export async function cancelled(address, within) {
  const count = async () => (await ask(address, "/admin/status")).totals.cancelled;
  const before = await count();
  await within();
  await until("the server is idle", () => isIdle(address));
  assert((await count()) > before, "the answer went on to its end");
}

/** That `within` raises what `isWanted` is true of, which is returned. */
export async function raises(isWanted, within) {
  try {
    await within();
  } catch (error) {
    if (isWanted(error)) return error;
    throw error;
  }
  throw new Error("nothing was raised");
}

/** Runs every check, each of which says its own; the process ends with 1 if one failed. */
export async function main(checks) {
  await Promise.all([STARTER, SCRIPTED].map(modelOf));
  let failed = 0;
  for (const check of checks) {
    const began = Date.now();
    try {
      await check();
      console.log(`ok      ${check.name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${check.name}:`, error);
    }
  }
  console.log(`${checks.length - failed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

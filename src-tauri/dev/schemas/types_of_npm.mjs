// JSON schemas of ordinary types as the AI SDK, OpenAI's library for JavaScript and LangChain's write them into requests,
// one JSON object a line. See README.md.

import { asSchema, jsonSchema, Output } from "ai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { convertToOpenAITool } from "@langchain/core/utils/function_calling";
import { tool } from "@langchain/core/tools";
import { z } from "zod";

const place = z.object({
  name: z.string().describe("its name"),
  latitude: z.number().min(-90).max(90),
  longitude: z.number().min(-180).max(180),
  tags: z.array(z.string()).max(5),
});
const step = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("email"), to: z.email(), subject: z.string() }),
  z.object({ kind: z.literal("call"), number: z.string().regex(/^\+[0-9]{6,15}$/) }),
]);
const types = {
  place,
  plan: z.object({ steps: z.array(step).min(1), note: z.union([z.string(), z.number()]).nullable() }),
  tree: z.object({ value: z.string(), get children() { return z.array(types.tree); } }),
  unicode: z.object({ größe: z.number(), "名前": z.string(), "with space": z.boolean() }),
  choice: z.enum(["red", "green", "blue"]),
  when: z.object({ at: z.iso.datetime(), day: z.iso.date().nullable(), id: z.uuid() }),
};

// Each schema once: many libraries write the same.
const said = new Set();
const say = (from, name, schema) => {
  const text = JSON.stringify(schema);
  if (!said.has(text)) console.log(JSON.stringify({ from, name, schema }));
  said.add(text);
};
const tried = async (from, name, make) => {
  try {
    say(from, name, await make());
  } catch (error) {
    console.error(`${from} ${name}: ${error.message}`);
  }
};

for (const [name, type] of Object.entries(types)) {
  await tried("ai-sdk", `${name} tool`, async () => await asSchema(type).jsonSchema);
  if (name !== "choice") {
    await tried("ai-sdk", `${name} format`, async () => (await Output.object({ schema: type }).responseFormat).schema);
    await tried("ai-sdk", `${name} list`, async () => (await Output.array({ element: type }).responseFormat).schema);
    await tried("openai-js", `${name} tool`, () => zodFunction({ name, parameters: type }).function.parameters);
    await tried("openai-js", `${name} format`, () => zodResponseFormat(type, name).json_schema.schema);
    await tried("langchain-js", `${name} tool`, () =>
      convertToOpenAITool(tool(() => "", { name, description: name, schema: type })).function.parameters);
  }
}
await tried("ai-sdk", "choice format", async () => (await Output.choice({ options: ["sun", "rain"] }).responseFormat).schema);
await tried("ai-sdk", "own schema", async () =>
  await jsonSchema({ type: "object", properties: { a: { type: ["string", "null"] } }, required: ["a"], additionalProperties: false }).jsonSchema);

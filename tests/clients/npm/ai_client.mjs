// What a user of the AI SDK relies on, through each of its providers that speaks one of this server's APIs.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, isStepCount, Output, RetryError, streamText, tool } from "ai";
import { z } from "zod";

import * as checks from "./checks.mjs";
import { assert, SCRIPTED, STARTER } from "./checks.mjs";

// It would warn at each answer that it does not know how long those of this model may be.
globalThis.AI_SDK_LOG_WARNINGS = false;

/** A server's model in each API. */
function modelsOf(address, id) {
  const at = { baseURL: `${address}/v1`, apiKey: "not-needed" };
  return {
    chat: createOpenAI(at).chat(id),
    responses: createOpenAI(at).responses(id),
    compatible: createOpenAICompatible({ ...at, name: "samovar", includeUsage: true, supportsStructuredOutputs: true })(id),
    messages: createAnthropic(at)(id),
  };
}
const starter = modelsOf(STARTER, await checks.modelOf(STARTER));
const scripted = modelsOf(SCRIPTED, await checks.modelOf(SCRIPTED));

const capital = { instructions: checks.SYSTEM, prompt: checks.QUESTION, maxOutputTokens: 32, temperature: 0 };
const City = z.object({
  name: z.enum(["Paris", "Rome", "Vienna"]),
  isCapital: z.boolean(),
  river: z.enum(["Seine", "Tiber", "Danube"]).nullable(),
});
const inputSchema = z.object({ city: z.enum(["Paris", "Rome"]) });
const description = "Tells the weather";

/** `check` with each model, by the name of its API. */
async function withEach(models, check) {
  for (const [api, model] of Object.entries(models)) {
    try {
      await check(model);
    } catch (error) {
      throw new Error(`with ${api}`, { cause: error });
    }
  }
}

async function a_chat_names_paris_streamed_and_whole() {
  await withEach(starter, async (model) => {
    const { text, finishReason } = await generateText({ model, ...capital });
    assert(text.includes("Paris") && finishReason === "stop", [text, finishReason]);
    const stream = streamText({ model, ...capital });
    let streamed = "";
    for await (const piece of stream.textStream) streamed += piece;
    assert(streamed === text && (await stream.usage).outputTokens > 0, streamed);
  });
}

async function a_tool_that_must_be_called_is_called() {
  await withEach(starter, async (model) => {
    const { toolCalls } = await generateText({
      model,
      prompt: checks.WEATHER_QUESTION,
      tools: { [checks.TOOL]: tool({ description, inputSchema }) },
      toolChoice: { type: "tool", toolName: checks.TOOL },
      maxOutputTokens: 200,
    });
    assert(toolCalls.length === 1 && inputSchema.parse(toolCalls[0].input), toolCalls);
  });
}

async function a_model_that_chooses_is_run_with_its_tools_streamed_and_whole() {
  const getWeather = tool({ description, inputSchema, execute: async () => checks.TOOL_SAYS });
  await withEach(scripted, async (model) => {
    const asked = {
      model,
      prompt: checks.WEATHER_QUESTION,
      tools: { [checks.TOOL]: getWeather },
      stopWhen: isStepCount(3),
    };
    const whole = await generateText(asked);
    assert(whole.text === checks.SCRIPTED_TOLD && whole.steps.length === 2, whole.steps);
    assert((await streamText(asked).text) === checks.SCRIPTED_TOLD, "streamed");
  });
}

async function an_answer_is_read_into_a_type() {
  await withEach(starter, async (model) => {
    const asked = { model, prompt: checks.QUESTION, output: Output.object({ schema: City }), maxOutputTokens: 200 };
    City.parse((await generateText(asked)).output);
  });
}

async function errors_are_of_the_right_class() {
  await withEach(modelsOf(STARTER, "no-such-model"), async (model) => {
    const error = await checks.raises(APICallError.isInstance, () => generateText({ model, ...capital, maxRetries: 0 }));
    assert(error.statusCode === 404 && !error.isRetryable && error.message.includes("no-such-model"), error);
  });
  // Its provider of Anthropic's API sends no temperature that is too high.
  const { chat, responses, compatible } = starter;
  await withEach({ chat, responses, compatible }, async (model) => {
    const tooHot = () => generateText({ model, ...capital, temperature: 9, maxRetries: 0 });
    const error = await checks.raises(APICallError.isInstance, tooHot);
    assert(error.statusCode === 400 && !error.isRetryable && error.responseBody.includes("temperature"), error);
  });
  const once = () => generateText({ model: starter.chat, ...capital, maxRetries: 0 });
  for (const [refusing, status] of [
    [checks.fullUntilRefused, 429],
    [checks.drainingUntilRefused, 503],
  ]) {
    await refusing(STARTER, async () => {
      const error = await checks.raises((e) => APICallError.isInstance(e) || RetryError.isInstance(e), once);
      assert(error.statusCode === status && error.isRetryable, error);
    });
  }
}

async function what_is_refused_for_a_while_is_tried_again() {
  for (const refusing of [checks.drainingUntilRefused, checks.fullUntilRefused]) {
    await withEach({ chat: starter.chat, messages: starter.messages }, (model) =>
      refusing(STARTER, async () => {
        const { text } = await generateText({ model, ...capital });
        assert(text.includes("Paris"), text);
      }),
    );
  }
}

async function a_stream_that_is_aborted_is_cancelled() {
  await withEach(starter, (model) =>
    checks.cancelled(STARTER, async () => {
      const controller = new AbortController();
      const asked = { model, prompt: checks.LONG, maxOutputTokens: 4000, abortSignal: controller.signal };
      for await (const piece of streamText(asked).textStream) if (piece) controller.abort();
    }),
  );
}

await checks.main([
  a_chat_names_paris_streamed_and_whole,
  a_tool_that_must_be_called_is_called,
  a_model_that_chooses_is_run_with_its_tools_streamed_and_whole,
  an_answer_is_read_into_a_type,
  errors_are_of_the_right_class,
  what_is_refused_for_a_while_is_tried_again,
  a_stream_that_is_aborted_is_cancelled,
]);

// What a user of the official OpenAI client for Node relies on.

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import * as checks from "./checks.mjs";
import { assert, CAPITAL, SCRIPTED, STARTER } from "./checks.mjs";

const clientOf = (address) => new OpenAI({ baseURL: `${address}/v1`, apiKey: "not-needed" });
const client = clientOf(STARTER);
const once = client.withOptions({ maxRetries: 0 });
const model = await checks.modelOf(STARTER);
const scripted = { client: clientOf(SCRIPTED), model: await checks.modelOf(SCRIPTED) };

const greedy = { model, messages: CAPITAL, temperature: 0, max_completion_tokens: 32 };
const City = z.object({
  name: z.enum(["Paris", "Rome", "Vienna"]),
  isCapital: z.boolean(),
  river: z.enum(["Seine", "Tiber", "Danube"]).nullable(),
});
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};
const weather = { name: checks.TOOL, description: "Tells the weather", parameters, strict: true };
const tools = [{ type: "function", function: weather }];
const asked = [{ role: "user", content: checks.WEATHER_QUESTION }];
const getWeather = ({ city }) => {
  assert(city === "Paris", city);
  return checks.TOOL_SAYS;
};

async function a_chat_names_paris_streamed_and_whole() {
  const whole = await client.chat.completions.create(greedy);
  const text = whole.choices[0].message.content;
  assert(text.includes("Paris") && whole.choices[0].finish_reason === "stop", whole);
  const stream = await client.chat.completions.create({
    ...greedy,
    stream: true,
    stream_options: { include_usage: true },
  });
  let [streamed, usage] = ["", null];
  for await (const chunk of stream) {
    streamed += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert(streamed === text && usage.completion_tokens === whole.usage.completion_tokens, [streamed, usage]);
}

async function a_response_names_paris_streamed_and_whole() {
  const ask = { model, instructions: checks.SYSTEM, input: checks.QUESTION, temperature: 0, max_output_tokens: 32 };
  const whole = await client.responses.create(ask);
  assert(whole.output_text.includes("Paris"), whole);
  const streamed = await client.responses.stream(ask).finalResponse();
  assert(streamed.output_text === whole.output_text, streamed);
}

async function a_tool_that_must_be_called_is_called_and_its_result_taken() {
  const choice = { type: "function", function: { name: checks.TOOL } };
  const forced = { tools, tool_choice: choice };
  const first = await client.chat.completions.create({ model, messages: asked, ...forced });
  const { message, finish_reason } = first.choices[0];
  assert(finish_reason === "tool_calls" && message.tool_calls.length === 1, first);
  const [call] = message.tool_calls;
  assert(["Paris", "Rome"].includes(JSON.parse(call.function.arguments).city), call);
  const result = { role: "tool", tool_call_id: call.id, content: checks.TOOL_SAYS };
  const messages = [...asked, message, result];
  const then = await client.chat.completions.create({ model, messages, tools, tool_choice: "none", max_tokens: 16 });
  assert(then.choices[0].message.content, then);
}

async function a_model_that_chooses_is_run_with_its_tools_streamed_and_whole() {
  const { client, model } = scripted;
  const runnable = [{ type: "function", function: { ...weather, function: getWeather, parse: JSON.parse } }];
  for (const stream of [true, false]) {
    const runner = client.chat.completions.runTools({ model, messages: asked, tools: runnable, stream });
    assert((await runner.finalContent()) === checks.SCRIPTED_TOLD, runner.messages);
  }
}

async function an_answer_is_read_into_a_type() {
  const response_format = zodResponseFormat(City, "city");
  const chat = await client.chat.completions.parse({ model, messages: CAPITAL, max_tokens: 200, response_format });
  City.parse(chat.choices[0].message.parsed);
  const text = { format: zodTextFormat(City, "city") };
  const response = await client.responses.parse({ model, input: checks.QUESTION, max_output_tokens: 200, text });
  City.parse(response.output_parsed);
}

async function errors_are_of_the_right_class() {
  const create = (more) => () => once.chat.completions.create({ ...greedy, ...more });
  const bad = await checks.raises((e) => e instanceof OpenAI.BadRequestError, create({ temperature: 9 }));
  assert(bad.param === "temperature", bad);
  const unknown = await checks.raises((e) => e instanceof OpenAI.NotFoundError, create({ model: "no-such-model" }));
  assert(unknown.code === "model_not_found", unknown);
  await checks.fullUntilRefused(STARTER, () => checks.raises((e) => e instanceof OpenAI.RateLimitError, create({})));
  await checks.drainingUntilRefused(STARTER, () =>
    checks.raises((e) => e instanceof OpenAI.InternalServerError && e.status === 503, create({})),
  );
}

async function what_is_refused_for_a_while_is_tried_again() {
  for (const refusing of [checks.drainingUntilRefused, checks.fullUntilRefused]) {
    await refusing(STARTER, async () => {
      const answer = await client.chat.completions.create(greedy);
      assert(answer.choices[0].message.content.includes("Paris"), answer);
    });
  }
}

async function a_stream_that_is_aborted_is_cancelled() {
  await checks.cancelled(STARTER, async () => {
    const messages = [{ role: "user", content: checks.LONG }];
    const stream = await client.chat.completions.create({ model, messages, max_tokens: 4000, stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    stream.controller.abort();
  });
}

await checks.main([
  a_chat_names_paris_streamed_and_whole,
  a_response_names_paris_streamed_and_whole,
  a_tool_that_must_be_called_is_called_and_its_result_taken,
  a_model_that_chooses_is_run_with_its_tools_streamed_and_whole,
  an_answer_is_read_into_a_type,
  errors_are_of_the_right_class,
  what_is_refused_for_a_while_is_tried_again,
  a_stream_that_is_aborted_is_cancelled,
]);

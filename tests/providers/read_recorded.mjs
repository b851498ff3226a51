// Reads recorded providers through a relay with the npm `openai` package: rows in on stdin, one line
// of what was seen per row out.
import { createInterface } from "node:readline";
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.BASE_URL,
  apiKey: process.env.KEY,
  maxRetries: 0,
  timeout: 30_000,
});

const textOf = (content) =>
  Array.isArray(content)
    ? content.filter((part) => part.type === "text").map((part) => part.text ?? "").join("")
    : (content ?? "");

const told = (usage) =>
  usage ? [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens] : null;

async function readWhole(asked) {
  const answer = await client.chat.completions.create(asked);
  const choice = answer.choices[0];
  return {
    text: textOf(choice.message.content),
    finish_reason: choice.finish_reason,
    tool_calls: (choice.message.tool_calls ?? []).map((call) => ({
      name: call.function.name,
      arguments: call.function.arguments,
    })),
    usage: told(answer.usage),
  };
}

async function readStream(asked) {
  const seen = { text: "", finish_reason: null, usage: null };
  const calls = new Map();
  try {
    for await (const chunk of await client.chat.completions.create(asked)) {
      seen.usage = told(chunk.usage) ?? seen.usage;
      for (const choice of chunk.choices ?? []) {
        if (choice.index) continue;
        seen.finish_reason = choice.finish_reason ?? seen.finish_reason;
        seen.text += textOf(choice.delta?.content);
        for (const piece of choice.delta?.tool_calls ?? []) {
          const call = calls.get(piece.index) ?? { name: "", arguments: "" };
          call.name += piece.function?.name ?? "";
          call.arguments += piece.function?.arguments ?? "";
          calls.set(piece.index, call);
        }
      }
    }
  } catch (error) {
    seen.failure = failureOf(error);
  }
  return { ...seen, tool_calls: [...calls.values()] };
}

const failureOf = (error) => ({
  status: error.status ?? null,
  message: String(error.message),
  code: error.code ?? null,
  param: error.param ?? null,
  type: error.type ?? null,
});

async function read(row) {
  try {
    if (row.endpoint === "embeddings") {
      const answer = await client.embeddings.create(row.asked);
      return { vectors: answer.data.length };
    }
    return await (row.asked.stream ? readStream : readWhole)(row.asked);
  } catch (error) {
    return { failure: failureOf(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await read(JSON.parse(line))));
}

// A conversation through the relay, streamed, with what it took and cost.

const form = document.getElementById("chat");
const talk = document.getElementById("talk");
const figures = document.getElementById("figures");
const snippet = document.getElementById("snippet");
const stop = document.getElementById("stop");
let messages = [];
let language = "curl";
let running = null;

function said(role, text) {
  const place = document.createElement("div");
  place.className = `said ${role}`;
  place.textContent = text;
  talk.append(place);
  return place;
}

function body(content) {
  const asked = { model: form.model.value, messages: [...messages] };
  if (content !== undefined) asked.messages.push({ role: "user", content });
  if (form.effort.value) asked.reasoning_effort = form.effort.value;
  if (Number(form.limit.value) > 0) asked.max_completion_tokens = Number(form.limit.value);
  return asked;
}

function show() {
  const text = form.message.value || "Hello";
  const asked = body(text);
  const url = `${form.dataset.origin}/v1`;
  const json = JSON.stringify(asked, null, 2);
  const quoted = json.replaceAll("'", "'\\''");
  snippet.textContent = {
    curl: `curl ${url}/chat/completions \\\n  -H "Authorization: Bearer $MERINO_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${quoted}'`,
    python: `from openai import OpenAI\n\nclient = OpenAI(base_url="${url}", api_key="mk-...")\nanswer = client.chat.completions.create(**${pythonic(asked)})\nprint(answer.choices[0].message.content)`,
    node: `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${url}", apiKey: process.env.MERINO_API_KEY });\nconst answer = await client.chat.completions.create(${json});\nconsole.log(answer.choices[0].message.content);`,
  }[language];
}

function pythonic(value, indent = "") {
  const more = indent + "    ";
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) return `[\n${value.map((v) => more + pythonic(v, more)).join(",\n")}\n${indent}]`;
  if (typeof value === "object") {
    const parts = Object.entries(value).map(([k, v]) => `${more}${JSON.stringify(k)}: ${pythonic(v, more)}`);
    return `{\n${parts.join(",\n")}\n${indent}}`;
  }
  return JSON.stringify(value);
}

for (const button of document.querySelectorAll("[data-code]")) {
  button.addEventListener("click", () => {
    language = button.dataset.code;
    for (const each of document.querySelectorAll("[data-code]")) {
      each.setAttribute("aria-pressed", String(each === button));
    }
    show();
  });
}
form.addEventListener("input", show);
show();

document.getElementById("again").addEventListener("click", () => {
  running?.abort();
  messages = [];
  talk.replaceChildren();
  figures.textContent = "";
  show();
});
stop.addEventListener("click", () => running?.abort());

form.message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running) return;
  const text = form.message.value;
  const picture = await read(form.image.files[0]);
  const content = picture
    ? [{ type: "text", text }, { type: "image_url", image_url: { url: picture } }]
    : text;
  const mine = said("user", text);
  if (picture) {
    const image = document.createElement("img");
    image.src = picture;
    image.alt = "the picture sent";
    mine.append(image);
  }
  const asked = { ...body(content), stream: true, stream_options: { include_usage: true } };
  form.message.value = "";
  form.image.value = "";
  const place = said("assistant", "");
  running = new AbortController();
  stop.hidden = false;
  const began = performance.now();
  const seen = { first: 0, usage: null, cost: "", id: "", text: "" };
  try {
    const answer = await fetch(form.dataset.url, {
      method: "POST",
      headers: { "content-type": "application/json", "x-csrf": form.dataset.csrf, "x-key": form.key.value },
      body: JSON.stringify(asked),
      signal: running.signal,
    });
    seen.id = answer.headers.get("x-request-id") ?? "";
    if (!answer.ok) {
      const problem = await answer.json().catch(() => ({}));
      throw new Error(problem.error?.message ?? `status ${answer.status}`);
    }
    for await (const line of lines(answer.body)) hear(line, seen, place, began);
    messages.push({ role: "user", content }, { role: "assistant", content: seen.text });
    if (!seen.text) place.textContent = "(an empty answer: the tokens went into thinking)";
  } catch (error) {
    if (error.name === "AbortError") {
      place.textContent += " (stopped)";
    } else {
      place.className = "said error";
      place.textContent = error.message;
    }
  } finally {
    running = null;
    stop.hidden = true;
    report(seen, performance.now() - began);
    show();
  }
});

function hear(line, seen, place, began) {
  if (line.startsWith(": x-merino-cost:")) seen.cost = line.split(":").pop().trim();
  if (!line.startsWith("data:")) return;
  const payload = line.slice(5).trim();
  if (payload === "[DONE]") return;
  const event = JSON.parse(payload);
  if (event.error) throw new Error(event.error.message);
  if (event.usage) seen.usage = event.usage;
  const piece = event.choices?.[0]?.delta?.content;
  if (piece) {
    seen.first ||= performance.now() - began;
    seen.text += piece;
    place.textContent = seen.text;
  }
}

function report(seen, whole) {
  const parts = [];
  if (seen.usage) {
    const thought = seen.usage.completion_tokens_details?.reasoning_tokens ?? 0;
    parts.push(`${seen.usage.prompt_tokens} input and ${seen.usage.completion_tokens} output tokens (${thought} reasoning)`);
  }
  if (seen.cost) parts.push(`cost ${seen.cost}`);
  if (seen.first) parts.push(`first token after ${Math.round(seen.first)} ms`);
  parts.push(`${Math.round(whole)} ms in all`);
  figures.textContent = parts.join(" · ");
  if (seen.id) {
    const link = document.createElement("a");
    link.href = form.dataset.calls + encodeURIComponent(seen.id);
    link.textContent = "the call";
    figures.append(" · ", link);
  }
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
  if (rest) yield rest;
}

function read(file) {
  if (!file) return Promise.resolve("");
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("the picture cannot be read"));
    reader.readAsDataURL(file);
  });
}

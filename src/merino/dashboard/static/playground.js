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

// What else is sent, from the field for it; null if that is no JSON object.
function more() {
  if (!form.more.value.trim()) return {};
  try {
    const found = JSON.parse(form.more.value);
    return found && typeof found === "object" && !Array.isArray(found) ? found : null;
  } catch {
    return null;
  }
}

function body(content) {
  if (form.api.value === "responses") return response(content);
  const system = form.system.value.trim() ? [{ role: "system", content: form.system.value }] : [];
  const asked = { ...more(), model: form.model.value, messages: [...system, ...messages] };
  if (content !== undefined) asked.messages.push({ role: "user", content });
  if (form.effort.value) asked.reasoning_effort = form.effort.value;
  if (Number(form.limit.value) > 0) asked.max_completion_tokens = Number(form.limit.value);
  return asked;
}

function response(content) {
  const said = content === undefined ? messages : [...messages, { role: "user", content }];
  const asked = { store: false, ...more(), model: form.model.value };
  if (form.system.value.trim()) asked.instructions = form.system.value;
  asked.input = said.map((each) => each.role ? { ...each, content: parts(each.content) } : each);
  if (form.effort.value) asked.reasoning = { effort: form.effort.value };
  if (Number(form.limit.value) > 0) asked.max_output_tokens = Number(form.limit.value);
  return asked;
}

function parts(content) {
  if (typeof content === "string") return content;
  return content.map((each) => {
    if (each.type === "text") return { type: "input_text", text: each.text };
    if (each.type !== "image_url") return each;
    return { type: "input_image", image_url: each.image_url.url, detail: "auto" };
  });
}

function show() {
  const text = form.message.value || "Hello";
  const asked = body(text);
  const url = `${form.dataset.origin}/v1`;
  const json = JSON.stringify(asked, null, 2);
  const quoted = json.replaceAll("'", "'\\''");
  const isResponse = form.api.value === "responses";
  const call = isResponse ? "responses.create" : "chat.completions.create";
  const textOf = isResponse ? "answer.output_text" : "answer.choices[0].message.content";
  snippet.textContent = {
    curl: `curl ${url}/${form.api.value} \\\n  -H "Authorization: Bearer $MERINO_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${quoted}'`,
    python: `from openai import OpenAI\n\nclient = OpenAI(base_url="${url}", api_key="mk-...")\nanswer = client.${call}(**${pythonic(asked)})\nprint(${textOf})`,
    node: `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${url}", apiKey: process.env.MERINO_API_KEY });\nconst answer = await client.${call}(${json});\nconsole.log(${textOf});`,
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
form.addEventListener("input", () => {
  form.more.setCustomValidity(more() === null ? "This is no JSON object." : "");
  show();
});
if (form.dataset.body) begin(JSON.parse(form.dataset.body));
show();

// As a call of before was asked: what was said last stands in the field, to be changed.
function begin(asked) {
  const { model: _, messages: spoken, input, stream: _s, stream_options: _o, ...rest } = asked;
  const limit = rest.max_completion_tokens ?? rest.max_tokens ?? rest.max_output_tokens;
  const effort = rest.reasoning_effort ?? rest.reasoning?.effort;
  if (limit) form.limit.value = limit;
  if (effort && [...form.effort.options].some((each) => each.value === effort)) {
    form.effort.value = effort;
    delete rest.reasoning_effort;
    if (rest.reasoning && Object.keys(rest.reasoning).length === 1) delete rest.reasoning;
  }
  for (const name of ["max_completion_tokens", "max_tokens", "max_output_tokens"]) delete rest[name];
  let items = spoken ?? input ?? [];
  if (typeof items === "string") items = [{ role: "user", content: items }];
  const instructions = rest.instructions;
  delete rest.instructions;
  const [head] = items;
  if (typeof instructions === "string") form.system.value = instructions;
  else if (head && ["system", "developer"].includes(head.role) && typeof head.content === "string") {
    form.system.value = head.content;
    items = items.slice(1);
  }
  const last = items.at(-1);
  if (last?.role === "user" && typeof last.content === "string") {
    form.message.value = last.content;
    items = items.slice(0, -1);
  }
  messages = items;
  for (const each of items) said(each.role ?? "tool", textOf(each));
  if (Object.keys(rest).length) form.more.value = JSON.stringify(rest, null, 2);
  document.getElementById("p-more-part").open = Boolean(form.more.value || form.system.value);
}

function textOf(item) {
  if (typeof item.content === "string") return item.content;
  if (!Array.isArray(item.content)) return JSON.stringify(item, null, 2);
  return item.content.map((each) => each.text ?? `(${each.type})`).join("\n");
}

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
  const asked = { ...body(content), stream: true };
  const api = form.api.value;
  if (api !== "responses") asked.stream_options = { include_usage: true };
  form.message.value = "";
  form.image.value = "";
  const place = said("assistant", "");
  running = new AbortController();
  stop.hidden = false;
  const began = performance.now();
  const seen = { first: 0, usage: null, cost: "", id: "", text: "" };
  try {
    const answer = await fetch(`${form.dataset.url}?api=${encodeURIComponent(api)}`, {
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
  if (event.type === "error") throw new Error(event.message);
  if (event.type === "response.failed") throw new Error(event.response.error?.message ?? "it failed");
  if (event.usage) seen.usage = event.usage;
  if (event.response?.usage) seen.usage = event.response.usage;
  const piece = event.type === "response.output_text.delta"
    ? event.delta
    : event.choices?.[0]?.delta?.content;
  if (piece) {
    seen.first ||= performance.now() - began;
    seen.text += piece;
    place.textContent = seen.text;
  }
}

function report(seen, whole) {
  const told = [];
  if (seen.usage) {
    const used = seen.usage;
    const details = used.output_tokens_details ?? used.completion_tokens_details;
    const [into, out] = [used.input_tokens ?? used.prompt_tokens, used.output_tokens ?? used.completion_tokens];
    told.push(`${into} input and ${out} output tokens (${details?.reasoning_tokens ?? 0} reasoning)`);
  }
  const sign = form.key.selectedOptions[0]?.dataset.sign ?? "";
  if (seen.cost) told.push(`cost ${sign}${seen.cost}`);
  if (seen.first) told.push(`first token after ${Math.round(seen.first)} ms`);
  told.push(`${Math.round(whole)} ms in all`);
  figures.textContent = told.join(" · ");
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

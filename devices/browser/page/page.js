// The page: polls the server for questions, lets a worker answer each, posts the answers, and shows the progress.

import { stepNs } from "./clock.js";

const CLIENT = Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
const ALIVE_MS = 1000;
const RETRIES = 5; // attempts of a failed request, one second apart
const KEPT_BYTES = 256 * 2 ** 20; // of cached files, so that a model is not downloaded again for every question

const show = (id, text) => { document.getElementById(id).textContent = text; };
const at = (path) => `${path}?client=${CLIENT}`;
const wait = (ms) => new Promise((go) => setTimeout(go, ms));

async function main() {
  const runtime = await (await fetch("ort/ort-wasm-simd-threaded.wasm")).arrayBuffer();
  const facts = await ours();
  shownFacts(facts);
  await post("hello", facts);
  beat = setInterval(alive, ALIVE_MS);
  addEventListener("pagehide", bye);
  show("state", "Connected. Waiting for the first question; keep this page open and in front.");
  for (;;) {
    const question = await next();
    if (question === null) continue;
    if (question.verb === "end") break;
    progressed(question);
    await post("answer", { id: question.id, ...(await answered(question, runtime)) });
    if (question.verb === "show") tabled(question);
  }
  clearInterval(beat);
  removeEventListener("pagehide", bye);
  show("state", "Done. This page can be closed.");
  document.getElementById("bar").hidden = true;
  show("about", "");
}

let beat = null;
const bye = () => navigator.sendBeacon(at("bye"));

// Report to the server that this page is alive, and stop the worker if the measurement has ended.
async function alive() {
  const reply = await fetch(at("alive"), { method: "POST" }).catch(() => null);
  if (reply?.status === 410) stop?.();
}

async function next() {
  const reply = await asked(() => fetch(at("next"), { cache: "no-store" }));
  if (reply.status === 204) return null;
  if (!reply.ok) throw new Error(await reply.text());
  return reply.json();
}

async function post(path, value) {
  const body = JSON.stringify(value), headers = { "Content-Type": "application/json" };
  const reply = await asked(() => fetch(at(path), { method: "POST", headers, body }));
  if (!reply.ok) throw new Error(await reply.text());
}

async function asked(request) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await request();
    } catch (error) {
      if (attempt === RETRIES) throw new Error(`the edgefc server cannot be reached (${error.message})`);
      await wait(1000);
    }
  }
}

// {answer} or {error, stage}, from a new worker.
async function answered(question, runtime) {
  if (question.verb === "show") return { answer: null };
  try {
    const models = [];
    for (const model of question.models) models.push(await fetched(model));
    const task = { ...question, runtime, models, null_model: await file(question.null_model) };
    return await worked(task);
  } catch (error) {
    return { error: String(error?.message ?? error).slice(0, 2000), stage: "start" };
  }
}

let stop = null; // ends the running worker

function worked(task) {
  const worker = new Worker("worker.js", { type: "module" });
  if (task.threads > 1) mute = true;
  return new Promise((done) => {
    stop = () => done({ error: "stopped", stage: "start" });
    worker.onerror = (event) => done({ error: event.message || "the worker did not start", stage: "start" });
    worker.onmessage = async ({ data }) => {
      if (data.ready) worker.postMessage(task);
      else if (data.stage && !data.error) worker.postMessage({ resume: true, page: await pageBytes(task) });
      else done(data);
    };
  }).finally(() => {
    stop = null;
    worker.terminate();
  });
}

// The memory of this page, its workers and their wasm, as the browser reports it; null if it does not.
// Chromium no longer reports it after a worker with waiting threads was terminated, so it is not requested then.
let mute = !(globalThis.crossOriginIsolated && performance.measureUserAgentSpecificMemory);

async function pageBytes({ page_memory_s }) {
  if (!page_memory_s || mute) return null;
  const measured = performance.measureUserAgentSpecificMemory().then(({ bytes }) => bytes, () => null);
  const bytes = await Promise.race([measured, wait(page_memory_s * 1000).then(() => null)]);
  mute = bytes === null;
  return bytes;
}

const kept = new Map();

async function fetched({ file: id, weights, index, feeds }) {
  const external = [];
  for (const { path, file: id } of weights) external.push({ path, bytes: await file(id) });
  return { bytes: await file(id), weights: external, index: index ?? [], values: feeds ? await file(feeds) : new ArrayBuffer(0) };
}

async function file(id) {
  if (!kept.has(id)) {
    const reply = await asked(() => fetch(`file/${id}`, { cache: "no-store" }));
    if (!reply.ok) throw new Error(`cannot download a file: HTTP status ${reply.status}`);
    kept.set(id, await reply.arrayBuffer());
  }
  const bytes = kept.get(id);
  kept.delete(id); // move to the end: the first entry is the least recently used
  kept.set(id, bytes);
  for (const [old, { byteLength }] of kept) {
    if (total() <= KEPT_BYTES || old === id) break;
    if (byteLength) kept.delete(old);
  }
  return bytes;
}

const total = () => [...kept.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);

// The facts that the browser reports about itself and the machine.
async function ours() {
  const data = navigator.userAgentData;
  const wanted = ["architecture", "bitness", "model", "platformVersion", "fullVersionList"];
  const high = await data?.getHighEntropyValues?.(wanted).catch(() => null);
  const brands = high?.fullVersionList ?? [];
  return {
    user_agent: navigator.userAgent, brands: brands.map(({ brand, version }) => `${brand} ${version}`),
    platform: data?.platform ?? null, platform_version: high?.platformVersion ?? null,
    architecture: high?.architecture ?? null, bitness: high?.bitness ?? null, model: high?.model ?? null,
    mobile: data?.mobile ?? null, cores: navigator.hardwareConcurrency ?? null,
    isolated: Boolean(globalThis.crossOriginIsolated), secure: isSecureContext, timer_step_ns: stepNs(),
  };
}

function shownFacts(facts) {
  const rows = {
    "Cores": facts.cores ?? "unknown",
    "Threads": facts.isolated ? "available" : "not available: this page is not in a secure context",
    "Clock": `steps of ${facts.timer_step_ns / 1000} us`,
    "Memory": facts.isolated && performance.measureUserAgentSpecificMemory ? "page and wasm heap" : "only the wasm heap",
  };
  for (const [name, value] of Object.entries(rows)) {
    for (const [tag, text] of [["dt", name], ["dd", value]]) added("facts", tag, text);
  }
}

function progressed({ verb, about, done }) {
  document.getElementById("bar").hidden = verb === "show";
  show("state", verb === "show" ? "Measured" : `Measuring: ${done} questions answered`);
  show("about", `${ACTIONS[verb] ?? verb}: ${about}`);
}

const ACTIONS = {
  inputs: "reading", load: "load and first run", memory: "memory", steady: "timing run after run", run: "running",
  show: "results",
};

function added(id, tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  (typeof id === "string" ? document.getElementById(id) : id).append(element);
  return element;
}

function tabled({ columns, rows, notes }) {
  const table = document.getElementById("result");
  table.replaceChildren();
  table.hidden = false;
  const head = added(table, "tr", "");
  for (const column of columns) added(head, "th", column);
  for (const row of rows) {
    const line = added(table, "tr", "");
    for (const cell of row) added(line, "td", cell);
  }
  document.getElementById("notes").replaceChildren();
  for (const note of notes) added("notes", "li", note);
}

main().catch((error) => {
  clearInterval(beat);
  bye();
  document.getElementById("state").classList.add("bad");
  show("state", `This page stopped: ${error.message}. Reload the page to continue.`);
});

// Answers one question in a new worker, and so with a new wasm heap. The Python probes use a new process instead.
//
// It receives {verb, runtime, threads, options, models, null_model, plan} and answers {answer} or {error, stage, model}.
// Answers have the form of the Python probes' answers (runtime/probes/contracts.py). Only this worker answers `inputs`.
// Between the stages of `memory` it posts {stage} and waits for the page, which alone can measure the browser's memory.

import { feedsOf, outputsOf } from "./arrays.js";
import { clock, stepNs } from "./clock.js";
import { timeModels } from "./steady.js";

let heap = null; // onnxruntime's memory; it does not expose the object, so the constructor is wrapped
const Memory = WebAssembly.Memory;
WebAssembly.Memory = function (wanted) {
  const made = new Memory(wanted);
  if ((wanted.maximum ?? 0) > (wanted.initial ?? 0)) heap = made;
  return made;
};
WebAssembly.Memory.prototype = Memory.prototype; // for instanceof

const threads = []; // onnxruntime's workers; they must be terminated with this one, or they keep waiting in the browser
const Plain = Worker;
globalThis.Worker = class extends Plain {
  constructor(...given) {
    super(...given);
    threads.push(this);
  }
};

const ort = await import("./ort/ort.wasm.min.mjs");
let stage = "start"; // the current stage, for errors: start, load or run
let working = 0; // the index of the current model of `run`
const resume = [];
const NO_PEAK = "a browser reports no peak memory; heap has the values that it reports";

const VERBS = {
  // Inputs of a model. onnxruntime-web omits type and shape of an input that is not a tensor.
  async inputs({ models }, options) {
    const session = await open(models[0], options);
    return { inputs: session.inputMetadata.map(({ name, type = "?", shape = [] }) => ({ name, type, shape })) };
  },

  async load({ models, start_ns }, options) {
    const before = clock.wallNs();
    const session = await open(models[0], options);
    const loaded = clock.wallNs();
    const run = bound(session, models[0]);
    const started = clock.wallNs();
    await run();
    return { load_ns: loaded - before, first_ns: clock.wallNs() - started, start_ns, used_native: null };
  },

  async memory({ models }, options) {
    const imported = await held("imported");
    const session = await open(models[0], options);
    const loaded = await held("loaded");
    const kept = await bound(session, models[0])();
    const ran = await held("ran");
    Object.values(kept).forEach((tensor) => tensor.dispose()); // only after the memory was measured
    return { memory: null, missing: NO_PEAK, heap: { imported, loaded, ran } };
  },

  async steady({ models, plan }, options) {
    const runs = [], step = stepNs();
    for (const model of models) runs.push(bound(await open(model, options), model));
    const start = clock.wallNs();
    const timed = await timeModels(runs, plan, step, clock);
    return { timed, timer_step_ns: step, wall_ns: clock.wallNs() - start, other_cores: null };
  },

  // Run every model once, one after the other, until one fails.
  async run({ models }, options) {
    const ran = [];
    for (working = 0; working < models.length; working++) {
      const session = await open(models[working], options);
      ran.push({ outputs: outputsOf(await bound(session, models[working])()), used_native: null });
      await session.release();
    }
    return { models: ran };
  },
};

async function open({ bytes, weights }, options) {
  stage = "load";
  const externalData = weights.map(({ path, bytes }) => ({ path, data: new Uint8Array(bytes) }));
  return ort.InferenceSession.create(new Uint8Array(bytes), externalData.length ? { ...options, externalData } : options);
}

function bound(session, { index, values }) {
  stage = "run";
  const feeds = feedsOf(ort, index, values);
  return () => session.run(feeds);
}

async function held(stage) {
  postMessage({ stage });
  const page = await new Promise((go) => resume.push(go));
  return { heap_bytes: heap ? heap.buffer.byteLength : null, page_bytes: page };
}

// Compile and start onnxruntime with the null model, so that this time is not part of the load time of a model.
async function start({ runtime, threads, options, null_model }) {
  ort.env.logLevel = "fatal";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.wasm.wasmBinary = runtime;
  const before = clock.wallNs();
  const session = await ort.InferenceSession.create(new Uint8Array(null_model), options);
  await session.release();
  return clock.wallNs() - before;
}

const failure = (error) => ({ error: String(error?.message ?? error).slice(0, 2000), stage, model: working });

function ended(reply) {
  for (const thread of threads) thread.terminate();
  postMessage(reply);
}

onmessage = async ({ data }) => {
  if (data.resume) {
    resume.shift()(data.page);
    return;
  }
  try {
    const start_ns = await start(data);
    const taken = ort.env.wasm.numThreads;
    if (taken !== data.threads) throw new Error(`onnxruntime used ${taken} threads instead of ${data.threads}`);
    const answer = await VERBS[data.verb]({ ...data, start_ns }, data.options);
    ended({ answer, workers: threads.length });
  } catch (error) {
    ended(failure(error));
  }
};
postMessage({ ready: true });

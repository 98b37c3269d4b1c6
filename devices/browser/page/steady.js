// The timing loop of runtime/probes/rounds.py, with one difference: a browser's clock is coarse, so a sample is the mean
// of consecutive runs that together take SAMPLE_STEPS steps of the clock.
//
//     round     one block of each model, A B A B ..., so that other load on the machine affects all models alike
//     block     a slice of time filled with samples of one model; every stride-th sample is kept
//     lead-in   untimed runs at the start of a block, because the models share caches
//
// A run is an async function without arguments. Times are whole nanoseconds.

const WINDOW_NS = 20e6; // a warm-up window; single interruptions would dominate a shorter one
const WINDOW_SAMPLES = 10; // a window has at least the duration of this many samples
const WARM_UP_NS = 5e9; // the longest warm-up
const LEAD_IN_NS = 1e6;
const FEWEST_ROUNDS = 2;
const OVERTIME = 5; // after FEWEST_ROUNDS, timing ends when this multiple of the planned time has passed
const SAMPLE_STEPS = 200; // clock steps per sample, so that the error of a sample is at most half a per cent
const LAST = 3, WITHIN = 0.02; // see settled()

// plan: time_ns per model, number of rounds, number of samples to keep per model.
export async function timeModels(runs, plan, stepNs, clock) {
  const timed = [];
  for (const run of runs) timed.push({ ...(await warmUp(run, stepNs, clock)), blocks: [] });
  const start = clock.wallNs(), overtime = OVERTIME * plan.time_ns * runs.length;
  for (let done = 0; done < plan.rounds; done++) {
    if (done >= FEWEST_ROUNDS && clock.wallNs() - start > overtime) break;
    for (const [index, run] of runs.entries()) timed[index].blocks.push(await block(run, timed[index], plan, clock));
  }
  return timed;
}

// Run until the medians of successive windows stop falling, or WARM_UP_NS has passed.
export async function warmUp(run, stepNs, clock) {
  const start = clock.wallNs(), enough = SAMPLE_STEPS * stepNs;
  const windowNs = Math.max(WINDOW_NS, WINDOW_SAMPLES * enough);
  const medians = [];
  let { batch, runs } = await firstBatch(run, enough, clock), typical = 1;
  while (!settled(medians) && clock.wallNs() - start < WARM_UP_NS) {
    const window = await fill(run, windowNs, batch, 1, clock);
    const middle = median(window.samples_ns), readable = middle * batch >= enough / 2;
    typical = readable ? middle : window.wall_ns / window.runs; // an interruption may have made the batch too small
    if (readable) medians.push(middle);
    runs += window.runs;
    batch = Math.max(1, Math.ceil(enough / Math.max(typical, 1)));
  }
  const warm_up = { runs, settled: settled(medians), run_ns: typical };
  return { warm_up, runs_per_sample: batch };
}

export async function block(run, timed, plan, clock) {
  const sliceNs = Math.floor(plan.time_ns / plan.rounds), batch = timed.runs_per_sample;
  const sampleNs = Math.max(timed.warm_up.run_ns * batch, 1);
  if (sampleNs < 10 * LEAD_IN_NS) await fill(run, LEAD_IN_NS, batch, 1, clock);
  const stride = Math.max(1, Math.round(((sliceNs / sampleNs) * plan.rounds) / plan.samples));
  return fill(run, sliceNs, batch, stride, clock);
}

// Take at least one sample, and all samples that begin within the slice.
async function fill(run, sliceNs, batch, stride, clock) {
  const samples_ns = [], start = clock.wallNs();
  let end = start, taken = 0;
  while (!taken || end - start < sliceNs) {
    const before = clock.wallNs();
    for (let i = 0; i < batch; i++) await run();
    end = clock.wallNs();
    if (taken % stride === 0) samples_ns.push(Math.round((end - before) / batch));
    taken++;
  }
  return { samples_ns, runs: taken * batch, wall_ns: end - start, cpu_ns: null };
}

// The number of consecutive runs that take at least `enough` nanoseconds, a power of two.
async function firstBatch(run, enough, clock) {
  for (let batch = 1, runs = 0; ; batch *= 2) {
    const before = clock.wallNs();
    for (let i = 0; i < batch; i++) await run();
    runs += batch;
    if (clock.wallNs() - before >= enough) return { batch, runs };
  }
}

// Whether none of the LAST medians is more than WITHIN below the lowest earlier median.
export function settled(medians) {
  if (medians.length <= LAST) return false;
  return Math.min(...medians.slice(-LAST)) >= (1 - WITHIN) * Math.min(...medians.slice(0, -LAST));
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// The clock: performance.now() in whole nanoseconds, and its resolution.

const READINGS = 200000; // at most; without isolation a clock step is 100 us, about ten thousand readings
const STEPS = 20;

export const clock = {
  wallNs: () => Math.round(performance.now() * 1e6),
};

// The smallest step between two readings.
export function stepNs(wallNs = clock.wallNs) {
  let smallest = Infinity, seen = 0, before = wallNs();
  for (let reading = 0; reading < READINGS && seen < STEPS; reading++) {
    const now = wallNs();
    if (now > before) {
      smallest = Math.min(smallest, now - before);
      before = now;
      seen++;
    }
  }
  return Number.isFinite(smallest) ? smallest : 1e6;
}

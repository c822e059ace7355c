// The numbers: rates with what was asked for and why it is less, latency, losses, the sensor; half a minute of curves.

import { methodWords } from "./method.js";
import { trim } from "./plan.js";

const byId = (id) => document.getElementById(id);
const STAGES = ["build", "expose", "publish", "total"];
const SAMPLES = 60;
// Nobody needs to know of less (nire.calibrate).
const GOOD_MISFIT = 0.15;

/** Show what the server sums up, and the stream's own status. */
export function showFigures(numbers, status, paused) {
  const rate = (value) => (value == null ? "–" : trim(value, value < 99.5 ? 1 : 0));
  put("n-rate", paused ? "0" : rate(numbers.rate_hz));
  // Less than was asked for is no secret: the budget reduces what the machine cannot do.
  const short = !paused && numbers.rate_hz != null && numbers.rate_hz < 0.95 * status.asked_hz;
  put("n-asked", short ? ` of ${rate(status.asked_hz)}` : "");
  const all = !paused && numbers.rate_hz >= 0.95 * status.asked_hz;
  put("n-reason", numbers.reason || (all ? "As many as the plan asks for" : ""));
  const frameless = status.source?.has_frames === false;
  put("n-captured", frameless ? inShort(status.rates?.events) : rate(numbers.captured_hz));
  put("n-captured-unit", frameless ? "events/s in" : "fps in");
  for (const stage of STAGES) put(`n-${stage}`, numbers.latency_ms ? `${numbers.latency_ms[stage].toFixed(2)} ms` : null);
  [...byId("stages").children].forEach((part, i) => { part.style.flexGrow = numbers.latency_ms?.[STAGES[i]] ?? 0; });
  count("n-lost-events", numbers.lost_events ?? status.lost_events);
  count("n-lost-frames", numbers.lost_frames ?? status.lost_frames);
  count("n-late", numbers.late_windows ?? status.late_windows);
  count("n-reduced", status.reduced_queries);
  const sensor = status.calibration;
  put("n-thresholds", sensor ? `${sensor.threshold_positive.toFixed(3)} / ${sensor.threshold_negative.toFixed(3)}` : null);
  put("n-offset", sensor ? `${(sensor.time_offset_us / 1000).toFixed(2)} ms` : null);
  byId("misfit").hidden = !(sensor?.misfit > GOOD_MISFIT);
  put("n-misfit", sensor?.misfit != null ? `${trim(100 * sensor.misfit, 0)} %` : null);
  put("n-wall", status.wall_uncertainty_us != null ? howFarOff(status.wall_uncertainty_us)
    : status.wall_ns != null ? "as recorded" : null);
  put("n-why", status.backend_reason ?? "");
  const [backend, engine] = [numbers.backend ?? status.backend, numbers.engine ?? status.engine];
  put("n-method", methodWords(backend, engine, status.reconstructor) || null);
  curve("curve-rate", numbers.curves.rate_hz);
  const most_ms = curve("curve-latency", numbers.curves.latency_ms);
  put("curve-latency-most", most_ms > 0 ? `at most ${trim(most_ms, most_ms < 10 ? 1 : 0)} ms` : "");
  byId("curve-lost").classList.toggle("none", curve("curve-lost", numbers.curves.lost) === 0);
}

/** How far wall times may be off: a second or more comes of a source whose clock does not keep time. */
function howFarOff(us) {
  if (us < 1e6) return `± ${trim(us / 1000, 2)} ms`;
  const [unit, word] = us < 90e6 ? [1e6, "s"] : [60e6, "minutes"];
  return `off by up to ${trim(us / unit, 0)} ${word}: the source is late`;
}

/** A large number as a person reads it: 2.4 M. */
function inShort(value) {
  if (value == null) return null;
  const [unit, word] = value >= 1e6 ? [1e6, " M"] : value >= 1e3 ? [1e3, " k"] : [1, ""];
  return `${trim(value / unit, value / unit < 99.5 && word ? 1 : 0)}${word}`;
}

function put(id, text) {
  const element = byId(id);
  const wanted = text ?? "–";
  if (element.textContent !== wanted) element.textContent = wanted;
}

function count(id, value) {
  put(id, value?.toLocaleString("en"));
  byId(id).classList.toggle("bad", value > 0);
}

/** Draw samples from the right, from zero to their greatest value; returns that. */
function curve(id, samples) {
  const most = samples.reduce((a, b) => Math.max(a, b ?? 0), 0);
  const step = 100 / (SAMPLES - 1);
  const points = samples.map((value, i) => [100 - (samples.length - 1 - i) * step, value])
    .filter(([, value]) => value !== null)
    .map(([x, value]) => `${x.toFixed(2)},${(19 - (most > 0 ? (17 * value) / most : 0)).toFixed(2)}`);
  byId(id).firstElementChild.setAttribute("points", points.join(" "));
  return most;
}

// What a plan is to the page: which controls have an effect, how a slider's place becomes a value, and its words.

export const USES = {
  deblur: ["offset_us", "exposure_us"],
  unroll: ["offset_us", "exposure_us"],
  upsample: ["exposure_us", "rate_hz"],
  reshutter: ["offset_us", "exposure_us", "row_delay_us", "rate_hz"],
};
export const KEYS = ["offset_us", "exposure_us", "row_delay_us", "rate_hz"];

/** Whether a control can be moved. Row delay can be moved under upsample too: that turns it into reshutter. */
export function usable(name, key) {
  return (USES[name] ?? []).includes(key) || (name === "upsample" && key === "row_delay_us");
}

/** Whether a plan makes one image of each captured frame, so that it asks for nothing where there are none. */
export function needsFrames(name) {
  return name === "deblur" || name === "unroll";
}

const HINTS = {
  deblur: "Each captured frame without its motion blur: as it would be, exposed for less time (1)",
  unroll: "Each captured frame with all rows of the same time: without the slant of a rolling shutter (2)",
  upsample: "More images than the camera takes: so many instants a second, also between frames (3)",
  reshutter: "As by another camera: exposures of another length, at another rate, the rows one after another (4)",
};

/** What a plan gives, for whom its name says nothing. */
export function hint(name, frameless) {
  return frameless && needsFrames(name) ? "This makes images of captured frames, which this source does not have" : HINTS[name];
}

/** The changes to ask for when one control is moved. */
export function changes(name, key, value) {
  if (name === "upsample" && key === "row_delay_us") return value === 0 ? {} : { name: "reshutter", row_delay_us: value };
  return { [key]: value };
}

/**
 * Ranges of the controls, from what the camera does.
 * @param captured {exposure_us, period_us, height} of the newest captured frame, or null
 */
export function ranges(captured) {
  const exposure = captured?.exposure_us ?? 20000;
  const period = Math.max(captured?.period_us ?? 40000, exposure);
  return {
    offset_us: nice(exposure / 2 + 5000),
    exposure_us: nice(Math.max(period, exposure)),
    row_delay_us: Math.min(10000, Math.max(1, nice(period / (captured?.height ?? 260)))),
    rate_hz: [10, 5000],
  };
}

/** Slider place -> value. Position and row delay are linear, width is finer near zero, rate is logarithmic. */
export function toValue(key, place, range) {
  if (key === "rate_hz") return Number((range[0] * (range[1] / range[0]) ** (place / 1000)).toPrecision(3));
  if (key === "exposure_us") return Math.round((range * (place / 1000) ** 2) / 10) * 10;
  const value = (range * place) / 1000;
  return key === "row_delay_us" ? Number(value.toFixed(1)) : Math.round(value / 10) * 10;
}

/** Value -> slider place. */
export function toPlace(key, value, range) {
  if (key === "rate_hz") return 1000 * Math.log(value / range[0]) / Math.log(range[1] / range[0]);
  if (key === "exposure_us") return 1000 * Math.sqrt(Math.max(0, value) / range);
  return (1000 * value) / range;
}

/** A value as a person reads it. */
export function words(key, value) {
  if (value == null) return "–";
  if (key === "rate_hz") return `${trim(value, value < 100 ? 1 : 0)} Hz`;
  if (key === "row_delay_us") return `${signed(value, 1)} µs`;
  if (key === "exposure_us" && value === 0) return "instant";
  return key === "offset_us" ? `${signed(value / 1000, 2)} ms` : `${trim(value / 1000, 2)} ms`;
}

/** One sentence that says what the shutter does. */
export function sentence(plan) {
  if (!plan) return "";
  const wide = plan.exposure_us > 0 ? `${trim(plan.exposure_us / 1000, 2)} ms` : "one instant";
  const off = plan.offset_us === 0 ? "at the middle of"
    : `${trim(Math.abs(plan.offset_us) / 1000, 2)} ms ${plan.offset_us < 0 ? "before" : "after"} the middle of`;
  if (plan.name === "deblur") return `${cap(wide)} ${off} each captured exposure`;
  if (plan.name === "unroll") return `${cap(wide)} for all rows, ${off} each rolling exposure`;
  const rows = plan.name === "reshutter" && plan.row_delay_us !== 0
    ? `, each row ${trim(Math.abs(plan.row_delay_us), 1)} µs ${plan.row_delay_us < 0 ? "before" : "after"} the one above` : "";
  return `${cap(wide)}, ${trim(plan.rate_hz, 1)} times a second${rows}`;
}

export function trim(value, digits) {
  return String(Number(value.toFixed(digits)));
}

function signed(value, digits) {
  const text = trim(Math.abs(value), digits);
  return text === "0" ? "0" : `${value < 0 ? "−" : "+"}${text}`;
}

function cap(text) {
  return text[0].toUpperCase() + text.slice(1);
}

function nice(value) {
  const step = 10 ** Math.floor(Math.log10(value)) / 2;
  return Math.ceil(value / step) * step;
}

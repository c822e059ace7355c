// The page: puts images, numbers and controls together.

import { Dial } from "./dial.js";
import { Link } from "./link.js";
import { KEYS, changes, ranges, sentence, toPlace, toValue, trim, usable, words } from "./plan.js";

const byId = (id) => document.getElementById(id);
const state = { plan: null, captured: null, paused: false, held: null, newest: null, live: false, slow: false, events: [], laid: { t_us: -1e18 } };

const dial = new Dial(byId("dial"), {
  moved: (key, value) => move(key, value),
  usable: (key) => state.plan !== null && usable(state.plan.name, key),
  ranges: () => ranges(state.captured),
});

const link = new Link({ image: showImage, state: showState, reply: showReply, open: tellWishes, lost: showLost });

// ---- images

function showImage(head, bitmap) {
  if (head.kind === "events") return keepEvents(head, bitmap);
  draw(byId(head.kind), head, bitmap);
  if (head.kind === "captured") return noteCaptured(head);
  byId("exposed-note").textContent = exposure(head) + (state.slow ? ", slowed down" : "");
  layEvents((head.t_a_us + head.t_b_us) / 2);
}

function draw(canvas, head, bitmap) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  canvas.dataset.index = head.index;
}

// Events are here before the frame of the same moment is exposed: a few of their images wait for it.
function keepEvents(head, bitmap) {
  state.events.push({ head, bitmap, t_us: (head.t_a_us + head.t_b_us) / 2 });
  if (state.events.length > 12) state.events.shift().bitmap.close();
}

/** Lay the events nearest to device time `t_us` over the exposed frame; none where all are far away. */
function layEvents(t_us) {
  const distance = (image) => Math.abs(image.t_us - t_us);
  const best = state.events.reduce((a, b) => (distance(b) <= distance(a) ? b : a), state.laid);
  const overlay = byId("overlay");
  if (distance(best) > 60000) return overlay.getContext("2d").clearRect(0, 0, overlay.width, overlay.height);
  if (best === state.laid) return;
  const past = state.events.splice(0, state.events.indexOf(best));
  for (const old of past) old.bitmap.close();
  state.events.shift();
  state.laid = { t_us: best.t_us };
  draw(overlay, best.head, best.bitmap);
}

function noteCaptured(head) {
  const { newest } = state;
  const exposure_us = head.t_b_us - head.t_a_us;
  const frames = newest ? head.index - newest.index : 0;
  const period_us = frames > 0 && head.t_a_us > newest.t_a_us ? (head.t_a_us - newest.t_a_us) / frames : null;
  state.newest = head;
  const old = state.captured;
  const captured = { exposure_us, row_delay_us: head.row_delay_us, height: head.shape[0], period_us: period_us ?? old?.period_us };
  byId("captured-note").textContent = exposure(head);
  // An exposure that wobbles by a few percent must not make the dial dance.
  const close = (a, b) => Math.abs((a ?? 0) - (b ?? 0)) <= 0.1 * Math.abs(b ?? 0);
  const same = old && close(old.exposure_us, exposure_us) && close(old.period_us, captured.period_us)
    && old.row_delay_us === captured.row_delay_us && old.height === captured.height;
  if (same || captured.period_us === undefined || state.held) return;
  state.captured = captured;
  showPlan();
}

function exposure(head) {
  const wide = head.t_b_us - head.t_a_us;
  const rolling = head.row_delay_us ? `, rolling ${trim(head.row_delay_us, 1)} µs a row` : "";
  return (wide > 0 ? `${trim(wide / 1000, 2)} ms` : "an instant") + rolling;
}

// ---- state and numbers

function showState(message) {
  const { status, numbers } = message;
  if (!state.live && message.live) link.ask("status");
  state.live = message.live;
  if (message.live) takeStatus(status);
  const stream = status.stream ? `${status.stream} at ${message.address}` : message.address;
  if (message.problem) showLink("lost", message.problem);
  else if (!message.live) showLink("lost", `No stream at ${message.address}. Waiting for it`);
  else showLink(state.paused ? "paused" : "live", state.paused ? `${stream}, paused` : stream);
  showNumbers(numbers, status);
}

function takeStatus(status) {
  if (status.plan && !state.held && !link.asking("set_plan")) takePlan(status.plan);
  if (status.state && !link.asking("pause") && !link.asking("resume")) setPaused(status.state === "paused");
}

function showNumbers(numbers, status) {
  const put = (id, text) => { byId(id).textContent = text ?? "–"; };
  const count = (id, value) => {
    put(id, value?.toLocaleString("en"));
    byId(id).classList.toggle("bad", value > 0);
  };
  const rate = (value) => (value == null ? "–" : trim(value, value < 99.5 ? 1 : 0));
  put("n-rate", state.paused ? "0" : rate(numbers.rate_hz));
  // Less than was asked for is no secret: the budget reduces what the machine cannot do.
  const short = !state.paused && numbers.rate_hz != null && numbers.rate_hz < 0.95 * status.asked_hz;
  put("n-asked", short ? ` of ${rate(status.asked_hz)}` : "");
  put("n-captured", rate(numbers.captured_hz));
  const stages = ["build", "expose", "publish", "total"];
  for (const stage of stages) put(`n-${stage}`, numbers.latency_ms ? `${numbers.latency_ms[stage].toFixed(2)} ms` : null);
  [...byId("stages").children].forEach((part, i) => { part.style.flexGrow = numbers.latency_ms?.[stages[i]] ?? 0; });
  count("n-lost-events", numbers.lost_events ?? status.lost_events);
  count("n-lost-frames", numbers.lost_frames ?? status.lost_frames);
  count("n-late", numbers.late_windows ?? status.late_windows);
  count("n-reduced", status.reduced_queries);
  const sensor = status.calibration;
  put("n-thresholds", sensor ? `${sensor.threshold_positive.toFixed(3)} / ${sensor.threshold_negative.toFixed(3)}` : null);
  put("n-offset", sensor ? `${(sensor.time_offset_us / 1000).toFixed(2)} ms` : null);
  put("n-plan", state.plan?.name);
  put("n-method", [numbers.backend ?? status.backend, numbers.engine ?? status.engine].filter(Boolean).join(", ") || null);
}

function showLink(kind, text) {
  byId("link").dataset.state = kind;
  const words = byId("link").lastElementChild;
  if (words.textContent !== text) words.textContent = text;
  document.body.classList.toggle("away", kind === "lost");
  byId("pause").disabled = kind === "lost";
}

function showLost() {
  state.live = false;
  showLink("lost", "The preview server is away. Connecting again");
}

function showReply(message) {
  if (message.ok) {
    if (message.plan && !state.held && !link.asking("set_plan")) takePlan(message.plan);
    if (message.paused !== undefined) setPaused(message.paused);
    else if (message.state) setPaused(message.state === "paused");
    return;
  }
  toast(message.hint || message.error);
  if (message.command === "set_plan") link.ask("status");
}

let toastTimer = 0;
function toast(text) {
  byId("toast").textContent = text;
  byId("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { byId("toast").hidden = true; }, 6000);
}

// ---- the plan

function takePlan(plan) {
  if (JSON.stringify(plan) === JSON.stringify(state.plan)) return;
  state.plan = { ...plan };
  showPlan();
}

function move(key, value) {
  if (!state.plan) return;
  ask(changes(state.plan.name, key, value));
}

function ask(wanted) {
  if (Object.keys(wanted).length === 0) return;
  state.plan = { ...state.plan, ...wanted };
  link.ask("set_plan", { plan: wanted });
  showPlan();
}

function showPlan() {
  const { plan } = state;
  if (!plan) return;
  const range = ranges(state.captured);
  const radio = document.querySelector(`#plans input[value="${CSS.escape(plan.name)}"]`);
  if (radio) radio.checked = true;
  for (const key of KEYS) {
    const slider = byId(key);
    const on = usable(plan.name, key);
    slider.disabled = !on;
    for (const part of [slider, slider.previousElementSibling, slider.nextElementSibling]) part.classList.toggle("off", !on);
    const value = key === "row_delay_us" && plan.name === "upsample" ? 0 : plan[key];
    if (state.held !== key) slider.value = Math.round(toPlace(key, value, range[key]));
    fillTrack(slider);
    slider.setAttribute("aria-valuetext", words(key, value));
    byId(`${key}-text`).textContent = on ? words(key, value) : "–";
  }
  byId("sentence").textContent = sentence(plan);
  const key = usable(plan.name, "offset_us") ? "offset_us" : "exposure_us";
  const element = byId("dial");
  element.setAttribute("aria-valuemin", key === "offset_us" ? -range[key] : 0);
  element.setAttribute("aria-valuemax", range[key]);
  element.setAttribute("aria-valuenow", plan[key]);
  element.setAttribute("aria-valuetext", sentence(plan));
  dial.show(plan, state.captured);
}

/** Colour the track between the slider's zero and its thumb. */
function fillTrack(slider) {
  const part = (value) => (100 * (value - slider.min)) / (slider.max - slider.min);
  const [from, to] = [part(Math.max(0, slider.min)), part(Number(slider.value))];
  slider.style.setProperty("--from", `${Math.min(from, to)}%`);
  slider.style.setProperty("--to", `${Math.max(from, to)}%`);
}

for (const key of KEYS) {
  const slider = byId(key);
  slider.addEventListener("input", () => {
    state.held = key;
    move(key, toValue(key, Number(slider.value), ranges(state.captured)[key]));
  });
  for (const end of ["change", "blur", "pointerup"]) slider.addEventListener(end, () => { state.held = null; });
}

byId("plans").addEventListener("change", (event) => ask({ name: event.target.value }));

// ---- buttons

function setPaused(paused) {
  state.paused = paused;
  byId("pause").textContent = paused ? "Resume" : "Pause";
  byId("pause").setAttribute("aria-pressed", String(paused));
}

byId("pause").addEventListener("click", () => {
  link.ask(state.paused ? "resume" : "pause");
  setPaused(!state.paused);
});

for (const id of ["events", "slow"]) {
  byId(id).addEventListener("click", () => {
    byId(id).setAttribute("aria-pressed", String(!pressed(id)));
    tellWishes();
  });
}

function pressed(id) {
  return byId(id).getAttribute("aria-pressed") === "true";
}

/** Say what shall be shown, and how; also after every new connection, which begins with neither. */
function tellWishes() {
  state.slow = pressed("slow");
  // Images of events come at the pace of a screen: too few for a piece that is played slowly.
  const events = pressed("events") && !state.slow;
  byId("events").disabled = state.slow;
  byId("overlay").hidden = !events;
  link.tell({ type: "events", on: events });
  link.tell({ type: "slow", on: state.slow });
}

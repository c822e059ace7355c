// The page: puts films, shutter, figures and controls together.

import { Films } from "./films.js";
import { showFigures } from "./figures.js";
import { followKeys } from "./keys.js";
import { Link, NOT_ADMITTED } from "./link.js";
import { Operate } from "./operate.js";
import { trim } from "./plan.js";
import { Recording } from "./recording.js";
import { Replay } from "./replay.js";
import { Shutter } from "./shutter.js";
import { StreamSheet } from "./stream.js";
import { followTheme } from "./theme.js";
import { giveTips } from "./tips.js";

const byId = (id) => document.getElementById(id);
const state = { live: false, ended: false, paused: false };

const link = new Link({ hello, moment, state: showState, values: (values) => films.take(values), reply, lost });
const films = new Films((message) => link.tell(message));
const operate = new Operate(() => shutter.forget());
const shutter = new Shutter(link, operate);
const sheet = new StreamSheet(link, operate);
const replay = new Replay(link, operate);
const recording = new Recording(link, operate, sheet.notes.record);

// One camera of several: the way back to all of them, with the token where there is one.
const way = new URLSearchParams(location.search);
byId("cameras").hidden = !way.has("camera");
way.delete("camera");
byId("cameras").href = `cameras?${way}`;

// ---- what the server sends

function hello(message) {
  operate.allow(message.operates);
  sheet.offer(message.choices);
  shutter.show();
  tellWishes();
  films.tellAgain();
}

function moment(head, pictures) {
  films.show(head, pictures);
  // Nothing is exposed at present: captured frames go on alone, and what was exposed last is of another moment.
  document.body.classList.toggle("alone", head.alone);
  for (const { facts } of pictures) {
    if (facts.kind === "captured") {
      shutter.note(facts);
      byId("captured-note").textContent = exposure(facts);
    }
    if (facts.kind === "events" && films.frameless) byId("captured-note").textContent = `of ${exposure(facts)}`;
    if (facts.kind === "exposed") byId("exposed-note").textContent = exposure(facts) + (pressed("slow") ? ", slowed down" : "");
  }
}

function exposure(facts) {
  const wide = facts.t_b_us - facts.t_a_us;
  const rolling = facts.row_delay_us ? `, rolling ${trim(facts.row_delay_us, 1)} µs a row` : "";
  return (wide > 0 ? `${trim(wide / 1000, 2)} ms` : "an instant") + rolling;
}

function showState(message) {
  const { status, numbers } = message;
  operate.alone = message.alone;
  if (status.cameras) return location.replace(`cameras${location.search}`);
  if (!state.live && message.live) link.ask("status");
  state.live = message.live;
  state.ended = message.ended;
  if (status.source) showFrameless(status.source.has_frames === false);
  if (status.plan) shutter.take(status.plan);
  if (status.state && !link.asking("pause") && !link.asking("resume")) state.paused = status.state === "paused";
  const name = [status.camera, status.source?.name ?? status.stream].filter(Boolean).join(": ");
  if (message.problem) showLink("lost", message.problem);
  else if (state.ended) showLink("ended", "The stream has ended");
  else if (!message.live) showLink("lost", `No stream at ${message.address}. Waiting for it`);
  else showLink(state.paused ? "paused" : "live", [name, state.paused ? "paused for everyone" : ""].filter(Boolean).join(", ") || message.address);
  byId("link").dataset.tip = `${status.stream ?? "stream"} at ${message.address}`;
  showVeil(message.address);
  showFigures(numbers, status, state.paused);
  sheet.show(message);
  replay.show(status.replay);
  recording.show(status.recording);
}

/** Where the source has events only, they are shown in the place of captured frames. */
function showFrameless(frameless) {
  if (films.frameless === frameless) return;
  films.frameless = frameless;
  films.clear("captured");
  shutter.without(frameless);
  document.body.classList.toggle("frameless", frameless);
  byId("captured-title").textContent = frameless ? "Events" : "Captured";
  byId("captured").setAttribute("aria-label", frameless ? "Events of the shown moment" : "Captured frame of the shown moment");
  byId("wiper").setAttribute("aria-label", `Line between ${frameless ? "events" : "captured"} and exposed`);
  byId("captured-note").textContent = frameless ? "the source has no frames" : "no frame yet";
  byId("save-captured").hidden = frameless;
  tellWishes();
}

function lost(admitted) {
  state.live = false;
  if (!admitted) showLink("lost", NOT_ADMITTED);
  else if (!state.ended) showLink("lost", "The preview server is away. Connecting again");
}

function reply(message) {
  const said = sheet.heard(message);
  if (message.ok) {
    if (message.plan) shutter.take(message.plan);
    if (message.paused !== undefined) state.paused = message.paused;
    return;
  }
  // The page itself asks for the status, as soon as it hears of a stream: that may be too soon, and it comes anyway.
  if (!said && message.command !== "status") toast(message.hint || message.error);
  if (message.command === "set_plan") link.ask("status");
}

// ---- what is said

function showLink(kind, text) {
  byId("link").dataset.state = kind;
  const words = byId("link").lastElementChild;
  if (words.textContent !== text) words.textContent = text;
  const away = kind === "lost" || kind === "ended";
  document.body.classList.toggle("away", away);
  // What nobody would answer cannot be asked for.
  byId("stream").disabled = away;
  for (const part of document.querySelectorAll(".shutter, .replay")) part.inert = away;
}

/** Over the films: that there is no stream yet, or none any more. */
function showVeil(address) {
  const shown = Boolean(byId("exposed").dataset.index || byId("captured").dataset.index);
  const [title, text, code] = state.ended ? ["The stream has ended", "The last images stay here. A new stream at this address is shown by itself.", ""]
    : state.live || shown ? ["", "", ""]
    : ["No stream yet", `Nothing is published at ${address}. It is shown here as soon as it is there.`, "nire-live replay my.aedat4 --preview"];
  const veil = byId("veil");
  veil.hidden = title === "";
  [...veil.children].forEach((part, i) => { part.textContent = [title, text, code][i]; });
}

let toastTimer = 0;
function toast(text) {
  byId("toast").textContent = text;
  byId("toast").showPopover();
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => byId("toast").hidePopover(), 6000);
}

// ---- what only this browser notices

function pressed(id) {
  return byId(id).getAttribute("aria-pressed") === "true";
}

function press(id) {
  byId(id).setAttribute("aria-pressed", String(!pressed(id)));
  tellWishes();
}

/** Say what shall be shown, and how; also after every new connection, which begins with nothing. */
function tellWishes() {
  const slow = pressed("slow");
  // Images of events come at the pace of a screen: too few for a piece that is played slowly.
  const events = pressed("events") && !slow;
  byId("events").disabled = slow;
  byId("overlay").hidden = !events;
  if (!events) films.clear("overlay");
  if (slow && films.frameless) {
    films.clear("captured");
    byId("captured-note").textContent = "not in slow motion";
  }
  byId("pause").textContent = pressed("pause") ? "Go on" : "Hold";
  films.wipe(pressed("wipe"));
  link.tell({ type: "hold", on: pressed("pause") });
  link.tell({ type: "events", on: (events || films.frameless) && !slow });
  link.tell({ type: "look", levelled: pressed("level"), colours: byId("colours").value });
  link.tell({ type: "slow", on: slow });
}

for (const id of ["pause", "wipe", "level", "slow", "events"]) byId(id).addEventListener("click", () => press(id));
byId("colours").addEventListener("change", tellWishes);

for (const [id, path] of [["save-exposed", "picture/exposed.png"], ["save-captured", "picture/captured.png"], ["save-clip", "clip.mp4"]]) {
  byId(id).addEventListener("click", () => {
    byId(id).href = `${path}?view=${link.name}`;
    byId(id).download = "";
    byId("save").open = false;
  });
}

for (const menu of document.querySelectorAll(".menu")) {
  document.addEventListener("pointerdown", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("keydown", (event) => { if (event.key === "Escape") menu.open = false; });
}

byId("help").addEventListener("click", () => byId("keys-sheet").showModal());
byId("stream").addEventListener("click", () => byId("stream-sheet").showModal());

const choose = (name) => shutter.want({ name });
followKeys([
  { list: byId("keys-here"), shortcuts: [
    { key: " ", shown: "Space", words: "Hold the picture", act: () => press("pause") },
    { key: ["w", "W"], shown: "W", words: "Wipe, or side by side", act: () => press("wipe") },
    { key: ["l", "L"], shown: "L", words: "Level for the eye", act: () => press("level") },
    { key: ["e", "E"], shown: "E", words: "Events", act: () => press("events") },
    { key: ["m", "M"], shown: "M", words: "Slow motion", act: () => press("slow") },
    { key: ["+", "="], shown: "+", words: "Closer", act: () => films.zoom.by(1.5) },
    { key: "-", shown: "−", words: "Further", act: () => films.zoom.by(1 / 1.5) },
    { key: "0", shown: "0", words: "Whole picture", act: () => films.zoom.reset() },
    { key: ["s", "S"], shown: "S", words: "Save the exposed image", act: () => byId("save-exposed").click() },
    { key: ["c", "C"], shown: "C", words: "Save the last 10 seconds", act: () => byId("save-clip").click() },
    { key: "?", shown: "?", words: "This list", act: () => byId("keys-sheet").showModal() },
  ] },
  { list: byId("keys-everyone"), shortcuts: [
    { key: "1", shown: "1", words: "Deblur", act: () => choose("deblur") },
    { key: "2", shown: "2", words: "Unroll", act: () => choose("unroll") },
    { key: "3", shown: "3", words: "Upsample", act: () => choose("upsample") },
    { key: "4", shown: "4", words: "Reshutter", act: () => choose("reshutter") },
    { key: ["k", "K"], shown: "K", words: "Freeze the replay", act: () => replay.hold() },
    { key: ".", shown: ".", words: "Replay's next frame", act: () => replay.step() },
    { key: ["r", "R"], shown: "R", words: "Record, or end it", act: () => recording.toggle() },
  ] },
]);
followTheme(byId("theme"), () => shutter.dial.draw());
giveTips(byId("tip"));

// All cameras of a stream, side by side: the newest image of each, its name, and how it goes.

import { Link, NOT_ADMITTED } from "./link.js";
import { trim } from "./plan.js";
import { followTheme } from "./theme.js";

const byId = (id) => document.getElementById(id);
const tiles = new Map();
const nothing = () => {};

class Tile {
  constructor(name) {
    const tile = byId("camera").content.cloneNode(true).firstElementChild;
    const way = new URLSearchParams(location.search);
    way.set("camera", name);
    tile.href = `./?${way}`;
    tile.dataset.camera = name;
    tile.querySelector(".name").textContent = name;
    tile.querySelector("canvas").setAttribute("aria-label", `Newest image of ${name}`);
    byId("cameras").append(tile);
    this.tile = tile;
    this.frameless = false;
    this.alone = true;
    const hello = () => this.tellWishes();
    const shown = (head, pictures) => this.draw(head, pictures);
    const state = (message) => this.show(message);
    const lost = () => tile.classList.add("still");
    this.link = new Link({ hello, moment: shown, state, values: nothing, reply: nothing, lost }, name);
  }

  /** Events are wanted of a source without frames, as long as nothing is exposed. */
  tellWishes() {
    this.link.tell({ type: "events", on: this.frameless && this.alone });
  }

  /** Note what the source and its images are like; what is wanted may change with it. */
  take(frameless, alone) {
    if (this.frameless === frameless && this.alone === alone) return;
    Object.assign(this, { frameless, alone });
    this.tellWishes();
  }

  /** Draw the exposed image; where nothing is exposed, the captured one; where there is none, events. */
  draw(head, pictures) {
    this.take(this.frameless, head.alone);
    const wanted = head.alone ? ["captured", "events"] : ["exposed"];
    const picture = pictures.find(({ facts }) => wanted.includes(facts.kind));
    if (!picture) return;
    const canvas = this.tile.querySelector("canvas");
    const { width, height } = picture.bitmap;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.drawImage(picture.bitmap, 0, 0);
  }

  show({ live, ended, status, numbers }) {
    this.tile.classList.toggle("still", ended || !live);
    if (!status.source) return;
    this.take(status.source.has_frames === false, this.alone);
    const says = ended ? "ended" : !live ? "no images" : status.state === "running" ? status.plan?.name : status.state;
    put(this.tile.querySelector(".note"), [status.source?.name, says].filter(Boolean).join(", "));
    const paused = status.state === "paused";
    const short = !paused && numbers.rate_hz < 0.95 * status.asked_hz;
    const rate = paused ? "0" : numbers.rate_hz != null ? trim(numbers.rate_hz, 0) : null;
    this.figure("rate", rate && `${rate}${short ? ` of ${trim(status.asked_hz, 0)}` : ""} a second`, short);
    this.figure("latency", numbers.latency_ms && `${trim(numbers.latency_ms.total, 1)} ms`);
    const [events, frames] = ["lost_events", "lost_frames"].map((key) => numbers[key] ?? status[key] ?? 0);
    this.figure("lost", events + frames > 0 ? `${events.toLocaleString("en")} events, ${frames} frames` : "nothing", events + frames > 0);
  }

  figure(name, text, bad = false) {
    const element = this.tile.querySelector(`[data-figure="${name}"]`);
    put(element, text ?? "–");
    element.classList.toggle("bad", bad);
  }

  /** A camera without a status of its own: it is being opened, or has failed. */
  absent(state) {
    put(this.tile.querySelector(".note"), state === "failed" ? "failed: the log says why" : "is being opened");
    this.tile.classList.add("still");
  }
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A tile for each camera, in the order of the stream. */
function showAll({ live, ended, problem, address, status }) {
  const names = Object.keys(status.cameras ?? {});
  for (const name of names) {
    if (!tiles.has(name)) tiles.set(name, new Tile(name));
    if (!status.cameras[name].source) tiles.get(name).absent(status.cameras[name].state);
  }
  // Another stream at this address, of one camera: its own page shows it.
  if (live && status.source) location.replace(`./${location.search}`);
  byId("link").dataset.state = live && !problem ? "live" : ended ? "ended" : "lost";
  put(byId("link").lastElementChild, problem || (live ? `${tiles.size} cameras at ${address}` : `No stream at ${address}. Waiting for it`));
}

function lost(admitted) {
  showAll({ problem: admitted ? "" : NOT_ADMITTED, status: {}, address: location.host });
}

new Link({ hello: nothing, moment: nothing, state: showAll, values: nothing, reply: nothing, lost });
followTheme(byId("theme"), nothing);

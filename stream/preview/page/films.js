// The two films: what is drawn, the line between them, zoom and pan, and the pixel under the cursor.

import { Zoom } from "./zoom.js";
import { trim } from "./plan.js";

const byId = (id) => document.getElementById(id);
const SHARP_FROM = 3;

export class Films {
  /** @param tell says something to the server */
  constructor(tell) {
    this.tell = tell;
    this.facts = {};
    this.values = {};
    this.cut = 50;
    this.probe = null;
    this.asked = null;
    this.frameless = false;
    this.zoom = new Zoom([...document.querySelectorAll(".film")], () => this.showZoom());
    for (const film of document.querySelectorAll(".film")) {
      film.addEventListener("pointermove", (event) => this.point(event));
      film.addEventListener("pointerleave", () => this.leave());
    }
    this.listenToWiper(byId("wiper"));
    this.readout();
  }

  /** Draw the pictures of one moment; what did not change is not among them. */
  show(head, pictures) {
    const seen = pictures.map((picture) => picture.facts.kind);
    for (const { facts, bitmap } of pictures) {
      this.facts[facts.kind] = facts;
      for (const id of this.places(facts.kind)) draw(byId(id), facts, bitmap);
      bitmap.close();
    }
    this.apart_us = head.apart_us;
    this.values = head.values;
    this.readout();
    return seen;
  }

  /** The canvases that show a kind: without captured frames, events take their place. */
  places(kind) {
    if (kind !== "events") return [kind];
    return [...(this.frameless ? ["captured"] : []), ...(byId("overlay").hidden ? [] : ["overlay"])];
  }

  /** Values of the pixel under the cursor, of what is shown. */
  take(values) {
    const { asked } = this;
    this.asked = null;
    this.values = values;
    if (this.probe && asked !== this.probe) this.ask();
    this.readout();
  }

  clear(id) {
    const canvas = byId(id);
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  }

  // ---- one film instead of two

  wipe(on) {
    document.body.dataset.films = on ? "wipe" : "beside";
    byId("wiper").hidden = !on;
    this.cutAt(this.cut);
  }

  cutAt(percent) {
    this.cut = Math.min(100, Math.max(0, percent));
    const on = document.body.dataset.films === "wipe";
    byId("wiper").style.left = `${this.cut}%`;
    byId("wiper").setAttribute("aria-valuenow", Math.round(this.cut));
    // The exposed film keeps its place: only what lies right of the line is shown of it.
    const film = byId("exposed").closest(".film");
    for (const layer of film.querySelectorAll(".layer")) layer.style.clipPath = on ? this.clip(film) : "";
  }

  /** The part of a layer right of the line, in the layer's own pixels: it may be zoomed. */
  clip(film) {
    const { scale, x } = this.zoom;
    const left = (film.clientWidth * this.cut / 100 - x) / scale;
    return `inset(-9999px -9999px -9999px ${left}px)`;
  }

  listenToWiper(wiper) {
    const at = (event) => {
      const box = wiper.parentElement.getBoundingClientRect();
      this.cutAt((100 * (event.clientX - box.left)) / box.width);
    };
    wiper.addEventListener("pointerdown", (event) => { event.stopPropagation(); wiper.setPointerCapture(event.pointerId); });
    wiper.addEventListener("pointermove", (event) => { if (wiper.hasPointerCapture(event.pointerId)) at(event); });
    wiper.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.cutAt(this.cut + step);
    });
  }

  showZoom() {
    const { scale } = this.zoom;
    document.body.classList.toggle("sharp", scale >= SHARP_FROM);
    byId("zoom").textContent = scale > 1 ? `${trim(scale, 1)}×, 0 shows all` : "";
    this.cutAt(this.cut);
  }

  // ---- the pixel under the cursor

  point(event) {
    const facts = this.facts.exposed ?? this.facts.captured ?? this.facts.events;
    if (!facts) return;
    const canvas = event.currentTarget.querySelector("canvas");
    const box = shownBox(canvas);
    const [height, width] = facts.shape;
    const x = Math.floor(((event.clientX - box.left) / box.width) * width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * height);
    if (x < 0 || y < 0 || x >= width || y >= height) return this.leave();
    if (this.probe && this.probe.x === x && this.probe.y === y) return;
    this.probe = { x, y };
    this.ask();
  }

  /** Ask for the values under the cursor; the next question waits for the answer, so that none pile up on a slow line. */
  ask() {
    if (this.asked) return;
    this.asked = this.probe;
    this.tell({ type: "probe", ...this.probe });
  }

  leave() {
    if (!this.probe) return;
    this.probe = null;
    this.values = {};
    this.tell({ type: "probe" });
    this.readout();
  }

  /** Say again what the server has to know, after a new connection. */
  tellAgain() {
    this.asked = null;
    if (this.probe) this.ask();
  }

  readout() {
    const { values } = this;
    const line = byId("readout-text");
    line.textContent = "";
    if (values.x === undefined || !this.probe) {
      line.textContent = matchMedia("(pointer: coarse)").matches ? "Touch a picture for its values, pinch to zoom"
        : "Move over a picture for its values, scroll to zoom, drag to move";
      return;
    }
    const add = (name, text) => {
      const part = document.createElement("b");
      part.textContent = text;
      line.append(`${name} `, part, "   ");
    };
    line.append(`x ${values.x}, y ${values.y}   `);
    for (const kind of ["captured", "exposed"]) if (values[kind]) add(kind, values[kind].join(" "));
    if (values.events) add("events", signed(values.events[0]));
    if (this.apart_us) line.append(`${trim(Math.abs(this.apart_us) / 1000, 1)} ms apart`);
  }
}

function signed(value) {
  return value === 0 ? "0" : `${value > 0 ? "+" : "−"}${Math.abs(value)}`;
}

function draw(canvas, facts, bitmap) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(bitmap, 0, 0);
  canvas.dataset.index = facts.index;
  canvas.dataset.mid_us = (facts.t_a_us + facts.t_b_us) / 2;
}

/** Where the picture itself is on the screen: a canvas that is fitted has bars at its sides. */
function shownBox(canvas) {
  const box = canvas.getBoundingClientRect();
  const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
  const width = canvas.width * scale;
  const height = canvas.height * scale;
  return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, width, height };
}

// The sheet of what holds for everyone: what the stream is, its method, its source, and pause.

import { engineWords } from "./method.js";
import { Note } from "./note.js";

const byId = (id) => document.getElementById(id);
const METHOD = ["backend", "size", "engine"];

export class StreamSheet {
  /**
   * @param link to the server
   * @param operate who may change it
   */
  constructor(link, operate) {
    this.link = link;
    this.operate = operate;
    this.paused = false;
    this.set = null;
    this.method = "";
    this.engines = {};
    this.notes = {
      set_reconstructor: new Note("method-note", METHOD, () => this.showSet()),
      set_source: new Note("source-note", ["source-settings"]),
      record: new Note("record-note", ["record-file"]),
    };
    byId("backend").addEventListener("change", () => this.offerEngines(byId("engine").value));
    byId("method-change").addEventListener("click", () => {
      const settings = Object.fromEntries(METHOD.map((key) => [key, byId(key).value]));
      this.notes.set_reconstructor.forget();
      operate.confirm({
        title: "Change the method for everyone?",
        text: "The present method goes on until the other one is ready. All who receive this stream get its images from then on.",
        yes: "Change it",
      }, () => link.ask("set_reconstructor", { settings }));
    });
    byId("source-change").addEventListener("click", () => {
      const settings = assignments(byId("source-settings").value);
      if (settings === null) {
        this.notes.set_source.refuse("Expected KEY=VALUE, several with spaces between them: exposure_us=4000");
        return;
      }
      this.notes.set_source.forget();
      operate.confirm({
        title: "Change the source for everyone?",
        text: "Where it cannot take the settings while it runs, the source is opened again: the stream has a gap then.",
        yes: "Change it",
      }, () => link.ask("set_source", { settings }));
    });
    byId("events_ms").addEventListener("change", (event) => {
      const events_ms = Number(event.target.value);
      operate.wish(() => link.ask("set_events", { events_ms }));
    });
    byId("pause-all").addEventListener("click", () => {
      if (this.paused) return link.ask("resume");
      operate.confirm({
        title: "Pause for everyone?",
        text: "No images are exposed until it goes on, on no page and for no program that receives this stream. To hold the picture here only, press Hold.",
        yes: "Pause for everyone",
      }, () => link.ask("pause"));
    });
  }

  /** Offer what there is to choose from. */
  offer(choices) {
    for (const key of ["backend", "size"]) byId(key).replaceChildren(...choices[key].map((name) => new Option(name, name)));
    this.engines = choices.engine;
    this.showSet();
  }

  /** Offer what runs the networks of the chosen backend; one without a network has none, and no size. */
  offerEngines(chosen) {
    const engines = this.engines[byId("backend").value];
    byId("engine").replaceChildren(...(engines ?? ["auto"]).map((name) => new Option(engineWords(name), name)));
    choose("engine", engines?.includes(chosen) ? chosen : "auto");
    for (const key of ["size", "engine"]) byId(key).disabled = !engines;
  }

  /** Show what the stream says of itself. */
  show({ address, status }) {
    this.showMethod(status.reconstructor);
    const settings = Object.entries(status.source_settings ?? {}).map(([key, value]) => `${key}=${value}`).join(" ");
    this.notes.set_reconstructor.show(status.method_change);
    this.notes.set_source.show(status.source_change, settings ? `Set: ${settings}` : "");
    byId("events_ms").disabled = !this.operate.allowed || !status.events_ms;
    if (status.events_ms) chooseSpan(byId("events_ms"), status.events_ms);
    this.paused = status.state === "paused";
    const button = byId("pause-all");
    const words = this.paused ? "Go on for everyone" : "Pause for everyone…";
    if (button.textContent !== words) button.textContent = words;
    const source = status.source;
    const rows = {
      Source: source ? `${source.name}, ${source.width} × ${source.height}${source.channels > 1 ? ", colour" : ""}` : "–",
      Images: status.publish ?? address,
      Control: status.control ?? "–",
      Up: status.uptime_s ? duration(status.uptime_s) : "–",
    };
    const about = byId("about");
    for (const [name, text] of Object.entries(rows)) {
      let row = about.querySelector(`[data-name="${name}"]`);
      if (!row) {
        row = document.createElement("div");
        row.dataset.name = name;
        row.append(document.createElement("dt"), document.createElement("dd"));
        row.firstChild.textContent = name;
        about.append(row);
      }
      if (row.lastChild.textContent !== text) row.lastChild.textContent = text;
    }
  }

  /** Take an answer: remember a wish of ours, or why it was refused. Returns whether a refusal is seen, below its field. */
  heard({ ok, command, number, hint, error }) {
    const note = this.notes[command];
    if (number) note?.follow(number);
    if (!ok) note?.refuse(hint || error);
    return Boolean(note) && byId("stream-sheet").open;
  }

  /** Follow the method as it is set, unless somebody is choosing another one. */
  showMethod(set) {
    if (!set || JSON.stringify(set) === this.method) return;
    this.set = set;
    this.method = JSON.stringify(set);
    this.showSet();
  }

  /** Put the form to what is set. */
  showSet() {
    if (!this.set) return;
    for (const key of ["backend", "size"]) choose(key, this.set[key]);
    this.offerEngines(this.set.engine);
    choose("engine", this.set.engine);
  }
}

/** Choose a value, also one that was not offered. */
function choose(id, value) {
  const control = byId(id);
  if (![...control.options].some((option) => option.value === value)) control.add(new Option(value, value));
  control.value = value;
}

/** "exposure_us=4000 color=gray" as a map; null where it is none. */
export function assignments(text) {
  const settings = {};
  for (const part of text.trim().split(/\s+/)) {
    const [, key, value] = /^(\w+)=(.+)$/.exec(part) ?? [];
    if (!key) return null;
    const plain = value.replace(/^(["'])(.*)\1$/, "$2");
    settings[key] = /^(true|false)$/.test(value) ? value === "true" : value === plain && !Number.isNaN(Number(value)) ? Number(value) : plain;
  }
  return settings;
}

/** Show how long events are collected, among what is offered. */
function chooseSpan(select, events_ms) {
  const offered = [...new Set([2, 5, 10, 20, 40, 100, events_ms])].sort((a, b) => a - b);
  if (select.options.length !== offered.length) select.replaceChildren(...offered.map((ms) => new Option(`${ms} ms`, ms)));
  if (document.activeElement !== select) select.value = String(events_ms);
}

/** Seconds as a person reads them. */
export function duration(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const text = parts.map((part) => String(part).padStart(2, "0")).join(":");
  return text.startsWith("00:") ? text.slice(3) : text;
}

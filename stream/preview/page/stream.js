// The sheet of what holds for everyone: what the stream is, its method, its source, and pause.

const byId = (id) => document.getElementById(id);

export class StreamSheet {
  /**
   * @param link to the server
   * @param operate who may change it
   */
  constructor(link, operate) {
    this.link = link;
    this.operate = operate;
    this.paused = false;
    this.method = "";
    this.numbers = {};
    this.misread = "";
    byId("method-change").addEventListener("click", () => {
      const settings = { backend: byId("backend").value, size: byId("size").value, engine: byId("engine").value.trim() || "auto" };
      operate.confirm({
        title: "Change the method for everyone?",
        text: "The present method goes on until the other one is ready. All who receive this stream get its images from then on.",
        yes: "Change it",
      }, () => link.ask("set_reconstructor", { settings }));
    });
    byId("source-change").addEventListener("click", () => {
      this.misread = "";
      const settings = assignments(byId("source-settings").value);
      if (settings === null) {
        this.misread = "Expected KEY=VALUE, several with spaces between them: exposure_us=4000";
        note("source-note", null, this.misread);
        return;
      }
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
    this.method = "";
  }

  /** Show what the stream says of itself. */
  show({ address, status }) {
    this.showMethod(status.reconstructor);
    const settings = Object.entries(status.source_settings ?? {}).map(([key, value]) => `${key}=${value}`).join(" ");
    note("method-note", this.own(status.method_change, "set_reconstructor"), "");
    if (!this.misread) note("source-note", this.own(status.source_change, "set_source"), settings ? `Set: ${settings}` : "");
    byId("events_ms").disabled = !this.operate.allowed || !status.events_ms;
    if (status.events_ms) choose(byId("events_ms"), status.events_ms);
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

  /** Remember which wish was ours. */
  heard(message) {
    if (message.number) this.numbers[message.command] = message.number;
  }

  /** A change as the status tells it, where it is the one that was asked for here. */
  own(change, command) {
    return change?.number === this.numbers[command] ? change : null;
  }

  /** Follow the method as it is set, unless somebody is choosing another one. */
  showMethod(set) {
    if (!set || JSON.stringify(set) === this.method) return;
    this.method = JSON.stringify(set);
    for (const key of ["backend", "size", "engine"]) {
      const control = byId(key);
      if (control.options && ![...control.options].some((option) => option.value === set[key])) control.add(new Option(set[key], set[key]));
      control.value = set[key];
    }
  }
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

/** Say how the newest wish went. */
function note(id, change, otherwise) {
  const words = { pending: "Being carried out; the stream goes on meanwhile", done: otherwise || "Done", failed: change?.error }[change?.state] ?? otherwise;
  const element = byId(id);
  if (element.textContent !== words) element.textContent = words;
}

/** Show how long events are collected, among what is offered. */
function choose(select, events_ms) {
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

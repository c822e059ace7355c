// Recording the stream: begun and ended here, written where the stream runs.

import { duration } from "./stream.js";

const byId = (id) => document.getElementById(id);

export class Recording {
  /**
   * @param link to the server
   * @param operate who may change it
   * @param note says how it goes
   */
  constructor(link, operate, note) {
    this.link = link;
    this.operate = operate;
    this.note = note;
    this.path = "";
    byId("record").addEventListener("click", () => this.toggle());
  }

  /** Begin or end, after a word: what is written is written where the stream runs. */
  toggle() {
    if (this.path) {
      return this.operate.confirm({ title: "End the recording?", text: `${this.path} is finished; the stream goes on.`, yes: "End it" },
        () => this.link.ask("record_stop"));
    }
    const file = byId("record-file").value.trim() || this.suggested();
    this.note.forget();
    this.operate.confirm({
      title: "Record the stream?",
      text: `What the source sends is written to ${file}, in the folder where the stream was started, until the recording is ended.`,
      yes: "Record",
    }, () => this.link.ask("record", { file }));
  }

  suggested() {
    const two = (number) => String(number).padStart(2, "0");
    const now = new Date();
    const day = [now.getFullYear(), two(now.getMonth() + 1), two(now.getDate())].join("");
    return `nire-${day}-${[now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join("")}.nire`;
  }

  /** Show what the stream is being recorded into, as its status tells it. */
  show(recording) {
    this.path = recording?.path ?? "";
    const mark = byId("recording");
    mark.hidden = this.path === "";
    byId("record").textContent = this.path ? "End recording…" : "Record…";
    byId("record-file").disabled = this.path !== "";
    byId("record-file").placeholder = "nire-DATE-TIME.nire";
    if (this.path) mark.lastElementChild.textContent = duration(recording.seconds);
    mark.dataset.tip = `The stream is being recorded into ${this.path}`;
    const words = this.path ? `${this.path}: ${recording.events.toLocaleString("en")} events, ${recording.frames} frames` : recording?.error ?? "";
    if (this.path) this.note.forget();
    this.note.show(null, words);
  }
}

// The shutter: plan, dial and sliders, which always show the same; what they change holds for everyone.

import { Dial } from "./dial.js";
import { KEYS, changes, hint, needsFrames, ranges, sentence, toPlace, toValue, usable, words } from "./plan.js";
import { tell } from "./tips.js";

const byId = (id) => document.getElementById(id);

export class Shutter {
  /**
   * @param link to the server
   * @param operate who may change it
   */
  constructor(link, operate) {
    this.link = link;
    this.operate = operate;
    this.plan = null;
    this.told = null;
    this.wanted = {};
    this.captured = null;
    this.newest = null;
    this.frameless = false;
    this.held = null;
    this.dial = new Dial(byId("dial"), {
      moved: (key, value) => this.move(key, value),
      usable: (key) => operate.allowed && this.plan !== null && usable(this.plan.name, key),
      ranges: () => ranges(this.captured),
    });
    for (const key of KEYS) this.listen(byId(key), key);
    byId("plans").addEventListener("change", (event) => this.want({ name: event.target.value }));
  }

  listen(slider, key) {
    slider.addEventListener("input", () => {
      this.held = key;
      this.move(key, toValue(key, Number(slider.value), ranges(this.captured)[key]));
    });
    for (const end of ["change", "blur", "pointerup"]) slider.addEventListener(end, () => { this.held = null; });
  }

  /** The plan as the stream tells it; what is being changed here stays as it is wanted. */
  take(plan) {
    this.told = plan;
    if (this.held || this.operate.waits || this.link.asking("set_plan")) return;
    this.keep(plan);
  }

  keep(plan) {
    if (JSON.stringify(plan) === JSON.stringify(this.plan)) return;
    this.plan = { ...plan };
    this.show();
  }

  /** Back to what the stream does. */
  forget() {
    this.wanted = {};
    if (this.told) this.keep(this.told);
    this.show();
  }

  move(key, value) {
    if (this.plan) this.want(changes(this.plan.name, key, value));
  }

  /** Wish for a change: it is shown at once, and made once the person has agreed that it is for everyone. */
  want(change) {
    if (!this.plan || !this.operate.allowed || Object.keys(change).length === 0) return;
    if (this.frameless && needsFrames(change.name)) return;
    this.plan = { ...this.plan, ...change };
    this.wanted = { ...this.wanted, ...change };
    this.operate.wish(() => {
      this.link.ask("set_plan", { plan: this.wanted });
      this.wanted = {};
    });
    this.show();
  }

  /** Learn from a captured frame how the camera exposes. */
  note(head) {
    const { newest, captured: old } = this;
    const exposure_us = head.t_b_us - head.t_a_us;
    const frames = newest ? head.index - newest.index : 0;
    const period_us = frames > 0 && head.t_a_us > newest.t_a_us ? (head.t_a_us - newest.t_a_us) / frames : null;
    this.newest = head;
    const captured = { exposure_us, row_delay_us: head.row_delay_us, height: head.shape[0], period_us: period_us ?? old?.period_us };
    // An exposure that wobbles by a few percent must not make the dial dance.
    const close = (a, b) => Math.abs((a ?? 0) - (b ?? 0)) <= 0.1 * Math.abs(b ?? 0);
    const same = old && close(old.exposure_us, exposure_us) && close(old.period_us, captured.period_us)
      && old.row_delay_us === captured.row_delay_us && old.height === captured.height;
    if (same || captured.period_us === undefined || this.held) return;
    this.captured = captured;
    this.show();
  }

  /** Learn whether the source has frames. */
  without(frameless) {
    if (frameless === this.frameless) return;
    this.frameless = frameless;
    this.captured = this.newest = null;
    this.show();
  }

  show() {
    const { plan } = this;
    if (!plan) return;
    const range = ranges(this.captured);
    const radio = document.querySelector(`#plans input[value="${CSS.escape(plan.name)}"]`);
    if (radio) radio.checked = true;
    byId("plans").disabled = !this.operate.allowed;
    for (const each of document.querySelectorAll("#plans input")) {
      each.disabled = this.frameless && needsFrames(each.value);
      tell(each.parentElement, hint(each.value, this.frameless));
    }
    for (const key of KEYS) {
      const slider = byId(key);
      const on = usable(plan.name, key);
      slider.disabled = !on || !this.operate.allowed;
      for (const part of [slider, slider.previousElementSibling, slider.nextElementSibling]) part.classList.toggle("off", !on);
      const value = key === "row_delay_us" && plan.name === "upsample" ? 0 : plan[key];
      if (this.held !== key) slider.value = Math.round(toPlace(key, value, range[key]));
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
    this.dial.show(plan, this.captured, this.frameless);
  }
}

/** Colour the track between the slider's zero and its thumb. */
function fillTrack(slider) {
  const part = (value) => (100 * (value - slider.min)) / (slider.max - slider.min);
  const [from, to] = [part(Math.max(0, slider.min)), part(Number(slider.value))];
  slider.style.setProperty("--from", `${Math.min(from, to)}%`);
  slider.style.setProperty("--to", `${Math.max(from, to)}%`);
}

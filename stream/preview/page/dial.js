// The shutter dial: rows against time, the captured exposure as a band, the virtual shutter as a bar to drag.

/** Colours of the page's present appearance (colours.css). */
function palette() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return { cool: of("cool-rgb"), warm: of("warm-rgb"), grid: of("grid"), strong: of("grid-strong"), edge: of("line"), soft: of("soft"), panel: of("panel") };
}

export class Dial {
  /**
   * @param canvas the element
   * @param on {moved(key, value), usable(key), ranges()}
   */
  constructor(canvas, on) {
    this.canvas = canvas;
    this.on = on;
    this.plan = null;
    this.captured = null;
    this.frameless = false;
    this.held = null;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", () => this.release());
    canvas.addEventListener("pointercancel", () => this.release());
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /**
   * Show a plan over the camera's exposure.
   * @param captured {exposure_us, period_us, row_delay_us, height} or null
   * @param frameless whether the source has events only
   */
  show(plan, captured, frameless) {
    this.plan = plan;
    this.captured = captured;
    this.frameless = frameless;
    this.draw();
  }

  draw() {
    const { canvas, plan } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.colours = palette();
    this.view = this.frame(width, height);
    this.axis(pen);
    if (!this.frameless) this.bands(pen);
    if (plan) this.shutters(pen);
  }

  /** What the canvas shows: [first, last] in us from the middle of a captured exposure, and where it is drawn. */
  frame(width, height) {
    const camera = this.captured ?? { exposure_us: 20000, period_us: 40000, row_delay_us: 0, height: 260 };
    const span = Math.max(camera.period_us, camera.exposure_us);
    const first = -0.72 * span - 2000;
    const last = 1.28 * span + 2000;
    const box = { left: 8, right: width - 8, top: 20, bottom: height - 22 };
    return { camera, first, last, box, x: (us) => box.left + ((us - first) / (last - first)) * (box.right - box.left) };
  }

  axis(pen) {
    const { first, last, box, x } = this.view;
    pen.font = `11px ${getComputedStyle(document.documentElement).fontFamily}`;
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    const step = tick((last - first) / Math.max(3, (box.right - box.left) / 56));
    for (let us = Math.ceil(first / step) * step; us <= last; us += step) {
      pen.fillStyle = us === 0 ? this.colours.strong : this.colours.grid;
      pen.fillRect(Math.round(x(us)), box.top, 1, box.bottom - box.top);
      pen.fillStyle = this.colours.soft;
      const label = `${us < 0 ? "−" : ""}${Math.abs(us / 1000)}${us === 0 ? " ms" : ""}`;
      if (x(us) > box.left + 8 && x(us) < box.right - 8) pen.fillText(label, x(us), box.bottom + 16);
    }
    pen.strokeStyle = this.colours.edge;
    pen.strokeRect(box.left + 0.5, box.top + 0.5, box.right - box.left - 1, box.bottom - box.top - 1);
  }

  bands(pen) {
    const { camera, box, x } = this.view;
    const lean = camera.row_delay_us * (camera.height - 1);
    for (const k of [-1, 0, 1, 2]) {
      const middle = k * camera.period_us;
      const from = middle - camera.exposure_us / 2 - lean / 2;
      this.slab(pen, from, from + camera.exposure_us, lean, `rgba(${this.colours.cool}, ${k === 0 ? 0.2 : 0.09})`, `rgba(${this.colours.cool}, ${k === 0 ? 0.7 : 0.28})`);
    }
    pen.textAlign = "left";
    pen.fillStyle = `rgb(${this.colours.cool})`;
    const left = Math.max(box.left, x(-camera.exposure_us / 2 - lean / 2));
    const label = camera.exposure_us > 0 ? `captured, ${round(camera.exposure_us / 1000)} ms` : "captured, an instant";
    pen.fillText(this.captured ? label : "captured, not seen yet", left, box.top - 7);
  }

  shutters(pen) {
    const { camera, first, last } = this.view;
    const { plan } = this;
    const { lean, middle } = this.bar();
    const every = this.gridded() ? 1e6 / plan.rate_hz : camera.period_us;
    const perPixel = (last - first) / (this.view.box.right - this.view.box.left);
    // Where bars would touch, fewer are drawn: the picture is of the shutter, the rate is a number beside it.
    const stride = Math.max(1, Math.ceil((7 * perPixel) / every)) * every;
    const reach = Math.abs(lean) + plan.exposure_us;
    const fill = plan.exposure_us < 0.6 * stride ? `rgba(${this.colours.warm}, .08)` : "transparent";
    for (let t = middle - Math.ceil((middle - first + reach) / stride) * stride; t < last + reach; t += stride) {
      if (Math.abs(t - middle) > 1) this.slab(pen, t - plan.exposure_us / 2, t + plan.exposure_us / 2, lean, fill, `rgba(${this.colours.warm}, .24)`);
    }
    const from = middle - plan.exposure_us / 2;
    this.slab(pen, from, from + plan.exposure_us, lean, `rgba(${this.colours.warm}, .4)`, `rgb(${this.colours.warm})`, 2);
    this.grips(pen, from, lean);
  }

  grips(pen, from, lean) {
    const { box, x } = this.view;
    const grip = (us, y, radius) => {
      pen.beginPath();
      pen.arc(clamp(x(us), box.left, box.right), y, radius, 0, 7);
      pen.fillStyle = this.colours.panel;
      pen.fill();
      pen.lineWidth = 2;
      pen.strokeStyle = `rgb(${this.colours.warm})`;
      pen.stroke();
    };
    const half = (box.top + box.bottom) / 2;
    if (this.on.usable("exposure_us")) grip(from + this.plan.exposure_us + lean / 2, half, 5);
    if (this.on.usable("row_delay_us")) grip(from + this.plan.exposure_us / 2 + lean, box.bottom, 5);
  }

  slab(pen, from, to, lean, fill, line, thick = 1) {
    const { box, x } = this.view;
    pen.save();
    pen.beginPath();
    pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    pen.clip();
    pen.beginPath();
    pen.moveTo(x(from), box.top);
    pen.lineTo(x(to), box.top);
    pen.lineTo(x(to + lean), box.bottom);
    pen.lineTo(x(from + lean), box.bottom);
    pen.closePath();
    pen.fillStyle = fill;
    pen.fill();
    pen.lineWidth = thick;
    pen.strokeStyle = line;
    pen.stroke();
    pen.restore();
  }

  /** The virtual shutter that is dragged: the middle of its first row, and how far the last row lies behind. */
  bar() {
    const { camera } = this.view;
    const { plan } = this;
    const lean = plan.name === "reshutter" ? plan.row_delay_us * (camera.height - 1)
      : plan.name === "deblur" ? camera.row_delay_us * (camera.height - 1) : 0;
    const offset = this.on.usable("offset_us") ? plan.offset_us : 0;
    return { lean, middle: offset - lean / 2 };
  }

  gridded() {
    return this.plan.name === "upsample" || this.plan.name === "reshutter";
  }

  press(event) {
    if (!this.plan || !this.view) return;
    const { camera, box, x } = this.view;
    const at = { x: event.offsetX, y: event.offsetY };
    const { lean, middle } = this.bar();
    const near = (us, y, reach) => Math.hypot(at.x - x(us), at.y - y) < reach;
    let key = this.on.usable("offset_us") ? "offset_us" : "exposure_us";
    if (this.on.usable("row_delay_us") && near(middle + lean, box.bottom, 18)) key = "row_delay_us";
    else if (near(middle + this.plan.exposure_us / 2 + lean / 2, (box.top + box.bottom) / 2, 18)) key = "exposure_us";
    if (!this.on.usable(key)) return;
    this.held = { key, from: at.x, value: this.plan[key], rows: Math.max(1, camera.height - 1) };
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.classList.add("held");
  }

  drag(event) {
    if (!this.held) return;
    const { first, last, box } = this.view;
    const us = ((event.offsetX - this.held.from) * (last - first)) / (box.right - box.left);
    const range = this.on.ranges()[this.held.key];
    if (this.held.key === "offset_us") this.set(clamp(this.held.value + us, -range, range), 10);
    if (this.held.key === "exposure_us") this.set(clamp(this.held.value + 2 * us, 0, range), 10);
    if (this.held.key === "row_delay_us") this.set(clamp(this.held.value + (2 * us) / this.held.rows, -range, range), 0.1);
  }

  set(value, step) {
    this.on.moved(this.held.key, Number((Math.round(value / step) * step).toFixed(1)));
  }

  release() {
    this.held = null;
    this.canvas.classList.remove("held");
  }

  key(event) {
    const key = this.on.usable("offset_us") ? "offset_us" : "exposure_us";
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
    if (!this.plan || !this.on.usable(key) || (step === undefined && event.key !== "Home")) return;
    event.preventDefault();
    const range = this.on.ranges()[key];
    const value = step === undefined ? 0 : this.plan[key] + step * (event.shiftKey ? 10 : 100);
    this.on.moved(key, clamp(value, key === "offset_us" ? -range : 0, range));
  }
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

function round(value) {
  return Number(value.toFixed(value < 10 ? 2 : 1));
}

/** The next round step of 1, 2 or 5 times a power of ten. */
function tick(about) {
  const power = 10 ** Math.floor(Math.log10(about));
  return [1, 2, 5, 10].map((n) => n * power).find((step) => step >= about);
}

// Zoom and pan of all films together: wheel, pinch, drag, double click, keys.

const MOST = 32;

export class Zoom {
  /**
   * @param films elements whose `.layer`s are moved
   * @param changed called after every change
   */
  constructor(films, changed) {
    this.films = films;
    this.changed = changed;
    this.fingers = new Map();
    this.scale = 1;
    this.x = this.y = 0;
    for (const film of films) {
      film.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      film.addEventListener("dblclick", () => this.reset());
      film.addEventListener("pointerdown", (event) => this.press(event));
      film.addEventListener("pointermove", (event) => this.drag(event));
      for (const end of ["pointerup", "pointercancel"]) film.addEventListener(end, (event) => this.release(event));
    }
  }

  reset() {
    this.scale = 1;
    this.x = this.y = 0;
    this.apply(this.films[0]);
  }

  /** Zoom by a factor around a point of a film; without one, around its middle. */
  by(factor, film = this.films[0], at = { x: film.clientWidth / 2, y: film.clientHeight / 2 }) {
    const scale = Math.min(MOST, Math.max(1, this.scale * factor));
    this.x = at.x - ((at.x - this.x) * scale) / this.scale;
    this.y = at.y - ((at.y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.apply(film);
  }

  wheel(event) {
    event.preventDefault();
    this.by(1.0015 ** -event.deltaY, event.currentTarget, place(event));
  }

  press(event) {
    if (event.target.closest(".wiper") || (event.pointerType === "mouse" && event.button !== 0)) return;
    this.fingers.set(event.pointerId, place(event));
    if (this.scale > 1 || this.fingers.size > 1) {
      event.currentTarget.setPointerCapture(event.pointerId);
      event.currentTarget.classList.add("held");
    }
  }

  drag(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) return;
    const now = place(event);
    const other = [...this.fingers].find(([id]) => id !== event.pointerId)?.[1];
    this.fingers.set(event.pointerId, now);
    if (other) {
      this.by(Math.hypot(now.x - other.x, now.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y)), event.currentTarget,
        { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    } else if (this.scale > 1) {
      this.x += now.x - before.x;
      this.y += now.y - before.y;
      this.apply(event.currentTarget);
    }
  }

  release(event) {
    this.fingers.delete(event.pointerId);
    event.currentTarget.classList.remove("held");
  }

  /** Move the layers; a picture never leaves its film. */
  apply(film) {
    this.x = Math.min(0, Math.max(film.clientWidth * (1 - this.scale), this.x));
    this.y = Math.min(0, Math.max(film.clientHeight * (1 - this.scale), this.y));
    for (const each of this.films) {
      each.classList.toggle("zoomed", this.scale > 1);
      for (const layer of each.querySelectorAll(".layer")) {
        layer.style.transform = this.scale > 1 ? `translate(${this.x}px, ${this.y}px) scale(${this.scale})` : "";
      }
    }
    this.changed();
  }
}

/** Where a pointer is within its film. */
function place(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

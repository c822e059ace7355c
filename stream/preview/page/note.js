// What is said below a field: how the newest wish of it went. A refusal stays until something else is put in.

const byId = (id) => document.getElementById(id);
const WORDS = { pending: "Being carried out; the stream goes on meanwhile", done: "Done" };

export class Note {
  /**
   * @param id of the element that says it
   * @param fields ids of what is put in
   * @param refused called when a wish is refused
   */
  constructor(id, fields, refused = () => {}) {
    this.element = byId(id);
    this.refused = refused;
    this.number = 0;
    this.failed = 0;
    this.refusal = "";
    for (const field of fields) for (const put of ["input", "change"]) byId(field).addEventListener(put, () => this.forget());
  }

  /** Say why a wish is not carried out. */
  refuse(text) {
    this.refusal = text;
    this.put(text);
    this.refused();
  }

  forget() {
    this.refusal = "";
    this.put("");
  }

  /** Remember a wish that was taken: its outcome comes with the status. */
  follow(number) {
    this.number = number;
  }

  /** Say how the wish that is followed went, as the status tells it; else `otherwise`. */
  show(change, otherwise = "") {
    const own = change?.number === this.number ? change : null;
    if (own?.state === "failed" && this.failed !== own.number) {
      this.failed = own.number;
      this.refuse(own.error);
    }
    if (!this.refusal) this.put((own?.state === "done" && otherwise) || WORDS[own?.state] || otherwise);
  }

  put(text) {
    if (this.element.textContent !== text) this.element.textContent = text;
    this.element.classList.toggle("bad", this.refusal !== "");
  }
}

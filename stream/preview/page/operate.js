// Who changes the stream for everyone: whoever may, and has said so once where others look too; what stops it is asked each time.

const byId = (id) => document.getElementById(id);
const SAID = "nire-live-operates";

export class Operate {
  /** @param left called when a change that was held is not made */
  constructor(left) {
    this.allowed = true;
    this.alone = false;
    this.held = null;
    this.left = left;
    byId("ask-yes").addEventListener("click", () => this.change());
    byId("ask-no").addEventListener("click", () => this.leave());
  }

  /** Whether this page may change the stream at all; a page that only looks says so. */
  allow(allowed) {
    this.allowed = allowed;
    document.body.classList.toggle("read-only", !allowed);
    byId("read-only").hidden = allowed;
    byId("stream").hidden = !allowed;
  }

  /** Whether a change waits for the person's word. */
  get waits() {
    return this.held !== null;
  }

  /** Change something for everyone: at once where nobody else looks or that was agreed to in this tab, else once it is. */
  wish(action) {
    if (!this.allowed) return;
    if (this.alone || sessionStorage.getItem(SAID)) return action();
    this.held = action;
    byId("ask").hidden = false;
  }

  change() {
    sessionStorage.setItem(SAID, "yes");
    const action = this.held;
    this.held = null;
    byId("ask").hidden = true;
    action?.();
  }

  leave() {
    this.held = null;
    byId("ask").hidden = true;
    this.left();
  }

  /** Ask before something that everybody notices. */
  confirm({ title, text, yes }, action) {
    if (!this.allowed) return;
    const sheet = byId("confirm");
    byId("confirm-title").textContent = title;
    byId("confirm-text").textContent = text;
    byId("confirm-yes").textContent = yes;
    sheet.returnValue = "no";
    sheet.onclose = () => { if (sheet.returnValue === "yes") action(); };
    sheet.showModal();
  }
}

// The WebSocket to the preview server: comes back by itself, decodes what belongs together, sends the newest wish only.

export const NOT_ADMITTED = "This address is no longer valid: the stream was started again. Its new address is in the terminal.";

export class Link {
  /**
   * @param on {hello(message), moment(head, pictures), state(message), values(message), reply(message), lost(admitted)}
   * @param camera to follow instead of the one in the page's address
   */
  constructor(on, camera = "") {
    this.on = on;
    this.camera = camera;
    this.name = "";
    this.admitted = true;
    this.wishes = new Map();
    this.waiting = new Map();
    this.number = 0;
    this.delay = 250;
    this.connect();
  }

  connect() {
    const url = new URL("ws", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.search = location.search;
    if (this.camera) url.searchParams.set("camera", this.camera);
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = (event) => {
      if (typeof event.data === "string") this.text(JSON.parse(event.data));
      else this.moment(event.data);
    };
    this.socket.onclose = () => {
      this.waiting.clear();
      this.wishes.clear();
      this.on.lost(this.admitted);
      setTimeout(() => this.comeBack(), this.delay);
      this.delay = Math.min(this.delay * 1.6, 4000);
    };
  }

  /** Connect again. A browser does not tell why that fails: whether there is a server that does not let this page in. */
  async comeBack() {
    const answer = await fetch(location.href, { method: "HEAD", cache: "no-store" }).catch(() => null);
    this.admitted = answer?.status !== 403;
    this.on.lost(this.admitted);
    this.connect();
  }

  /** Send what the server should know; lost where there is no connection. */
  tell(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** Ask the stream. While an answer is awaited, wishes of the same command are merged and the newest values win. */
  ask(command, fields = {}) {
    if ([...this.waiting.values()].includes(command)) {
      const old = this.wishes.get(command) ?? {};
      this.wishes.set(command, fields.plan ? { plan: { ...old.plan, ...fields.plan } } : fields);
      return;
    }
    this.number += 1;
    this.waiting.set(this.number, command);
    this.tell({ type: "ask", id: this.number, command, fields });
  }

  /** Whether an answer to `command` is still on its way. */
  asking(command) {
    return this.wishes.has(command) || [...this.waiting.values()].includes(command);
  }

  text(message) {
    if (message.type === "hello") {
      this.delay = 250;
      this.name = message.name;
      this.on.hello(message);
    } else if (message.type === "state") this.on.state(message);
    else if (message.type === "values") this.on.values(message);
    else if (message.type === "reply") {
      this.waiting.delete(message.id);
      const next = this.wishes.get(message.command);
      this.wishes.delete(message.command);
      if (next) this.ask(message.command, next);
      this.on.reply(message);
    }
  }

  /** Decode the images of one moment together, so that they change together. */
  async moment(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    let at = 4 + length;
    try {
      const decoded = head.parts.map((part) => {
        const type = part.kind === "events" ? "image/png" : "image/jpeg";
        const file = new Blob([new Uint8Array(buffer, at, part.bytes)], { type });
        at += part.bytes;
        return createImageBitmap(file);
      });
      const bitmaps = await Promise.all(decoded);
      this.on.moment(head, head.parts.map((facts, i) => ({ facts, bitmap: bitmaps[i] })));
    } finally {
      // Only now may the next one come: a slow browser gets fewer images, never old ones.
      this.tell({ type: "ack" });
    }
  }
}

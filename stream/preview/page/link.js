// The WebSocket to the preview server: comes back by itself, decodes images in order, sends the newest wish only.

export class Link {
  /** @param on {image(head, bitmap), state(message), reply(message), open(), lost()} */
  constructor(on) {
    this.on = on;
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
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => { this.delay = 250; this.on.open(); };
    this.socket.onmessage = (event) => {
      if (typeof event.data === "string") this.text(JSON.parse(event.data));
      else this.image(event.data);
    };
    this.socket.onclose = () => {
      this.waiting.clear();
      this.wishes.clear();
      this.on.lost();
      setTimeout(() => this.connect(), this.delay);
      this.delay = Math.min(this.delay * 1.6, 4000);
    };
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
    if (message.type === "state") return this.on.state(message);
    if (message.type !== "reply") return;
    this.waiting.delete(message.id);
    const next = this.wishes.get(message.command);
    this.wishes.delete(message.command);
    if (next) this.ask(message.command, next);
    this.on.reply(message);
  }

  async image(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const type = head.kind === "events" ? "image/png" : "image/jpeg";
    try {
      this.on.image(head, await createImageBitmap(new Blob([new Uint8Array(buffer, 4 + length)], { type })));
    } finally {
      // Only now may the next one come: a slow browser gets fewer images, never old ones.
      this.tell({ type: "ack", kind: head.kind });
    }
  }
}

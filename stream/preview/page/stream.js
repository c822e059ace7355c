// The sheet of what holds for everyone: pause, and what the stream is.

const byId = (id) => document.getElementById(id);

export class StreamSheet {
  /**
   * @param link to the server
   * @param operate who may change it
   */
  constructor(link, operate) {
    this.link = link;
    this.paused = false;
    byId("pause-all").addEventListener("click", () => {
      if (this.paused) return link.ask("resume");
      operate.confirm({
        title: "Pause for everyone?",
        text: "No images are exposed until it goes on, on no page and for no program that receives this stream. To hold the picture here only, press Hold.",
        yes: "Pause for everyone",
      }, () => link.ask("pause"));
    });
  }

  /** Show what the stream says of itself. */
  show({ address, status }) {
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
}

/** Seconds as a person reads them. */
export function duration(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const text = parts.map((part) => String(part).padStart(2, "0")).join(":");
  return text.startsWith("00:") ? text.slice(3) : text;
}

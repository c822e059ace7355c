// A replay: held, stepped, played at another speed and from another place, for everyone.

const byId = (id) => document.getElementById(id);

export class Replay {
  /**
   * @param link to the server
   * @param operate who may change it
   */
  constructor(link, operate) {
    this.link = link;
    this.operate = operate;
    this.replay = null;
    this.dragged = false;
    const at = byId("replay-at");
    at.addEventListener("input", () => { this.dragged = true; this.time(Number(at.value) / 1000); });
    at.addEventListener("change", () => {
      this.dragged = false;
      if (this.replay) this.play({ at_us: Math.round((Number(at.value) / 1000) * this.replay.length_us) });
    });
    byId("replay-hold").addEventListener("click", () => this.hold());
    byId("replay-step").addEventListener("click", () => this.step());
    byId("replay-speed").addEventListener("change", (event) => this.play({ speed: Number(event.target.value) }));
  }

  hold() {
    if (this.replay) this.play({ held: !this.replay.held });
  }

  step() {
    if (this.replay) this.play({ step: true });
  }

  play(wishes) {
    this.operate.wish(() => this.link.ask("play", { play: wishes }));
  }

  /** Show where it is, as the stream tells it; a camera has no replay. */
  show(replay) {
    this.replay = replay ?? null;
    byId("replay").hidden = !replay;
    document.body.classList.toggle("has-replay", Boolean(replay));
    if (!replay) return;
    const { allowed } = this.operate;
    for (const id of ["replay-hold", "replay-step", "replay-speed"]) byId(id).disabled = !allowed;
    byId("replay-at").disabled = !allowed || !replay.length_us;
    byId("replay-hold").setAttribute("aria-pressed", String(replay.held));
    const speed = byId("replay-speed");
    if (![...speed.options].some((option) => Number(option.value) === replay.speed)) speed.add(new Option(`${replay.speed}×`, replay.speed));
    if (document.activeElement !== speed) speed.value = String(replay.speed);
    if (this.dragged) return;
    const share = replay.length_us ? replay.at_us / replay.length_us : 0;
    byId("replay-at").value = Math.round(1000 * share);
    byId("replay-at").style.setProperty("--from", "0%");
    byId("replay-at").style.setProperty("--to", `${100 * share}%`);
    this.time(share);
  }

  time(share) {
    const { at_us, length_us } = this.replay;
    const seconds = (us) => (us / 1e6).toFixed(2);
    byId("replay-time").textContent = length_us ? `${seconds(share * length_us)} / ${seconds(length_us)} s` : `${seconds(at_us)} s`;
  }
}

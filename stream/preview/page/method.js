// A method in words: what makes the images, and what runs it.

const ENGINES = { auto: "fastest", eager: "torch", openvino: "OpenVINO", physics: "no network" };
const BACKENDS = {
  edi: () => "double integral (edi)",
  flow: () => "optical flow (flow)",
  neural: (engine, set) => `network ${network(set)}${engine ? ` by ${engineWords(engine)}` : ""}`,
  events_only: (engine) => `events alone${engine ? `, ${engine === "physics" ? "" : "by "}${engineWords(engine)}` : ""}`,
  passthrough: () => "as captured (passthrough)",
};

/**
 * Say what makes the images.
 * @param backend, engine of the newest image
 * @param set `[reconstructor]` of the stream, or undefined
 */
export function methodWords(backend, engine, set) {
  return BACKENDS[backend]?.(engine, set ?? {}) ?? [backend, engine].filter(Boolean).join(", ");
}

/** Say what runs a network. */
export function engineWords(engine) {
  return ENGINES[engine] ?? engine;
}

/** Its size, or the file that its weights are from. */
function network({ weights, size }) {
  return weights ? weights.split("/").pop().replace(/\.safetensors$/, "") : size ?? "";
}

"use strict";
/* What every page shares: it unpacks the weights and the WASM runtime from the page itself, runs programs, and shows
   either what the model's own script makes or a form of tensors. Nothing is fetched. */
const daybreak = (() => {
  const about = JSON.parse(document.getElementById("about").textContent);
  const started = performance.now();
  let shown = null;

  // 15 bits a letter, from U+3400 on: letters that HTML leaves alone.
  function letters(text, size) {
    const out = new Uint8Array(size);
    let held = 0, bits = 0, n = 0;
    for (let i = 0; i < text.length; i++) {
      held = (held << 15) | (text.charCodeAt(i) - 0x3400);
      bits += 15;
      while (bits >= 8 && n < size) {
        bits -= 8;
        out[n++] = held >> bits;
      }
      held &= (1 << bits) - 1;
    }
    return out;
  }

  async function unzipped(data) {
    const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // Weights that 16 bits hold exactly travel so.
  function widened(data) {
    const table = new Float32Array(65536);
    for (let h = 0; h < 65536; h++) {
      const sign = h & 0x8000 ? -1 : 1, power = (h >> 10) & 31, rest = h & 1023;
      table[h] = power === 0 ? sign * rest * 2 ** -24
        : power === 31 ? (rest ? NaN : sign * Infinity) : sign * (1 + rest / 1024) * 2 ** (power - 15);
    }
    const half = new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
    const out = new Float32Array(half.length);
    for (let i = 0; i < half.length; i++) out[i] = table[half[i]];
    return new Uint8Array(out.buffer);
  }

  async function files() {
    const element = document.getElementById("files");
    const packed = letters(element.textContent, about.packed);
    element.remove();
    const found = {};
    await Promise.all(about.files.map(async file => {
      const parts = await Promise.all(file.parts.map(async part => {
        const data = await unzipped(packed.subarray(part.at, part.at + part.size));
        return part.half ? widened(data) : data;
      }));
      const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
      parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
      found[file.name] = whole;
    }));
    return found;
  }

  // A module with one function that gives a v128: it is valid where SIMD is.
  const SIMD = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 22, 1, 20, 0, 253, 12,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]);

  /* What the page needs and this browser does not have, in words. */
  function lacking() {
    if (typeof WebAssembly !== "object") return "WebAssembly";
    if (!WebAssembly.validate(SIMD)) return "WebAssembly SIMD";
    return typeof DecompressionStream === "function" ? "" : "DecompressionStream";
  }

  const sessions = {};
  async function start() {
    const lacks = lacking();
    if (lacks) throw new Error(`this browser has no ${lacks}; Chrome 91, Firefox 113 and Safari 16.4 have, and newer ones`);
    const found = await files();
    const url = name => URL.createObjectURL(new Blob([found[name]], {type: "text/javascript"}));
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.proxy = false;
    ort.env.wasm.wasmBinary = found["runtime.wasm"].buffer;
    ort.env.wasm.wasmPaths = {mjs: url("runtime.mjs")};
    const weights = found["weights.bin"];
    for (const name of Object.keys(about.programs)) {
      const options = {executionProviders: ["wasm"], graphOptimizationLevel: "basic"};
      if (weights) options.externalData = [{path: "weights.bin", data: weights}];
      sessions[name] = await ort.InferenceSession.create(found[name + ".onnx"], options);
    }
  }

  const KINDS = {
    float32: Float32Array, int64: BigInt64Array, int32: Int32Array, uint8: Uint8Array, bool: Uint8Array,
  };

  /* inputs: name -> {data, shape}; plain numbers become what the program takes. Answers the same, by output's name. */
  async function run(name, inputs) {
    const program = about.programs[name], feeds = {};
    for (const [key, told] of Object.entries(program.inputs)) {
      if (!(key in inputs)) throw new Error(`program ${name} wants an input ${key}`);
      const {data, shape} = inputs[key], Kind = KINDS[told.dtype];
      const held = data instanceof Kind ? data
        : told.dtype === "int64" ? BigInt64Array.from(data, x => BigInt(Math.round(Number(x)))) : Kind.from(data);
      feeds[key] = new ort.Tensor(told.dtype, held, shape);
    }
    const out = await sessions[name].run(feeds), answers = {};
    for (const key of program.outputs) answers[key] = {data: out[key].data, shape: out[key].dims};
    return answers;
  }

  /* The form that is shown where a model has no script of its own. */
  function form(root) {
    for (const [name, program] of Object.entries(about.programs)) {
      const part = document.createElement("form");
      part.innerHTML = `<h2></h2><p></p><div class="fields"></div><button>Run</button><pre aria-live="polite"></pre>`;
      part.querySelector("h2").textContent = name;
      part.querySelector("p").textContent = program.about;
      const fields = part.querySelector(".fields"), boxes = {};
      for (const [key, told] of Object.entries(program.inputs)) {
        const shape = told.shape.map(size => typeof size === "number" ? size : size.low);
        const label = document.createElement("label");
        const axes = told.shape.map(size => typeof size === "number" ? size : `${size.axis} ${size.low}–${size.high}`);
        label.textContent = `${key}: ${told.dtype} [${axes.join(", ")}] `;
        const box = document.createElement("textarea");
        const count = shape.reduce((a, b) => a * b, 1);
        box.value = JSON.stringify({shape, data: count <= 4096 ? Array(count).fill(0) : []});
        box.spellcheck = false;
        boxes[key] = box;
        label.append(box);
        fields.append(label);
      }
      const says = part.querySelector("pre");
      part.addEventListener("submit", async event => {
        event.preventDefault();
        try {
          const inputs = Object.fromEntries(Object.entries(boxes).map(([key, box]) => [key, JSON.parse(box.value)]));
          const out = await run(name, inputs);
          says.textContent = Object.entries(out).map(([key, {data, shape}]) => {
            const few = Array.from(data.slice(0, 64), x => typeof x === "bigint" ? String(x) : x.toPrecision(6));
            return `${key} [${shape.join(", ")}]: ${few.join(" ")}${data.length > 64 ? " ..." : ""}`;
          }).join("\n");
        } catch (error) {
          says.textContent = String(error.message || error);
        }
      });
      root.append(part);
    }
  }

  const model = {run, programs: about.programs, data: about.data, describe: about.describe};
  const ready = new Promise((resolve, reject) => addEventListener("DOMContentLoaded", async () => {
    const root = document.getElementById("root"), state = document.getElementById("state");
    try {
      await start();
      if (!shown || (await shown(root, model)) === false) form(root);
      state.textContent = "";
      document.body.dataset.ready = Math.round(performance.now() - started);
      window.model = model;
      resolve(model);
    } catch (error) {
      state.textContent = `This page cannot run here: ${error.message || error}`;
      reject(error);
    }
  }));
  return {page: made => { shown = made; }, ready, run, about};
})();

"use strict";
/* Composing in the page: the grammar of decode.py without given chords, the programs, a piano roll and a sound. */
daybreak.page(async (root, model) => {
  const T = model.data.tokens, fields = model.data.fields, templates = model.data.templates;
  const names = Object.keys(fields), column = name => names.indexOf(name);
  const value = (row, name) => row[column(name)] ? fields[name][row[column(name)] - 1] : null;
  const WEIGHTS = {genre: 8, role: 8, metre: 6, pitch_range: 4, rhythm: 4, density: 3, bars: 2, key: 1, bpm: 1};
  const words = text => String(text).replaceAll("_", " ");
  let seed = 1;

  // mulberry32: small, and the same everywhere.
  function generator(state) {
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  /* A training clip's keywords that agree with as many of those said as any does; those said go over it. */
  function completed(said, random) {
    const hits = templates.map(row => Object.entries(said).reduce(
      (sum, [name, v]) => sum + (WEIGHTS[name] || 0) * (value(row, name) === v), 0));
    const most = Math.max(...hits), best = templates.filter((_, n) => hits[n] === most);
    const row = [...best[Math.floor(random() * best.length)]];
    for (const [name, v] of Object.entries(said)) row[column(name)] = fields[name].indexOf(v) + 1;
    row[column("chords")] = 1;
    const usual = {metre: "4/4", bars: 8, role: "main_melody", bpm: 100, min_velocity: 15, max_velocity: 26};
    for (const [name, v] of Object.entries(usual))
      if (!row[column(name)]) row[column(name)] = fields[name].indexOf(v) + 1;
    return row;
  }

  /* Which tokens may come next: exact bars, positions and pitches that only go up, an end before the context ends. */
  class Automaton {
    constructor(row, room) {
      this.bars = value(row, "bars");
      this.length = model.data.beats[value(row, "metre")] * T.per_beat;
      const low = value(row, "min_velocity"), high = value(row, "max_velocity");
      this.velocities = [Math.min(low, high), Math.max(low, high)];
      const place = fields.pitch_range.indexOf(value(row, "pitch_range") || "mid");
      const reach = model.data.reach[value(row, "role")] || model.data.reach.usual;
      this.low = Math.max(0, (place ? T.range_cuts[place - 1] : 0) - reach);
      this.high = Math.min(127, (place < T.range_cuts.length ? T.range_cuts[place] : 127) + reach);
      Object.assign(this, {room, bar: 0, at: -1, pitch: -1, last: T.pad, notes: 0, silent: 0, heard: false});
    }
    get done() { return this.last === T.eos; }
    get spare() {
      const note = !this.notes && this.bar < this.bars ? 4 : 0;
      return this.room - 3 * (this.bars - this.bar) - note - 1;
    }
    choices() {
      const last = this.last, out = [], spare = this.spare;
      if (this.bar === 0) return [[T.bar, T.bar + 1]];
      if (last >= T.pitch && last < T.velocity)
        return [[T.velocity + this.velocities[0], T.velocity + this.velocities[1] + 1]];
      if (last >= T.velocity && last < T.duration) {
        const left = (this.bars - this.bar + 1) * this.length - this.at;
        return [[T.duration, T.duration + Math.min(left, T.longest)]];
      }
      if (last === T.bar) return [[T.chord, T.bass]];
      const position = last >= T.position && last < T.pitch;
      if (position && last > T.position && spare >= 6) out.push([T.chord, T.bass]);
      if (last >= T.chord && last < T.chord + T.no_chord) out.push([T.bass, T.stream]);
      if (this.at >= 0 && spare >= 3) {
        const first = Math.max(this.low, this.pitch + 1);
        if (first <= this.high) out.push([T.pitch + first, T.pitch + this.high + 1]);
      }
      if (!position) {
        const first = Math.max(this.at + 1, 0);
        if (spare >= 4 && first < this.length) out.push([T.position + first, T.position + this.length]);
        if (!this.heard && this.silent >= Math.floor(this.bars / 2) && spare >= 4) return out;
        if (this.bar < this.bars) out.push([T.bar, T.bar + 1]);
        else if (this.notes) out.push([T.eos, T.eos + 1]);
      }
      return out;
    }
    take(token) {
      if (token === T.bar) {
        this.silent += this.bar > 0 && !this.heard ? 1 : 0;
        Object.assign(this, {bar: this.bar + 1, at: -1, pitch: -1, heard: false});
      } else if (token >= T.position && token < T.pitch) Object.assign(this, {at: token - T.position, pitch: -1});
      else if (token >= T.pitch && token < T.velocity) this.pitch = token - T.pitch;
      else if (token >= T.duration && token < T.chord) { this.notes += 1; this.heard = true; }
      this.last = token;
      this.room -= 1;
    }
  }

  function choose(logits, choices, random, temperature, top) {
    const ids = choices.flatMap(([first, stop]) => Array.from({length: stop - first}, (_, n) => first + n));
    const scores = ids.map(id => logits[id]), most = Math.max(...scores);
    if (temperature === 0) return ids[scores.indexOf(most)];
    let mass = ids.map((id, n) => [id, Math.exp((scores[n] - most) / temperature)]).sort((a, b) => b[1] - a[1]);
    const whole = mass.reduce((sum, [, x]) => sum + x, 0);
    let sum = 0, keep = 0;
    while (keep < mass.length && sum < top * whole) sum += mass[keep++][1];
    mass = mass.slice(0, Math.max(1, keep));
    let draw = random() * mass.reduce((all, [, x]) => all + x, 0);
    for (const [id, x] of mass) if ((draw -= x) <= 0) return id;
    return mass[0][0];
  }

  async function compose(said, how, progress) {
    const random = generator(how.seed), row = completed(said, random);
    const state = new Automaton(row, T.context), tokens = [];
    const keywords = row.map((v, n) => v + T.offsets[n]);
    let waiting = [], marks = [], cache = null;
    while (!state.done) {
      const choices = state.choices();
      let token = choices[0][0];
      if (choices.length > 1 || choices[0][1] - choices[0][0] > 1) {
        const now = {tokens: {data: waiting, shape: [1, waiting.length]}, marks: {data: marks, shape: [1, waiting.length, 2]}};
        const out = cache ? await model.run("step", {...now, ...cache})
          : await model.run("prefill", {...now, keywords: {data: keywords, shape: [1, keywords.length]}});
        cache = {keys: out.keys_next, values: out.values_next};
        const logits = out.logits.data.subarray((waiting.length - 1) * T.stream, waiting.length * T.stream);
        waiting = [];
        marks = [];
        token = choose(logits, choices, random, how.temperature, how.top_p);
        if (progress && tokens.length % 8 === 0) await progress(state.bar, state.bars);
      }
      state.take(token);
      tokens.push(token);
      waiting.push(token);
      marks.push(Math.min(state.bar, T.most_bars), 0);
    }
    return {row, tokens, notes: decoded(tokens, state.length), length: state.length * state.bars, bar: state.length};
  }

  function decoded(tokens, length) {
    const notes = [];
    let bar = -1, at = 0, pitch = 0, velocity = 0;
    for (const token of tokens) {
      if (token === T.bar) { bar += 1; at = 0; }
      else if (token >= T.position && token < T.pitch) at = token - T.position;
      else if (token >= T.pitch && token < T.velocity) pitch = token - T.pitch;
      else if (token >= T.velocity && token < T.duration) velocity = 4 * (token - T.velocity) + 2;
      else if (token >= T.duration && token < T.chord)
        notes.push({at: bar * length + at, long: token - T.duration + 1, pitch, velocity});
    }
    return notes;
  }

  const quarters = row => model.data.quarters[value(row, "metre")];
  const second = row => 60 / value(row, "bpm") * quarters(row) / T.per_beat;

  function roll(clip) {
    const pitches = clip.notes.map(note => note.pitch), low = Math.min(...pitches) - 2, high = Math.max(...pitches) + 2;
    const wide = 960, tall = 280, x = at => at / clip.length * wide, step = tall / (high - low + 1);
    const lines = Array.from({length: clip.length / clip.bar}, (_, n) =>
      `<line x1="${x(n * clip.bar)}" x2="${x(n * clip.bar)}" y1="0" y2="${tall}" stroke="currentColor" opacity=".25"/>`);
    const boxes = clip.notes.map(note =>
      `<rect x="${x(note.at)}" y="${(high - note.pitch) * step}" width="${Math.max(2, x(note.long) - 1)}" height="${step}"
        rx="2" fill="var(--mark)" opacity="${0.4 + note.velocity / 220}"/>`);
    return `<svg viewBox="0 0 ${wide} ${tall}" role="img" aria-label="Piano roll of ${clip.notes.length} notes">`
      + `${lines.join("")}${boxes.join("")}</svg>`;
  }

  function midi(clip) {
    const long = n => {
      const out = [n & 127];
      while ((n >>= 7)) out.unshift((n & 127) | 128);
      return out;
    };
    const ticks = 40 * quarters(clip.row), events = [];
    for (const note of clip.notes) {
      events.push([note.at, 1, 0x90, note.pitch, note.velocity], [note.at + note.long, 0, 0x80, note.pitch, 0]);
    }
    events.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const tempo = Math.round(6e7 / value(clip.row, "bpm"));
    const [top, below] = value(clip.row, "metre").split("/").map(Number);
    const track = [0, 0xff, 0x51, 3, tempo >> 16, (tempo >> 8) & 255, tempo & 255,
      0, 0xff, 0x58, 4, top, Math.log2(below), 24, 8];
    let now = 0;
    for (const [at, , ...event] of events) {
      track.push(...long(Math.round((at - now) * ticks)), ...event);
      now = at;
    }
    track.push(0, 0xff, 0x2f, 0);
    const size = [track.length >>> 24, (track.length >> 16) & 255, (track.length >> 8) & 255, track.length & 255];
    return new Uint8Array([...[..."MThd"].map(c => c.charCodeAt(0)), 0, 0, 0, 6, 0, 0, 0, 1, 480 >> 8, 480 & 255,
      ...[..."MTrk"].map(c => c.charCodeAt(0)), ...size, ...track]);
  }

  let sound = null;
  function play(clip) {
    stop();
    sound = new AudioContext();
    const start = sound.currentTime + 0.08, unit = second(clip.row);
    for (const note of clip.notes) {
      const at = start + note.at * unit, end = at + Math.max(0.08, note.long * unit);
      const tone = sound.createOscillator(), gain = sound.createGain();
      tone.type = "triangle";
      tone.frequency.value = 440 * 2 ** ((note.pitch - 69) / 12);
      gain.gain.setValueAtTime(0, at);
      gain.gain.linearRampToValueAtTime(0.0016 * note.velocity, at + 0.01);
      gain.gain.exponentialRampToValueAtTime(0.001, end + 0.15);
      tone.connect(gain).connect(sound.destination);
      tone.start(at);
      tone.stop(end + 0.2);
    }
  }
  function stop() {
    if (sound) sound.close();
    sound = null;
  }

  const offered = name => fields[name].filter((_, n) => templates.some(row => row[column(name)] === n + 1));
  const choice = (name, label) => `<label>${label}<select name="${name}"><option value="">any</option>${
    offered(name).map(v => `<option value="${v}">${words(v)}</option>`).join("")}</select></label>`;
  root.innerHTML = `<form><div class="fields">${choice("role", "Role")}${choice("genre", "Genre")}${choice("key", "Key")}
    ${choice("metre", "Metre")}${choice("bars", "Bars")}
    <label>Temperature<input name="temperature" type="number" min="0" max="2" step="0.05" value="0.95"></label>
    <label>Seed<input name="seed" type="number" min="0" step="1" value="1"></label></div>
    <button id="compose">Compose</button><button id="play" type="button" disabled>Play</button>
    <button id="stop" type="button" disabled>Stop</button><button id="save" type="button" disabled>Save MIDI</button></form>
    <p id="says" role="status"></p><div id="roll"></div>`;
  const form = root.querySelector("form"), says = root.querySelector("#says");
  const button = name => root.querySelector(`#${name}`);
  let clip = null;

  form.addEventListener("submit", async event => {
    event.preventDefault();
    const given = new FormData(form), said = {};
    for (const name of ["role", "genre", "key", "metre", "bars"])
      if (given.get(name)) said[name] = name === "bars" ? Number(given.get(name)) : given.get(name);
    seed = Number(given.get("seed")) || 0;
    button("compose").disabled = true;
    const begun = performance.now();
    try {
      clip = await compose(said, {seed, temperature: Number(given.get("temperature")), top_p: 0.95}, async (bar, bars) => {
        says.textContent = `bar ${bar} of ${bars} ...`;
        await new Promise(resolve => setTimeout(resolve));
      });
      const took = ((performance.now() - begun) / 1000).toFixed(1);
      says.textContent = ["role", "genre", "key", "metre"].map(n => value(clip.row, n)).filter(v => v !== null).map(words)
        .concat(`${value(clip.row, "bars")} bars`, `${value(clip.row, "bpm")} bpm`).join(", ")
        + `; ${clip.notes.length} notes in ${took} s`;
      root.querySelector("#roll").innerHTML = roll(clip);
      form.elements.seed.value = seed + 1;
      for (const name of ["play", "stop", "save"]) button(name).disabled = false;
    } catch (error) {
      says.textContent = String(error.message || error);
    }
    button("compose").disabled = false;
  });
  button("play").addEventListener("click", () => clip && play(clip));
  button("stop").addEventListener("click", stop);
  button("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([midi(clip)], {type: "audio/midi"}));
    link.download = `daybreak-${seed}.mid`;
    link.click();
  });
  Object.assign(model, {compose, midi});
});

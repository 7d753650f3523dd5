"use strict";
// One player for the whole page, votes by key or button, and the votes as a file or as text. The votes stay in the
// browser's store where it has one, so that a reload loses nothing.
(() => {
  const key = document.body.dataset.key;
  const pairs = [...document.querySelectorAll(".pair")];
  const said = document.getElementById("said");
  const by = document.getElementById("by");
  const text = document.getElementById("text");
  const save = document.getElementById("save");
  const done = document.getElementById("done");
  const store = `daybreak-listen-${key}`;
  let votes = {};
  let at = 0;
  let playing = null;

  const cellOf = (pair, side) => pair.querySelector(`.cell[data-side="${side}"]`);

  function select(n, scroll) {
    at = n;
    pairs.forEach((pair, i) => pair.classList.toggle("on", i === n));
    if (scroll) pairs[n].scrollIntoView({ block: "nearest" });
  }

  function play(n, side) {
    const cell = cellOf(pairs[n], side);
    const sound = cell.querySelector("audio");
    // The same moment of the other side: both have the same bars, so that like is heard against like.
    const other = playing && playing !== sound && !playing.ended && pairs[n].contains(playing) ? playing.currentTime : null;
    if (playing && playing !== sound) playing.pause();
    select(n, true);
    document.querySelectorAll(".cell.on").forEach((one) => one.classList.remove("on"));
    cell.classList.add("on");
    const begin = () => {
      if (other !== null) sound.currentTime = Math.min(other, Math.max(0, (sound.duration || 0) - 0.05));
      else if (sound.ended) sound.currentTime = 0;
    };
    playing = sound;
    if (sound.readyState > 0) begin(); else sound.addEventListener("loadedmetadata", begin, { once: true });
    const started = sound.play();
    if (started) started.catch(() => undefined);
    said.textContent = `playing ${side.toUpperCase()} of pair ${n + 1}`;
  }

  function toggle() {
    if (playing && pairs[at].contains(playing)) {
      if (!playing.paused) { playing.pause(); said.textContent = "paused"; return; }
      play(at, playing.closest(".cell").dataset.side);
    } else play(at, "a");
  }

  function move(step) {
    const next = at + step;
    if (next < 0 || next >= pairs.length) return;
    if (playing) playing.pause();
    select(next, true);
    said.textContent = `pair ${next + 1}`;
  }

  function vote(n, choice) {
    votes[pairs[n].dataset.pair] = { choice, at: new Date().toISOString() };
    select(n, false);
    said.textContent = `pair ${n + 1}: ${choice === "none" ? "no preference" : `${choice.toUpperCase()} is better`}`;
    paint();
  }

  function paint() {
    pairs.forEach((pair) => {
      const mine = votes[pair.dataset.pair];
      pair.classList.toggle("voted", Boolean(mine));
      pair.querySelectorAll("[data-choice]").forEach((button) => {
        button.setAttribute("aria-pressed", String(Boolean(mine) && mine.choice === button.dataset.choice));
      });
      // What was composed is seen after it was judged by ear.
      if (mine) pair.querySelectorAll("img").forEach((roll) => { roll.hidden = false; });
    });
    document.getElementById("count").textContent = String(Object.keys(votes).length);
    text.value = JSON.stringify({ format: 1, key, by: by.value.trim(), votes }, null, 1);
    save.href = `data:application/json;charset=utf-8,${encodeURIComponent(text.value)}`;
    save.download = `votes-${key}.json`;
    try { localStorage.setItem(store, text.value); } catch { /* a browser without a store: the votes live on the page */ }
  }

  function recall() {
    try {
      const held = JSON.parse(localStorage.getItem(store) || "null");
      if (!held || held.key !== key) return;
      const known = new Set(pairs.map((pair) => pair.dataset.pair));
      votes = Object.fromEntries(Object.entries(held.votes).filter(([id]) => known.has(id)));
      by.value = held.by;
    } catch { votes = {}; }
  }

  pairs.forEach((pair, n) => {
    pair.querySelector(".vote").hidden = false;
    pair.querySelectorAll("[data-choice]").forEach((button) => {
      button.addEventListener("click", () => vote(n, button.dataset.choice));
    });
    pair.querySelectorAll(".cell").forEach((cell) => {
      const sound = cell.querySelector("audio");
      const button = cell.querySelector(".play");
      const line = cell.querySelector(".line-of-time");
      sound.controls = false;
      sound.hidden = true;
      button.hidden = line.hidden = false;
      button.addEventListener("click", () => {
        if (playing === sound && !sound.paused) { sound.pause(); return; }
        play(n, cell.dataset.side);
      });
      const show = () => {
        button.textContent = sound.paused ? "play" : "pause";
        line.firstElementChild.style.width = `${100 * sound.currentTime / (sound.duration || 1)}%`;
      };
      ["play", "pause", "ended", "timeupdate", "seeked"].forEach((name) => sound.addEventListener(name, show));
    });
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    const pressed = event.key.toLowerCase();
    if (pressed === "1") vote(at, "a");
    else if (pressed === "2") vote(at, "b");
    else if (pressed === "0") vote(at, "none");
    else if (pressed === "a" || pressed === "b") play(at, pressed);
    else if (pressed === "k") toggle();
    else if (pressed === "j") move(-1);
    else if (pressed === "l") move(1);
    else return;
    event.preventDefault();
  });

  by.addEventListener("input", paint);
  document.getElementById("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.value);
      done.textContent = "copied";
    } catch {
      text.select();
      done.textContent = "select and copy the text below";
    }
  });
  recall();
  select(0, false);
  paint();
})();

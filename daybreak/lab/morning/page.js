"use strict";
// What a script adds: one player for the whole page, keys, open on a link, open to print, copy. Without it the page
// still reads: players have their own controls and rows open by themselves.
(() => {
  const rows = [...document.querySelectorAll(".item")].map((row) => [...row.querySelectorAll(".cell")]);
  const said = document.getElementById("said");
  let at = { row: 0, column: 0 };
  let playing = null;

  const cellAt = () => (rows[at.row] || [])[at.column];
  const soundOf = (cell) => cell && cell.querySelector("audio");

  function show(cell) {
    document.querySelectorAll(".cell.on").forEach((other) => other.classList.remove("on"));
    if (!cell) return;
    cell.classList.add("on");
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  function stop() {
    if (playing) playing.pause();
  }

  function play(cell, from) {
    stop();
    const sound = soundOf(cell);
    show(cell);
    if (!sound) return;
    playing = sound;
    // The same moment of the same item: a change of column is heard as a change of model alone.
    const begin = () => { sound.currentTime = Math.min(from, Math.max(0, (sound.duration || 0) - 0.05)); };
    if (sound.readyState > 0) begin(); else sound.addEventListener("loadedmetadata", begin, { once: true });
    const started = sound.play();
    if (started) started.catch(() => undefined);
    said.textContent = `playing ${cell.dataset.name}, item ${at.row + 1}`;
  }

  function toggle() {
    const cell = cellAt();
    const sound = soundOf(cell);
    if (sound && sound === playing && !sound.paused) { sound.pause(); said.textContent = "paused"; return; }
    play(cell, sound && sound === playing && !sound.ended ? sound.currentTime : 0);
  }

  function move(rowBy) {
    const next = at.row + rowBy;
    if (next < 0 || next >= rows.length) return;
    const live = playing && !playing.paused;
    at = { row: next, column: Math.min(at.column, rows[next].length - 1) };
    if (live) play(cellAt(), 0); else show(cellAt());
  }

  function column(number) {
    if (!rows[at.row] || number >= rows[at.row].length) return;
    const live = playing && !playing.paused;
    const moment = playing && !playing.ended ? playing.currentTime : 0;
    at.column = number;
    if (live) play(cellAt(), moment); else show(cellAt());
  }

  rows.forEach((row, r) => row.forEach((cell, c) => {
    const sound = soundOf(cell);
    if (!sound) return;
    const button = cell.querySelector("button");
    const line = cell.querySelector(".line-of-time");
    sound.controls = false;
    sound.hidden = true;
    button.hidden = line.hidden = false;
    button.addEventListener("click", () => {
      const same = at.row === r && playing && !playing.ended;
      const moment = same ? playing.currentTime : 0;
      const own = playing === sound && !sound.paused;
      at = { row: r, column: c };
      if (own) toggle(); else play(cell, moment);
    });
    const paint = () => {
      button.textContent = sound.paused ? "play" : "pause";
      line.firstElementChild.style.width = `${100 * sound.currentTime / (sound.duration || 1)}%`;
    };
    ["play", "pause", "ended", "timeupdate", "seeked"].forEach((name) => sound.addEventListener(name, paint));
  }));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !rows.length) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    const key = event.key.toLowerCase();
    if (key === "j") move(-1);
    else if (key === "l") move(1);
    else if (key === "k") toggle();
    else if (/^[1-9]$/.test(key)) column(Number(key) - 1);
    else return;
    event.preventDefault();
  });

  // A link to a finding opens the row that holds it.
  function open() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let held = target; held; held = held.parentElement) if (held.tagName === "DETAILS") held.open = true;
    target.scrollIntoView({ block: "center" });
  }
  addEventListener("hashchange", open);
  open();

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details.run:not([open])")];
    closed.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((one) => { one.open = false; }));

  document.querySelectorAll("[data-copy]").forEach((button) => {
    if (!navigator.clipboard) return;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        button.textContent = "copied";
      } catch { button.textContent = "cannot copy here"; }
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  });
})();

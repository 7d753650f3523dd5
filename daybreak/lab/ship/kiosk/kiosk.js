"use strict";
// The attract loop, and the reset after nobody touched the screen for a while. KIOSK stands before this script.
(() => {
  const KINDS = ["pointerdown", "keydown", "touchstart", "wheel"];
  let last = Date.now(), touched = false, overlay = null, turn = 0;

  const make = (tag, text, parent) => {
    const made = document.createElement(tag);
    if (text) made.textContent = text;
    parent.append(made);
    return made;
  };

  const step = () => {
    if (!overlay) return;
    const model = KIOSK.models[turn % KIOSK.models.length];
    const box = overlay.querySelector("div");
    box.replaceChildren();
    make("h1", KIOSK.title, box);
    make("h2", model.name, box);
    make("p", model.line, box);
    make("p", KIOSK.touch[turn % KIOSK.touch.length], box).className = "touch";
    turn += 1;
  };

  const attract = () => {
    if (overlay || !KIOSK.models.length) return;
    overlay = document.createElement("dialog");
    overlay.id = "attract";
    overlay.setAttribute("aria-label", KIOSK.touch.join(" · "));
    make("div", "", overlay);
    document.body.append(overlay);
    overlay.showModal();
    step();
  };

  const touch = () => {
    last = Date.now();
    if (overlay) {
      overlay.remove();
      overlay = null;
      return;
    }
    touched = true;
  };

  for (const kind of KINDS)
    addEventListener(kind, touch, {capture: true, passive: true});
  // A touch inside a model's page is one too: the page is in a frame of this origin.
  document.addEventListener("load", (event) => {
    if (event.target.tagName !== "IFRAME") return;
    for (const kind of KINDS) event.target.contentWindow.addEventListener(kind, touch, {capture: true, passive: true});
  }, true);
  // Every key opens Gradio's lists, the Tab key that leaves one too, and then it stays open: Tab is kept from it.
  addEventListener("keydown", (event) => {
    if (event.key === "Tab" && event.target.matches?.('[role="combobox"]')) event.stopPropagation();
  }, {capture: true});
  // Who asks at the end of a long form sees the answer begin.
  new MutationObserver((changes) => {
    for (const {addedNodes} of changes)
      for (const node of addedNodes) {
        if (node.nodeType !== 1 || !node.closest(".answer")) continue;
        const said = node.matches('[role="status"]') ? node : node.querySelector('[role="status"]');
        if (!said) continue;
        const {top, bottom} = said.getBoundingClientRect();
        if (top < 0 || bottom > innerHeight) said.scrollIntoView({block: "start"});
      }
  }).observe(document, {childList: true, subtree: true});
  setInterval(step, 6000);
  setInterval(() => {
    if (overlay || Date.now() - last < 1000 * KIOSK.idle) return;
    // A fresh page forgets what the visitor before entered; it begins with the loop.
    if (touched) { sessionStorage.setItem("attract", "1"); location.reload(); }
    else attract();
  }, 500);
  addEventListener("load", () => {
    if (sessionStorage.getItem("attract")) { sessionStorage.removeItem("attract"); attract(); }
  });
})();

"use strict";
/* An agent plays in the page, and a person may push. The two environments are those of envs/classic.py. */
daybreak.page(async (root, model) => {
  const TAU = 2 * Math.PI;
  const clip = (x, most) => Math.max(-most, Math.min(most, x));
  const folded = x => ((x + Math.PI) % TAU + TAU) % TAU - Math.PI;

  const games = {
    "CartPole-v1": {
      limit: 500, rate: 50, keeps: "steps that the pole stays up",
      first: () => Array.from({length: 4}, () => Math.random() * 0.1 - 0.05),
      observe: s => s,
      pushed: (s, way) => [s[0], s[1] + 0.5 * way, s[2], s[3] - 0.7 * way],
      move([x, speed, angle, spin], action) {
        const force = action === 1 ? 10 : -10, cos = Math.cos(angle), sin = Math.sin(angle);
        const push = (force + 0.05 * spin ** 2 * sin) / 1.1;
        const turn = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos ** 2 / 1.1));
        const pull = push - 0.05 * turn * cos / 1.1;
        const state = [x + 0.02 * speed, speed + 0.02 * pull, angle + 0.02 * spin, spin + 0.02 * turn];
        return [state, Math.abs(state[0]) > 2.4 || Math.abs(state[2]) > 12 * TAU / 360];
      },
      draw(pen, width, height, [x, , angle]) {
        const unit = width / 4.8, at = width / 2 + x * unit, floor = height * 0.75;
        pen.fillRect(0, floor, width, 2);
        pen.fillRect(at - 0.25 * unit, floor - 0.15 * unit, 0.5 * unit, 0.15 * unit);
        line(pen, at, floor - 0.15 * unit, at + Math.sin(angle) * unit, floor - 0.15 * unit - Math.cos(angle) * unit);
      },
    },
    "Acrobot-v1": {
      limit: 500, rate: 15, keeps: "steps until the arm is over the line",
      first: () => Array.from({length: 4}, () => Math.random() * 0.2 - 0.1),
      observe: s => [Math.cos(s[0]), Math.sin(s[0]), Math.cos(s[1]), Math.sin(s[1]), s[2], s[3]],
      pushed: (s, way) => [s[0], s[1], clip(s[2] + 2 * way, 2 * TAU), s[3]],
      move(state, action) {
        const slope = ([one, two, spin1, spin2]) => {
          const d1 = 3.5 + Math.cos(two), d2 = 1.25 + 0.5 * Math.cos(two);
          const phi2 = 4.9 * Math.cos(one + two - Math.PI / 2);
          const phi1 = -0.5 * spin2 ** 2 * Math.sin(two) - spin2 * spin1 * Math.sin(two)
            + 14.7 * Math.cos(one - Math.PI / 2) + phi2;
          const turn2 = (action - 1 + d2 / d1 * phi1 - 0.5 * spin1 ** 2 * Math.sin(two) - phi2) / (1.25 - d2 ** 2 / d1);
          return [spin1, spin2, -(d2 * turn2 + phi1) / d1, turn2];
        };
        const h = 0.2, plus = (k, f) => state.map((x, n) => x + f * k[n]);
        const a = slope(state), b = slope(plus(a, h / 2)), c = slope(plus(b, h / 2)), d = slope(plus(c, h));
        const next = state.map((x, n) => x + h / 6 * (a[n] + 2 * b[n] + 2 * c[n] + d[n]));
        const told = [folded(next[0]), folded(next[1]), clip(next[2], 2 * TAU), clip(next[3], 4.5 * TAU)];
        return [told, -Math.cos(told[0]) - Math.cos(told[0] + told[1]) > 1];
      },
      draw(pen, width, height, [one, two]) {
        const unit = height / 4.6, x = width / 2, y = height / 2;
        pen.fillRect(0, y - unit, width, 1);
        const elbow = [x + Math.sin(one) * unit, y + Math.cos(one) * unit];
        line(pen, x, y, ...elbow);
        line(pen, ...elbow, elbow[0] + Math.sin(one + two) * unit, elbow[1] + Math.cos(one + two) * unit);
      },
    },
  };

  function line(pen, x, y, toX, toY) {
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(toX, toY);
    pen.stroke();
  }

  const game = games[model.data.env];
  if (!game) return false;
  root.innerHTML = `<canvas width="960" height="480" role="img" aria-label="The agent's game"></canvas>
    <p><button id="pause">Pause</button><button id="left">Push left ←</button><button id="right">Push right →</button>
    <button id="again">Begin again</button></p><p id="says" aria-live="off"></p>`;
  const pen = root.querySelector("canvas").getContext("2d"), says = root.querySelector("#says");
  const style = getComputedStyle(document.body);
  let state, steps, best = 0, episodes = 0, push = 0, going = true;

  function begin() {
    state = game.first();
    steps = 0;
  }

  function show(action) {
    const {width, height} = pen.canvas;
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = pen.strokeStyle = style.color;
    pen.lineWidth = 10;
    pen.lineCap = "round";
    game.draw(pen, width, height, state);
    says.textContent = `${model.data.env}: ${steps} ${game.keeps}; episode ${episodes + 1}; action ${action}`;
  }

  async function act() {
    const out = await model.run("decide", {vector: {data: game.observe(state), shape: [1, game.observe(state).length]}});
    return Number(out.action.data[0]);
  }

  async function play() {
    while (root.isConnected) {
      const begun = performance.now();
      if (going) {
        if (push) state = game.pushed(state, push);
        push = 0;
        const action = await act();
        let over;
        [state, over] = game.move(state, action);
        steps += 1;
        show(action);
        if (over || steps >= game.limit) {
          best = Math.max(best, steps);
          episodes += 1;
          begin();
        }
      }
      await new Promise(resolve => setTimeout(resolve, Math.max(0, 1000 / game.rate - (performance.now() - begun))));
    }
  }

  const pushed = way => { push = way; };
  root.querySelector("#left").addEventListener("click", () => pushed(-1));
  root.querySelector("#right").addEventListener("click", () => pushed(1));
  root.querySelector("#again").addEventListener("click", begin);
  root.querySelector("#pause").addEventListener("click", event => {
    going = !going;
    event.target.textContent = going ? "Pause" : "Go on";
  });
  addEventListener("keydown", event => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") pushed(event.key === "ArrowLeft" ? -1 : 1);
  });
  begin();
  play();
  model.state = () => ({steps, episodes, best});
});

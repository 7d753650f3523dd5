"use strict";
/* A photo is tagged in the page, as `Shop.tag` tags it: the same square of the same pixels, the same thresholds. */
daybreak.page(async (root, model) => {
  const {side, groups, examples, promised, colour_weight, most_pixels, most_side, most_bytes} = model.data;

  const WORDS = {
    en: {
      say: "Choose, drop, paste or take a photo of one garment. It stays in this page.",
      choose: "Choose a photo", take: "Take a photo", unknown: "unknown", perhaps: "perhaps",
      near: "Looks most like", or: "Or try a drawing",
      done: (ms, width, height) => `${width} × ${height} pixels, ${ms} ms. What is said is meant to be right ${
        Math.round(100 * promised)} times of 100; what is less sure is unknown.`,
      no_picture: "This is no picture that this browser can read.",
      large: "This picture is too large: at most 20 MiB, 40 megapixels and 8192 pixels a side.",
      shown: "The photo, and where the garment is", group: {label: "Kind", colour: "Colour", wearer: "For whom"},
    },
    ko: {
      say: "옷 한 벌이 담긴 사진을 고르거나, 끌어다 놓거나, 붙여넣거나, 찍어 주세요. 사진은 이 페이지를 떠나지 않습니다.",
      choose: "사진 고르기", take: "사진 찍기", unknown: "모름", perhaps: "아마",
      near: "가장 비슷한 것", or: "그림으로 해 보기",
      done: (ms, width, height) => `${width} × ${height} 픽셀, ${ms} ms. 말한 태그는 100번 중 ${
        Math.round(100 * promised)}번 맞도록 정했고, 덜 확실하면 모름이라고 합니다.`,
      no_picture: "이 브라우저가 읽을 수 있는 사진이 아닙니다.",
      large: "사진이 너무 큽니다: 20 MiB, 4천만 화소, 한 변 8192 픽셀까지 됩니다.",
      shown: "사진과 옷의 위치", group: {label: "종류", colour: "색", wearer: "누구 옷"},
    },
  };
  let language = navigator.language.startsWith("ko") ? "ko" : "en";
  const word = key => WORDS[language][key];
  const named = group => word("group")[group.name] || group.name;
  const flat = groups.flatMap(group => group.values.map(value => ({group, value})));

  class Refused extends Error {}

  // Half to even, as Python and numpy round.
  function round(x) {
    const below = Math.floor(x), rest = x - below;
    return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
  }

  /* Upright RGB of a file, alpha over white, colour profiles left out: what media/image.py's `decode` does. */
  async function decoded(file) {
    if (file.size > most_bytes) throw new Refused("large");
    let bitmap;
    try {
      bitmap = await createImageBitmap(
        file, {imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none"});
    } catch {
      throw new Refused("no_picture");
    }
    const {width, height} = bitmap;
    if (width * height > most_pixels || Math.max(width, height) > most_side) throw new Refused("large");
    const pixels = new Uint8Array(3 * width * height), rows = Math.max(1, Math.min(height, Math.floor(2 ** 20 / width)));
    const strip = new OffscreenCanvas(width, rows), pen = strip.getContext("2d", {willReadFrequently: true});
    for (let top = 0, at = 0; top < height; top += rows) {  // in strips: phones refuse a large canvas
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, width, rows);
      pen.drawImage(bitmap, 0, -top);
      const count = Math.min(rows, height - top), rgba = pen.getImageData(0, 0, width, count).data;
      for (let n = 0; n < rgba.length; n += 4) {
        pixels[at++] = rgba[n];
        pixels[at++] = rgba[n + 1];
        pixels[at++] = rgba[n + 2];
      }
    }
    return {pixels, width, height, bitmap};
  }

  /* Means of blocks of `broad` x `tall` pixels, in Pillow's fixed point; the last ones may be narrower. */
  function reduced({pixels, width, height}, broad, tall) {
    const wide = Math.ceil(width / broad), high = Math.ceil(height / tall), out = new Uint8Array(3 * wide * high);
    for (let y = 0; y < high; y++) {
      const bottom = Math.min(height, (y + 1) * tall);
      for (let x = 0; x < wide; x++) {
        const right = Math.min(width, (x + 1) * broad), count = (right - x * broad) * (bottom - y * tall);
        const scale = Math.floor(2 ** 24 / count), half = count >> 1;
        let red = half, green = half, blue = half;
        for (let row = y * tall; row < bottom; row++) {
          for (let n = 3 * (row * width + x * broad), end = 3 * (row * width + right); n < end; n += 3) {
            red += pixels[n];
            green += pixels[n + 1];
            blue += pixels[n + 2];
          }
        }
        out.set([red, green, blue].map(sum => Math.floor(sum * scale / 2 ** 24)), 3 * (y * wide + x));
      }
    }
    return {pixels: out, width: wide, height: high};
  }

  /* For each of `size` places: where its window of a triangle filter begins, and the weights in units of 2^-22. */
  function windows(length, end, size) {
    const scale = end / size, spread = Math.max(1, scale), near = 1 / spread;
    return Array.from({length: size}, (_, place) => {
      const centre = (place + 0.5) * scale;
      const first = Math.max(0, Math.trunc(centre - spread + 0.5));
      const stop = Math.min(length, Math.trunc(centre + spread + 0.5)), weights = [];
      for (let n = first; n < stop; n++) weights.push(Math.max(0, 1 - Math.abs((n - centre + 0.5) * near)));
      const whole = weights.reduce((a, b) => a + b, 0);
      return {first, weights: weights.map(x => Math.trunc(0.5 + x / whole * 2 ** 22))};
    });
  }

  const clip = sum => Math.max(0, Math.min(255, sum >> 22));

  function across({pixels, width, height}, end, wide) {
    const out = new Uint8Array(3 * wide * height), every = windows(width, end, wide);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < wide; x++) {
        const {first, weights} = every[x];
        let red = 2 ** 21, green = red, blue = red, n = 3 * (y * width + first);
        for (const weight of weights) {
          red += pixels[n++] * weight;
          green += pixels[n++] * weight;
          blue += pixels[n++] * weight;
        }
        out.set([clip(red), clip(green), clip(blue)], 3 * (y * wide + x));
      }
    }
    return {pixels: out, width: wide, height};
  }

  function down({pixels, width, height}, end, high) {
    const out = new Uint8Array(3 * width * high), every = windows(height, end, high);
    for (let y = 0; y < high; y++) {
      const {first, weights} = every[y];
      for (let n = 0; n < 3 * width; n++) {
        let sum = 2 ** 21;
        for (let k = 0; k < weights.length; k++) sum += pixels[3 * width * (first + k) + n] * weights[k];
        out[3 * width * y + n] = clip(sum);
      }
    }
    return {pixels: out, width, height: high};
  }

  /* Pillow 13's bilinear resize with reducing_gap 2, to the last bit: it goes down first where that saves much. */
  function resized(image, wide, high) {
    if (image.width === wide && image.height === high) return image;
    const x = Math.trunc(image.width / wide / 2) || 1, y = Math.trunc(image.height / high / 2) || 1;
    const right = Math.fround(image.width / x), bottom = Math.fround(image.height / y);
    let made = x > 1 || y > 1 ? reduced(image, x, y) : image;
    const passes = [
      () => { if (made.width !== wide || right !== wide) made = across(made, right, wide); },
      () => { if (made.height !== high || bottom !== high) made = down(made, bottom, high); },
    ];
    if (made.height > high && made.height - high > 2 * (made.width - wide)) passes.reverse();
    for (const pass of passes) pass();
    return made;
  }

  /* The whole picture in a square, its own border's mean colour beside it: media/image.py's `letterbox`. */
  function letterbox(image) {
    const scale = side / Math.max(image.width, image.height);
    const high = Math.max(1, round(image.height * scale)), wide = Math.max(1, round(image.width * scale));
    const {pixels} = resized(image, wide, high);
    if (high === wide) return pixels;
    const edge = [];
    if (high < wide) for (let x = 0; x < wide; x++) edge.push(x, (high - 1) * wide + x);
    else for (let y = 0; y < high; y++) edge.push(y * wide, y * wide + wide - 1);
    const mean = [0, 1, 2].map(c => round(edge.reduce((sum, n) => sum + pixels[3 * n + c], 0) / edge.length));
    const out = new Uint8Array(3 * side * side).map((_, n) => mean[n % 3]);
    const top = Math.floor((side - high) / 2), left = Math.floor((side - wide) / 2);
    for (let y = 0; y < high; y++) out.set(pixels.subarray(3 * y * wide, 3 * (y + 1) * wide), 3 * ((top + y) * side + left));
    return out;
  }

  async function look(square) {
    const plane = side * side, planes = new Float32Array(3 * plane);
    for (let n = 0; n < plane; n++) for (let c = 0; c < 3; c++) planes[c * plane + n] = square[3 * n + c] / 255;
    return model.run("look", {pixels: {data: planes, shape: [1, 3, side, side]}});
  }

  /* Group -> value -> probability of what is sure enough; an empty group is unknown. And each group's likeliest. */
  function said(probability) {
    const tags = {}, likely = {};
    for (const group of groups) {
      const all = flat.map((one, n) => ({...one, p: probability[n]})).filter(one => one.group === group);
      all.sort((a, b) => b.p - a.p);
      likely[group.name] = all[0].value.name;
      const sure = all.filter(one => one.p >= one.value.least).slice(0, group.exclusive ? 1 : all.length);
      tags[group.name] = Object.fromEntries(sure.map(one => [one.value.name, one.p]));
    }
    return {tags, likely};
  }

  /* The network's box of the square as left, top, right, bottom of the photo. */
  function placed([cx, cy, w, h], width, height) {
    const longest = Math.max(width, height);
    const edge = (at, length) => Math.min(1, Math.max(0, (at - 0.5) / (length / longest) + 0.5));
    return [edge(cx - w / 2, width), edge(cy - h / 2, height), edge(cx + w / 2, width), edge(cy + h / 2, height)];
  }

  const dot = (a, b) => a.reduce((sum, x, n) => sum + x * b[n], 0);

  /* A decoded picture -> what is said of it, where the garment is, and the drawings that look most like it. */
  async function tag(image) {
    const out = await look(letterbox(image)), score = one =>
      dot(one.product, out.product.data) + colour_weight * dot(one.colour, out.colour.data);
    const near = examples.map((one, place) => ({place, score: score(one)})).sort((a, b) => b.score - a.score).slice(0, 4);
    return {...said(out.tags.data), probability: [...out.tags.data], near,
      box: placed(out.box.data, image.width, image.height)};
  }

  root.innerHTML = `<style>
    #drop { border: 2px dashed var(--line); border-radius: 0.6rem; padding: 0.8rem; }
    #drop.over { border-color: var(--mark); }
    #photo { max-width: 24rem; margin: 0.8rem 0; }
    #photo[hidden], #found[hidden] { display: none; }
    dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.4rem 1rem; margin: 0.8rem 0; }
    dd { margin: 0; }
    .pictures { display: flex; flex-wrap: wrap; gap: 0.4rem; }
    .pictures img { display: block; width: 4.5rem; height: 4.5rem; object-fit: cover; border-radius: 0.3rem; }
    .pictures button { padding: 0.2rem; }
    figure { margin: 0; font-size: 0.85rem; text-align: center; }
    </style>
    <p><button id="language" type="button"></button></p>
    <div id="drop"><p data-word="say"></p>
      <button id="choose" type="button" data-word="choose"></button>
      <button id="take" type="button" data-word="take"></button>
      <input id="file" type="file" accept="image/*" hidden><input id="camera" type="file" accept="image/*" capture="environment" hidden></div>
    <canvas id="photo" role="img" hidden></canvas>
    <div id="found" hidden><dl></dl><h2 data-word="near"></h2><div id="near" class="pictures"></div></div>
    <p id="says" role="status"></p>
    <h2 data-word="or"></h2><div id="examples" class="pictures"></div>`;
  const $ = name => root.querySelector(name);
  let shown = null, problem = "";

  const label = value => value[language] || value.name;
  const labelled = tags => groups.flatMap(group => (tags[group.name] || [])
    .map(name => label(group.values.find(value => value.name === name)))).join(", ");

  function show() {
    root.lang = language;
    $("#language").textContent = language === "en" ? "한국어" : "English";
    $("#language").lang = language === "en" ? "ko" : "en";
    for (const part of root.querySelectorAll("[data-word]")) part.textContent = word(part.dataset.word);
    $("#photo").setAttribute("aria-label", word("shown"));
    $("#examples").replaceChildren(...examples.map((one, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(picture(one));
      button.addEventListener("click", () => take(drawing(place)));
      return button;
    }));
    $("#found").hidden = $("#photo").hidden = !shown;
    $("#says").textContent = problem ? word(problem) : shown ? word("done")(shown.took, shown.width, shown.height) : "";
    if (!shown) return;
    $("dl").replaceChildren(...groups.flatMap(group => {
      const name = document.createElement("dt"), told = document.createElement("dd");
      name.textContent = named(group);
      const sure = Object.entries(shown.tags[group.name]), find = key => group.values.find(value => value.name === key);
      const percent = p => `${Math.round(100 * p)} %`;
      const likely = find(shown.likely[group.name]);
      const chance = shown.probability[flat.findIndex(one => one.value === likely)];
      told.textContent = sure.length ? sure.map(([key, p]) => `${label(find(key))} ${percent(p)}`).join(", ")
        : `${word("unknown")} (${word("perhaps")} ${label(likely)} ${percent(chance)})`;
      return [name, told];
    }));
    $("#near").replaceChildren(...shown.near.map(({place, score}) => {
      const figure = document.createElement("figure"), caption = document.createElement("figcaption");
      caption.textContent = score.toFixed(2);
      figure.append(picture(examples[place]), caption);
      return figure;
    }));
  }

  function picture(one) {
    const made = document.createElement("img");
    made.src = `data:${one.mime};base64,${one.picture}`;
    made.alt = labelled(one.tags);
    return made;
  }

  function drawing(place) {
    const one = examples[place];
    return new Blob([Uint8Array.from(atob(one.picture), letter => letter.charCodeAt(0))], {type: one.mime});
  }

  function draw({bitmap, width, height}, box) {
    const canvas = $("#photo"), scale = 480 / Math.max(width, height), pen = canvas.getContext("2d");
    [canvas.width, canvas.height] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const [left, top, right, bottom] = box.map((share, n) => share * (n % 2 ? canvas.height : canvas.width));
    for (const [stroke, wide] of [["#fff", 6], ["#b3541e", 3]]) {
      pen.strokeStyle = stroke;
      pen.lineWidth = wide;
      pen.strokeRect(left, top, right - left, bottom - top);
    }
  }

  let turn = 0;
  /* Tag a file and show it. The last one given is the one shown. */
  async function take(file) {
    const mine = ++turn, begun = performance.now();
    try {
      const image = await decoded(file), found = await tag(image);
      if (mine !== turn) return null;
      problem = "";
      shown = {...found, width: image.width, height: image.height, took: Math.round(performance.now() - begun)};
      draw(image, found.box);
    } catch (error) {
      if (mine !== turn) return null;
      if (!(error instanceof Refused)) throw error;
      [problem, shown] = [error.message, null];
    }
    show();
    return shown;
  }

  $("#language").addEventListener("click", () => {
    language = language === "en" ? "ko" : "en";
    show();
  });
  for (const [button, input] of [["#choose", "#file"], ["#take", "#camera"]]) {
    $(button).addEventListener("click", () => $(input).click());
    $(input).addEventListener("change", event => {
      if (event.target.files.length) take(event.target.files[0]);
      event.target.value = "";
    });
  }
  const first = list => [...list.files].find(file => file.type.startsWith("image/")) || list.files[0];
  addEventListener("paste", event => {
    const file = first(event.clipboardData);
    if (file) take(file);
  });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    addEventListener(kind, event => {
      event.preventDefault();  // else the browser would leave for the file
      $("#drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
      if (kind === "drop" && first(event.dataTransfer)) take(first(event.dataTransfer));
    });
  }
  show();
  Object.assign(model, {decoded, letterbox, tag, take, drawing, state: () => shown});
});

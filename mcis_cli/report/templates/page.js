"use strict";
// Nothing here makes markup of text: elements are shown, hidden, and put in order.

const root = document.documentElement;
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Dark and light: the system's choice until the button is pressed.

function remembered(value) {
  try {
    if (value) localStorage.setItem("mcis-theme", value);
    return localStorage.getItem("mcis-theme");
  } catch {
    return value; // a browser may keep nothing for files
  }
}

function switchTheme() {
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  remembered(root.dataset.theme);
}

if (remembered()) root.dataset.theme = remembered() === "dark" ? "dark" : "light";
document.getElementById("theme").addEventListener("click", switchTheme);

// The photographs: each is in the file once, and its other places take it from there.

const photos = new Map(all("img[data-photo][src]").map((image) => [image.dataset.photo, image.src]));
for (const image of all("img[data-photo]:not([src])")) image.src = photos.get(image.dataset.photo);

// The contact sheet: one class or all, one view beside the photograph, in the chosen order.

const filters = document.getElementById("filters");
const cards = all(".card");

for (const card of cards) card.dataset.shown = all(".tile:not([hidden])", card).at(-1).dataset.title;

function carries(element, value) {
  return !value || element.dataset.classes.split(" ").includes(value);
}

function showMaps(card, value) {
  for (const tile of all(".tile.map", card)) {
    const layers = all(".layer", tile);
    const wanted = layers.find((layer) => layer.dataset.class === value) ?? layers[0];
    for (const layer of layers) layer.hidden = layer !== wanted;
  }
}

function showView(card, title) {
  const [, ...tiles] = all(".tile", card);
  const wanted = tiles.some((tile) => tile.dataset.title === title) ? title : card.dataset.shown;
  for (const tile of tiles) tile.hidden = tile.dataset.title !== wanted;
}

function applyFilters() {
  const { class: chosen, split, view } = filters.elements;
  const value = chosen.value;
  for (const element of all(".attended")) element.hidden = !carries(element, value);
  for (const row of all(".scores [data-value]")) row.classList.toggle("chosen", value !== "" && row.dataset.value === value);
  for (const card of cards) {
    card.hidden = !carries(card, value) || Boolean(split?.value && card.dataset.split !== split.value);
    showMaps(card, value);
    if (view) showView(card, view.value);
  }
  filters.elements.count.value = `${seen().length} of ${cards.length} images`;
}

function applyOrder() {
  const order = filters.elements.order.value;
  const byName = (a, b) => (a.dataset.name < b.dataset.name ? -1 : 1);
  const rank = (card) => {
    const number = order === "doubt" ? card.dataset.doubt : card.dataset.score;
    return number === "" ? Infinity : order === "worst" ? Number(number) : -Number(number);
  };
  cards.sort((a, b) => (order === "name" ? 0 : Math.sign(rank(a) - rank(b))) || byName(a, b));
  for (const card of cards) card.parentElement.append(card);
}

function seen() {
  return all(".card").filter((card) => !card.hidden);
}

function chooseClass(value) {
  for (const input of all("[name=class]", filters)) input.checked = input.value === value;
  applyFilters();
}

function stepClass(by) {
  const inputs = all("[name=class]", filters);
  const next = inputs[(inputs.findIndex((input) => input.checked) + by + inputs.length) % inputs.length];
  chooseClass(next.value);
  next.parentElement.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function neighbour(card, by) {
  const found = seen();
  return found[Math.min(Math.max(found.indexOf(card) + by, 0), found.length - 1)];
}

function stepCard(by) {
  const next = neighbour(document.activeElement.closest(".card"), by);
  next?.scrollIntoView({ block: "center" });
  next?.querySelector(".open").focus({ preventScroll: true });
}

if (filters) {
  filters.addEventListener("change", (event) => (event.target.name === "order" ? applyOrder() : applyFilters()));
  filters.addEventListener("submit", (event) => event.preventDefault());
  for (const link of all("[data-filter]")) link.addEventListener("click", () => chooseClass(link.dataset.filter));
  for (const card of cards) card.querySelector(".open").addEventListener("click", () => enlarge(card, ""));
  applyOrder();
  applyFilters();
}

// One image, enlarged: each view is drawn as a single image, which can be opened in a tab and saved.

const viewer = document.getElementById("viewer");
let current = null; // the card that is enlarged
let view = ""; // the title of its view, which stays when another image follows
let drawings = 0;

function viewsOf(card) {
  return all(".tile", card).flatMap((tile) => {
    const photo = tile.querySelector("[data-photo]");
    const layers = all(".layer", tile);
    if (!layers.length) return [{ tile, photo, title: photo.alt }];
    return layers.map((layer) => ({ tile, photo, layer, title: layer.alt }));
  });
}

async function loaded(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

async function drawn({ tile, photo, layer }) {
  const [base, over] = await Promise.all([loaded(photo.src), layer && loaded(layer.src)]);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [base.naturalWidth, base.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(base, 0, 0);
  if (over) {
    const isMap = tile.classList.contains("map");
    context.globalCompositeOperation = "saturation"; // towards grey
    context.globalAlpha = isMap ? 1 : 0.75;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = isMap ? 0.74 : 1;
    context.drawImage(over, 0, 0, canvas.width, canvas.height);
  }
  return canvas;
}

async function draw(chosen) {
  const number = ++drawings;
  const canvas = await drawn(chosen);
  const file = await new Promise((done) => canvas.toBlob(done));
  if (number !== drawings) return; // another one was requested meanwhile
  const image = new Image(canvas.width, canvas.height);
  image.src = canvas.toDataURL();
  image.alt = `${chosen.title}, ${current.dataset.name}`;
  viewer.querySelector(".stage").replaceChildren(image);
  const [tab, save] = ["tab", "save"].map((name) => viewer.querySelector(`[data-do=${name}]`));
  URL.revokeObjectURL(tab.href);
  save.href = tab.href = URL.createObjectURL(file);
  save.download = `${current.dataset.name} ${chosen.title}.png`;
}

function enlarge(card, title = view) {
  const found = viewsOf(card);
  const onSheet = found.find((one) => one.layer && !one.layer.hidden && !one.tile.hidden);
  const chosen = found.find((one) => one.title === title) ?? onSheet ?? found[0];
  [current, view] = [card, chosen.title];
  const buttons = found.map((one) => {
    const button = document.createElement("button");
    button.textContent = one.title;
    button.setAttribute("aria-pressed", one === chosen);
    button.addEventListener("click", () => enlarge(card, one.title));
    return button;
  });
  viewer.querySelector(".views").replaceChildren(...buttons);
  const words = all("h3, .tags, .reason", card).map((part) => part.cloneNode(true));
  viewer.querySelector(".told").replaceChildren(...words);
  viewer.querySelector("output").value = `${seen().indexOf(card) + 1} of ${seen().length}`;
  if (!viewer.open) viewer.showModal();
  draw(chosen);
}

function stepView(by) {
  const found = viewsOf(current);
  const at = found.findIndex((one) => one.title === view) + by;
  enlarge(current, found[(at + found.length) % found.length].title);
}

const IN_VIEWER = {
  close: () => viewer.close(),
  previous: () => enlarge(neighbour(current, -1)),
  next: () => enlarge(neighbour(current, 1)),
  ArrowLeft: () => enlarge(neighbour(current, -1)),
  ArrowRight: () => enlarge(neighbour(current, 1)),
  ArrowUp: () => stepView(-1),
  ArrowDown: () => stepView(1),
};

viewer.addEventListener("click", (event) => IN_VIEWER[event.target.dataset.do]?.());
viewer.addEventListener("close", () => current.querySelector(".open").focus());
viewer.addEventListener("keydown", (event) => {
  if (!event.key.startsWith("Arrow")) return;
  event.preventDefault();
  IN_VIEWER[event.key]();
});

// The reference gallery: what one spot of the image attended to. A sprite has a tile for each spot.

function ask(frame, row, column) {
  const { rows, columns } = frame.dataset;
  const cell = frame.querySelector(".cell");
  cell.hidden = row === null;
  if (row !== null) {
    frame.dataset.row = row;
    frame.dataset.column = column;
    cell.style.left = `${(100 * column) / columns}%`;
    cell.style.top = `${(100 * row) / rows}%`;
  }
  for (const lit of all(".lit", frame.closest(".attended"))) {
    const [layer, canvas, sprite] = [".layer", "canvas", ".sprite"].map((part) => lit.querySelector(part));
    layer.hidden = row !== null;
    canvas.hidden = row === null;
    if (row === null || !sprite.naturalWidth) continue;
    const [width, height] = [sprite.naturalWidth / columns, sprite.naturalHeight / rows];
    canvas.width = width * 8;
    canvas.height = height * 8;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(sprite, column * width, row * height, width, height, 0, 0, canvas.width, canvas.height);
  }
}

function within(value, count) {
  return Math.min(Math.max(value, 0), count - 1);
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

for (const frame of all(".ask")) {
  const [rows, columns] = [Number(frame.dataset.rows), Number(frame.dataset.columns)];
  frame.addEventListener("pointermove", (event) => {
    const box = frame.getBoundingClientRect();
    const row = within(Math.floor(((event.clientY - box.top) / box.height) * rows), rows);
    ask(frame, row, within(Math.floor(((event.clientX - box.left) / box.width) * columns), columns));
  });
  frame.addEventListener("pointerleave", () => document.activeElement !== frame && ask(frame, null));
  frame.addEventListener("blur", () => ask(frame, null));
  frame.addEventListener("keydown", (event) => {
    if (event.key === "Escape") ask(frame, null);
    if (!ARROWS[event.key]) return;
    event.preventDefault();
    const [down, right] = ARROWS[event.key];
    const [row, column] = [frame.dataset.row ?? Math.floor(rows / 2), frame.dataset.column ?? Math.floor(columns / 2)];
    ask(frame, within(Number(row) + down, rows), within(Number(column) + right, columns));
  });
}

// Keys, where nothing is being typed.

const KEYS = {
  t: switchTheme,
  "[": () => stepClass(-1),
  "]": () => stepClass(1),
  0: () => chooseClass(""),
  j: () => stepCard(1),
  k: () => stepCard(-1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input:not([type=radio])")) return;
  if (viewer.open || (!filters && event.key !== "t")) return;
  KEYS[event.key]?.();
});

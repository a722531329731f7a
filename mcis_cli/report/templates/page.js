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

// The galleries: one class or all, in the order that was asked for.

const filters = document.getElementById("filters");
const cards = all(".card");

function carries(element, value) {
  return !value || element.dataset.classes.split(" ").includes(value);
}

function showMap(card, value) {
  const wanted = all(".frame.map .layer", card).some((layer) => layer.dataset.class === value);
  if (!wanted) return;
  for (const layer of all(".frame.map .layer", card)) layer.hidden = layer.dataset.class !== value;
  for (const button of all(".which button", card)) button.setAttribute("aria-pressed", button.dataset.class === value);
}

function applyFilters() {
  const value = filters.elements.class.value;
  const split = filters.elements.split?.value;
  for (const element of all(".attended")) element.hidden = !carries(element, value);
  for (const card of cards) card.hidden = !carries(card, value) || Boolean(split && card.dataset.split !== split);
  for (const row of all(".scores [data-value]")) row.classList.toggle("chosen", value !== "" && row.dataset.value === value);
  for (const card of cards) showMap(card, value || all(".which button", card)[0]?.dataset.class);
  const seen = cards.filter((card) => !card.hidden).length;
  filters.elements.count.value = `${seen} of ${cards.length} images`;
}

function applyOrder() {
  const order = filters.elements.order?.value ?? "name";
  const direction = order === "best" ? -1 : 1;
  const score = (card) => (card.dataset.score === "" ? Infinity : direction * Number(card.dataset.score));
  const byName = (a, b) => (a.dataset.name < b.dataset.name ? -1 : 1);
  cards.sort(order === "name" ? byName : (a, b) => Math.sign(score(a) - score(b)) || byName(a, b));
  for (const card of cards) card.parentElement.append(card);
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

function stepCard(by) {
  const seen = all(".card").filter((card) => !card.hidden);
  const at = seen.indexOf(document.activeElement.closest(".card"));
  const next = seen[Math.min(Math.max(at + by, 0), seen.length - 1)];
  next?.scrollIntoView({ block: "center" });
  next?.focus({ preventScroll: true });
}

if (filters) {
  filters.addEventListener("change", (event) => (event.target.name === "order" ? applyOrder() : applyFilters()));
  filters.addEventListener("submit", (event) => event.preventDefault());
  for (const link of all("[data-filter]")) link.addEventListener("click", () => chooseClass(link.dataset.filter));
  for (const button of all(".which button")) {
    button.addEventListener("click", () => showMap(button.closest(".card"), button.dataset.class));
  }
  applyOrder();
  applyFilters();
}

// The reference gallery: where one spot of the image looked. A sprite has a picture for each spot.

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
  if (!filters && event.key !== "t") return;
  KEYS[event.key]?.();
});

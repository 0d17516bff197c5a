// Elements, numbers and names. All text of models and environments goes through textContent.

const ON_LIGHT = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9"];
const ON_DARK = ["#56B4E9", "#F0803C", "#2FC99B", "#E59AC5", "#E5C454", "#9DB2FF"];
export const SOURCES = {
  train: "training",
  start: "the supervised start",
  offline: "what demonstrations taught",
  eval: "evaluations in between",
  final: "the end",
};

// `key` names a control that is made anew with other text, so that the keyboard stays on it (see app.js); `label` is the
// name of a cell's column where there is no room for a table.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "style") Object.assign(element.style, value);
    else if (name === "key" || name === "label") element.dataset[name] = value;
    else if (name.startsWith("aria-") || ["role", "scope", "for"].includes(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return element;
}

export function button(text, act, properties = {}) {
  const made = make("button", { type: "button", ...properties }, text);
  made.addEventListener("click", (event) => { if (made.getAttribute("aria-disabled") !== "true") act(event); });
  return made;
}

export function field(title, control) {
  return make("label", {}, title, control);
}

export function choose(name, values, chosen) {
  const options = values.map(([value, text]) => make("option", { value, selected: String(chosen) === String(value) }, text));
  return make("select", { name }, options);
}

// The colour of a run, by its place.
export function colourOf(place) {
  const colours = matchMedia("(prefers-color-scheme: dark)").matches ? ON_DARK : ON_LIGHT;
  return colours[place % colours.length];
}

// A table that scrolls sideways where there is little room, by keyboard too.
export function wide(name, table) {
  return make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": name }, table);
}

// Columns whose name begins with # hold numbers.
export function table(name, columns, rows) {
  const right = columns.map((title) => (title.startsWith("#") ? "right" : ""));
  const header = columns.map((title, place) => make("th", { scope: "col", className: right[place] }, title.replace(/^#/, "")));
  const body = rows.map((cells) => make("tr", {}, cells.map((cell, place) => make("td", { className: right[place] }, cell))));
  return wide(name, make("table", {}, make("thead", {}, make("tr", {}, header)), make("tbody", {}, body)));
}

export function number(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  return typeof value === "number" ? value.toFixed(digits).replace("-", "−") : String(value);
}

export function signed(value) {
  return value === null ? "–" : `${value >= 0 ? "+" : "−"}${number(Math.abs(value))}`;
}

// How much better than the average it was to say something; null without a critic.
export function advantage(one) {
  return one.q === null || one.v === null ? null : one.q - one.v;
}

export function show(observation) {
  if (typeof observation === "string") return observation;
  return observation.map((message) => `${message.role}: ${message.content}`).join("\n");
}

export function nameOf(run) {
  return `${run.path.split("/").filter(Boolean).slice(-2).join("/")} (${run.config.preset})`;
}

// Green for what was better than the average, red for what was worse, the fuller the more.
export function mix(share) {
  const strength = Math.round(25 + 75 * Math.min(1, Math.abs(share)));
  return `color-mix(in srgb, var(${share >= 0 ? "--good" : "--bad"}) ${strength}%, transparent)`;
}

// Show the page anew, as the state of the pages now has it.
export function again() {
  document.dispatchEvent(new Event("again"));
}

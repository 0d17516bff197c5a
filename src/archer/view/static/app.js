// The pages of `archer view`. All text of models and environments goes through textContent.
"use strict";

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9"];
const CHARTS = [
  ["Return, evaluations", "eval/return_mean", "eval/return_ci95"],
  ["Return, games to learn from", "rollout/return_mean", "rollout/return_ci95"],
  ["Share of games won", "rollout/win_rate"],
  ["Turns of a game", "rollout/length"],
  ["Loss of Q", "critic/q_loss"],
  ["Critic: correlation with returns", "critic/return_correlation"],
  ["Critic: advantages of the right sign", "critic/sign_share"],
  ["Critic: bias", "critic/bias"],
  ["Loss of the actor", "actor/loss"],
  ["KL to the start", "actor/kl"],
  ["Tokens per second, playing", "time/tokens_per_s"],
  ["Seconds of an iteration", "time/iteration_s"],
];
const held = document.getElementById("held") ? JSON.parse(document.getElementById("held").textContent) : null;
const main = document.getElementById("main");
const state = { run: "0", source: "train", sort: "iteration", descending: 1, offset: 0, limit: 50, least: "", most: "", end: "", text: "", iteration: "" };
let plots = [];

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "style") Object.assign(element.style, value);
    else if (name.startsWith("aria-") || name === "role" || name === "scope" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

async function ask(path) {
  if (held) return answerHeld(path);
  const response = await fetch(path);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error || response.statusText);
  return answer;
}

function answerHeld(path) {
  const address = new URL(path, "http://held/");
  const parts = address.pathname.split("/").filter(Boolean); // api, runs, N, episodes, source, iteration, row
  if (parts.length === 2) return held.runs;
  if (parts.length > 4) {
    const found = held.episode[`${parts[2]}/${parts.slice(4).join("/")}`];
    if (!found) throw new Error("this game is not in the file");
    return found;
  }
  const wanted = address.searchParams;
  const listed = held.episodes[`${parts[2]}/${wanted.get("source")}`] || { count: 0, rows: [] };
  const number = (name) => (wanted.get(name) ? Number(wanted.get(name)) : null);
  const text = (wanted.get("text") || "").toLowerCase();
  const rows = listed.rows.filter((row) => {
    const game = held.episode[`${parts[2]}/${wanted.get("source")}/${row.iteration}/${row.row}`];
    const words = game ? game.turns.map((turn) => `${show(turn.observation)} ${turn.utterance}`).join(" ").toLowerCase() : "";
    return (number("least") === null || row.return >= number("least")) && (number("most") === null || row.return <= number("most"))
      && (!wanted.get("end") || row.end === wanted.get("end")) && (number("iteration") === null || row.iteration === number("iteration"))
      && (!text || words.includes(text));
  });
  const key = wanted.get("sort");
  rows.sort((a, b) => (a[key] > b[key] ? 1 : a[key] < b[key] ? -1 : 0) * (wanted.get("descending") === "1" ? -1 : 1));
  const start = Number(wanted.get("offset"));
  return { count: rows.length, rows: rows.slice(start, start + Number(wanted.get("limit"))) };
}

function show(observation) {
  return typeof observation === "string" ? observation : observation.map((message) => `${message.role}: ${message.content}`).join("\n");
}

// A table that scrolls sideways where there is little room, by keyboard too.
function wide(name, table) {
  return make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": name }, table);
}

function number(value, digits = 2) {
  return value === null || value === undefined ? "–" : typeof value === "number" ? value.toFixed(digits) : String(value);
}

function nameOf(run) {
  return `${run.path.split("/").filter(Boolean).slice(-2).join("/")} (${run.config.preset})`;
}

// --- overview --------------------------------------------------------------------------------------------------------

async function overview() {
  const { runs, differences } = await ask("/api/runs");
  const all = Object.values(runs);
  const page = document.createDocumentFragment();
  page.append(make("h2", {}, "Runs"), outcome(all));
  const charts = make("div", { className: "cards" });
  for (const [title, key, interval] of CHARTS) {
    if (all.some((run) => (run.metrics[key] || []).some((value) => value !== null))) charts.append(make("section", { className: "card" }, make("h3", {}, title), make("div", { className: "plot" })));
  }
  page.append(make("h2", {}, "Curves"), make("p", { className: "numbers" }, "Against games played, warm-up included."), charts);
  if (all.length > 1) page.append(make("h2", {}, "What differs"), settings(differences, all.map(nameOf)));
  page.append(make("details", {}, make("summary", {}, "All settings"), settings(flat(all[0].config), all.slice(0, 1).map(nameOf))));
  return { page, status: `iteration ${all.map((run) => run.iterations.at(-1) ?? 0).join(", ")}`, shown: () => draw(all, charts) };
}

function outcome(all) {
  const rows = all.map((run, index) => {
    const measured = (run.metrics["eval/return_mean"] || []).filter((value) => value !== null);
    const summary = run.summary || {};
    return make("tr", {},
      make("th", { scope: "row" }, make("span", { className: "swatch", style: { background: COLOURS[index % COLOURS.length] } }), nameOf(run)),
      ...[run.config.env.name, `${run.iterations.at(-1) ?? 0} of ${run.config.iterations}`, number((run.metrics.games || []).at(-1), 0), number(measured[0]), number(summary.return_mean ?? measured.at(-1)), number(summary.reference_return)].map((text) => make("td", {}, text)));
  });
  const header = ["run", "task", "iterations", "games", "return before", "return now", "best known"].map((text) => make("th", { scope: "col" }, text));
  return wide("What came of the runs", make("table", {}, make("thead", {}, make("tr", {}, header)), make("tbody", {}, rows)));
}

function settings(values, names) {
  const rows = Object.entries(values).map(([name, cells]) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, JSON.stringify(cell) ?? "–"))));
  return wide("Settings", make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "setting"), ...names.map((name) => make("th", { scope: "col" }, name)))), make("tbody", {}, rows)));
}

function flat(values, prefix = "") {
  return Object.entries(values).reduce((found, [name, value]) => Object.assign(found, value && typeof value === "object" && !Array.isArray(value) ? flat(value, `${prefix}${name}.`) : { [prefix + name]: [value] }), {});
}

function draw(all, charts) {
  plots.forEach((plot) => plot.destroy());
  plots = [];
  const ink = getComputedStyle(document.body).color;
  const wanted = CHARTS.filter(([, key]) => all.some((run) => (run.metrics[key] || []).some((value) => value !== null)));
  wanted.forEach(([title, key, interval], place) => {
    const box = charts.children[place].querySelector(".plot");
    const axis = [...new Set(all.flatMap((run) => run.metrics.games || []))].sort((a, b) => a - b);
    const series = [{ label: "games" }];
    const data = [axis];
    const bands = [];
    const add = (run, values, index, options) => {
      const at = new Map();
      (run.metrics.games || []).forEach((games, row) => { if (values[row] !== null && values[row] !== undefined) at.set(games, values[row]); });
      data.push(axis.map((games) => at.get(games) ?? null));
      series.push({ label: nameOf(all[index]), stroke: COLOURS[index % COLOURS.length], width: 2, spanGaps: true, points: { show: at.size < 40, size: 5 }, ...options });
    };
    all.forEach((run, index) => {
      const values = run.metrics[key] || [];
      const half = interval ? run.metrics[interval] || [] : [];
      if (half.some((value) => value !== null)) {
        const edge = { width: 0, stroke: "transparent", points: { show: false } };
        add(run, values.map((value, row) => (value === null || half[row] == null ? value : value + half[row])), index, edge);
        add(run, values.map((value, row) => (value === null || half[row] == null ? value : value - half[row])), index, edge);
        bands.push({ series: [series.length - 2, series.length - 1], fill: `${COLOURS[index % COLOURS.length]}33` });
      }
      add(run, values, index, {});
    });
    const lines = [];
    if (key.endsWith("return_mean")) all.forEach((run) => { if (run.summary?.reference_return != null) lines.push(run.summary.reference_return); });
    if (lines.length) {
      data.push(axis.map(() => Math.max(...lines)));
      series.push({ label: "best known", stroke: ink, width: 1, dash: [6, 4], points: { show: false } });
    }
    const grid = { stroke: ink, grid: { stroke: "#8884", width: 1 }, ticks: { stroke: "#8884", width: 1 } };
    plots.push(new uPlot({ width: box.clientWidth || 320, height: 190, series, bands, legend: { show: false }, cursor: { drag: { x: true, y: false } }, scales: { x: { time: false } }, axes: [{ ...grid }, { ...grid, size: 55 }] }, data, box));
    const latest = all.map((run) => `${nameOf(run)}: ${number((run.metrics[key] || []).filter((value) => value !== null).at(-1))}`).join("; ");
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", `${title} against games played. Last: ${latest}`);
  });
}

// --- episodes --------------------------------------------------------------------------------------------------------

async function episodes() {
  const { runs } = await ask("/api/runs");
  if (!runs[state.run]) state.run = Object.keys(runs)[0];
  const sources = runs[state.run].sources;
  if (!sources.includes(state.source)) state.source = sources[0] || "train";
  const parameters = new URLSearchParams(Object.entries(state).filter(([name]) => name !== "run"));
  const found = await ask(`/api/runs/${state.run}/episodes?${parameters}`);
  const page = document.createDocumentFragment();
  page.append(make("h2", {}, "Games"), filters(runs, sources), table(found), pager(found));
  return { page, status: `${found.count} games` };
}

function filters(runs, sources) {
  const choose = (name, values) => {
    const list = make("select", { name }, values.map(([value, text]) => make("option", { value, selected: String(state[name]) === value }, text)));
    return list;
  };
  const field = (title, control) => make("label", {}, title, control);
  const form = make("form", {},
    field("Run", choose("run", Object.entries(runs).map(([id, run]) => [id, nameOf(run)]))),
    field("Games of", choose("source", sources.map((name) => [name, { train: "training", start: "the supervised start", offline: "what demonstrations taught", final: "the end" }[name]]))),
    field("Return from", make("input", { name: "least", type: "number", step: "any", value: state.least, size: 5 })),
    field("to", make("input", { name: "most", type: "number", step: "any", value: state.most, size: 5 })),
    field("Ended by", choose("end", [["", "anything"], ...["terminated", "turn_limit", "token_limit", "env_error", "timeout"].map((end) => [end, end])])),
    field("Iteration", make("input", { name: "iteration", type: "number", min: 0, value: state.iteration, size: 5 })),
    field("Text", make("input", { name: "text", type: "search", value: state.text })),
    make("button", {}, "Show"));
  form.addEventListener("submit", (event) => { event.preventDefault(); Object.assign(state, Object.fromEntries(new FormData(form)), { offset: 0 }); route(); });
  form.addEventListener("change", () => { Object.assign(state, Object.fromEntries(new FormData(form)), { offset: 0 }); route(); });
  return form;
}

function table(found) {
  const columns = ["return", "length", "iteration", "seed", "end"];
  const header = columns.map((name) => {
    const button = make("button", { type: "button" }, `${name} ${state.sort === name ? (state.descending ? "↓" : "↑") : ""}`);
    button.addEventListener("click", () => { state.descending = state.sort === name ? 1 - state.descending : 1; Object.assign(state, { sort: name, offset: 0 }); route(); });
    return make("th", { scope: "col", "aria-sort": state.sort === name ? (state.descending ? "descending" : "ascending") : "none" }, button);
  });
  const rows = found.rows.map((row) => make("tr", {},
    make("td", {}, make("a", { href: `#episode/${state.run}/${state.source}/${row.iteration}/${row.row}` }, number(row.return))),
    ...[row.length, row.iteration, row.seed, row.end].map((value) => make("td", {}, String(value)))));
  return wide("Games", make("table", {}, make("thead", {}, make("tr", {}, header)), make("tbody", {}, rows)));
}

function pager(found) {
  const go = (offset) => { state.offset = offset; route(); };
  const before = make("button", { type: "button", disabled: state.offset === 0 }, "← newer");
  const after = make("button", { type: "button", disabled: state.offset + state.limit >= found.count }, "further →");
  before.addEventListener("click", () => go(Math.max(0, state.offset - state.limit)));
  after.addEventListener("click", () => go(state.offset + state.limit));
  const last = Math.min(found.count, state.offset + state.limit);
  return make("p", {}, before, ` ${found.count ? state.offset + 1 : 0}–${last} of ${found.count} `, after);
}

// --- one game --------------------------------------------------------------------------------------------------------

async function episode(places) {
  const games = await Promise.all(places.map(async (place) => {
    const [run, source, iteration, row] = place.split("/");
    return { run, game: await ask(`/api/runs/${run}/episodes/${source}/${iteration}/${row}`) };
  }));
  const page = document.createDocumentFragment();
  page.append(make("p", {}, make("a", { href: "#episodes" }, "← all games")));
  const sides = make("div", { className: "sides" }, games.map(({ game }) => conversation(game)));
  page.append(sides);
  if (games.length === 1) page.append(beside(games[0]));
  return { page, status: `return ${number(games[0].game.return)}` };
}

function conversation(game) {
  const gaps = game.turns.map((turn) => (turn.q === null || turn.v === null ? null : turn.q - turn.v));
  const widest = Math.max(1e-9, ...gaps.map((gap) => Math.abs(gap ?? 0)));
  const box = make("section", {},
    make("h2", {}, `Return ${number(game.return)}, ${game.end}`),
    make("p", { className: "numbers" }, `${game.source}, iteration ${game.iteration}, seed ${game.seed}` + (game.judged_by ? `; Q and V by ${game.judged_by}` : "; no critic to judge by")));
  if (game.judged_by) box.append(strip(game, gaps, widest));
  game.turns.forEach((turn, index) => {
    const gap = gaps[index];
    const colour = gap === null ? "var(--line)" : mix(gap / widest);
    const said = make("p", { className: "said" });
    if (turn.tokens.length) turn.tokens.forEach((token, place) => {
      const chance = turn.logprobs[place];
      said.append(make("span", { className: "token", title: chance === null ? "not sampled by a policy" : `log-probability ${number(chance)}, probability ${number(Math.exp(chance), 3)}`, style: { borderBottomColor: chance === null ? "transparent" : `rgba(128,128,128,${Math.min(1, -chance / 3)})` } }, token));
    });
    else said.append(turn.utterance);
    const numbers = gap === null ? `reward ${number(turn.reward)}` : `reward ${number(turn.reward)} · Q ${number(turn.q)} · V ${number(turn.v)} · advantage ${gap >= 0 ? "+" : "−"}${number(Math.abs(gap))}`;
    box.append(make("div", { className: "turn", id: `turn-${index + 1}`, tabIndex: -1, style: { borderLeftColor: colour } },
      make("div", { className: "heard" }, show(turn.observation)), said, make("div", { className: "numbers" }, numbers)));
  });
  return box;
}

function mix(share) {
  const strength = Math.round(25 + 75 * Math.min(1, Math.abs(share)));
  return `color-mix(in srgb, var(${share >= 0 ? "--good" : "--bad"}) ${strength}%, transparent)`;
}

// V before each turn as a row of bars: where a game was won or lost is where they jump.
function strip(game, gaps, widest) {
  const values = game.turns.map((turn) => turn.v);
  const low = Math.min(...values), high = Math.max(...values);
  const bars = values.map((value, index) => {
    const bar = make("a", { href: "#", title: `turn ${index + 1}: V ${number(value)}`, "aria-label": `turn ${index + 1}: V ${number(value)}`, style: { height: `${12 + 88 * (high > low ? (value - low) / (high - low) : .5)}%`, background: mix((gaps[index] ?? 0) / widest) } });
    bar.addEventListener("click", (event) => { event.preventDefault(); const turn = bar.closest("section").querySelector(`#turn-${index + 1}`); turn.scrollIntoView({ block: "center" }); turn.focus(); });
    return bar;
  });
  return make("div", { className: "strip", role: "group", "aria-label": "Value of the state before each turn" }, bars);
}

// The same task seed in another evaluation or iteration, side by side.
function beside({ run, game }) {
  const box = make("p", {});
  const button = make("button", { type: "button" }, "The same task at another time");
  button.addEventListener("click", async () => {
    const { runs } = await ask("/api/runs");
    for (const source of runs[run].sources.filter((name) => name !== game.source).reverse()) {
      const parameters = new URLSearchParams({ source, sort: "seed", descending: 0, offset: 0, limit: 200 });
      for (let offset = 0; offset < 2000; offset += 200) {
        parameters.set("offset", offset);
        const found = await ask(`/api/runs/${run}/episodes?${parameters}`);
        const same = found.rows.find((row) => row.seed === game.seed);
        if (same) { location.hash = `episode/${run}/${source}/${same.iteration}/${same.row}+${run}/${game.source}/${game.iteration}/${game.row}`; return; }
        if (offset + 200 >= found.count || found.rows.at(-1).seed > game.seed) break;
      }
    }
    box.append(make("span", { className: "numbers" }, " No other game of this seed."));
  });
  box.append(button);
  return box;
}

// --- around ----------------------------------------------------------------------------------------------------------

const PAGES = { overview, episodes, episode: (places) => episode(places.split("+")) };
let asked = 0;

// Show the page that the address names. Answers may come in another order than they were asked for: only the last counts.
async function route() {
  const [name, rest] = location.hash.slice(1).split(/\/(.*)/s);
  const mine = ++asked;
  document.querySelectorAll("nav a").forEach((link) => { if (link.hash === `#${name || "overview"}`) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current"); });
  let found;
  try {
    found = await (PAGES[name] || overview)(rest);
  } catch (error) {
    found = { page: make("p", { className: "error", role: "alert" }, error.message), status: "" };
  }
  if (mine !== asked) return;
  main.replaceChildren(found.page);
  document.getElementById("status").textContent = found.status;
  if (found.shown) found.shown();
}

window.addEventListener("hashchange", () => { route(); main.focus(); });
window.addEventListener("resize", () => { plots.forEach((plot) => plot.setSize({ width: plot.root.parentElement.clientWidth, height: 190 })); });
if (!held) setInterval(() => { if (!document.hidden && !["episodes", "episode"].includes(location.hash.slice(1).split("/")[0])) route(); }, 5000);
route();

// All games of a run: filtered, sorted, page by page.
import { ask } from "./asking.js";
import { SOURCES, again, button, choose, field, make, nameOf, number, wide } from "./dom.js";

const ENDS = ["terminated", "turn_limit", "token_limit", "env_error", "timeout"];
const COLUMNS = ["return", "length", "iteration", "seed", "end"];
const state = { run: "0", source: "train", sort: "iteration", descending: 1, offset: 0, limit: 50, least: "", most: "", end: "", text: "", iteration: "", seed: "" };

export async function episodes() {
  const { runs } = await ask("/api/runs");
  if (!runs[state.run]) state.run = Object.keys(runs)[0];
  const sources = runs[state.run].sources;
  if (!sources.includes(state.source)) state.source = sources[0] || "train";
  const parameters = new URLSearchParams(Object.entries(state).filter(([name]) => name !== "run"));
  const found = await ask(`/api/runs/${state.run}/episodes?${parameters}`);
  const page = document.createDocumentFragment();
  page.append(make("h2", {}, "Games"), filters(runs, sources), list(found), pager(found));
  return { page, status: `${found.count} games` };
}

function filters(runs, sources) {
  const form = make("form", {},
    field("Run", choose("run", Object.entries(runs).map(([id, run]) => [id, nameOf(run)]), state.run)),
    field("Games of", choose("source", sources.map((name) => [name, SOURCES[name]]), state.source)),
    field("Return from", make("input", { name: "least", type: "number", step: "any", value: state.least, className: "short" })),
    field("Return to", make("input", { name: "most", type: "number", step: "any", value: state.most, className: "short" })),
    field("Ended by", choose("end", [["", "anything"], ...ENDS.map((end) => [end, end])], state.end)),
    field("Iteration", make("input", { name: "iteration", type: "number", min: 0, value: state.iteration, className: "short" })),
    field("Task (seed)", make("input", { name: "seed", type: "number", min: 0, value: state.seed, className: "short" })),
    field("Text", make("input", { name: "text", type: "search", value: state.text })),
    make("button", { key: "show" }, "Show"));
  const apply = () => { Object.assign(state, Object.fromEntries(new FormData(form)), { offset: 0 }); again(); };
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  form.addEventListener("change", apply);
  return form;
}

function list(found) {
  const header = COLUMNS.map((name) => {
    const sorted = state.sort === name;
    const turn = () => {
      Object.assign(state, { descending: sorted ? 1 - state.descending : 1, sort: name, offset: 0 });
      again();
    };
    const sort = button(`${name} ${sorted ? (state.descending ? "↓" : "↑") : ""}`, turn, { key: `sort-${name}` });
    return make("th", { scope: "col", "aria-sort": sorted ? (state.descending ? "descending" : "ascending") : "none" }, sort);
  });
  const rows = found.rows.map((row) => make("tr", {},
    make("td", {}, make("a", { href: `#episode/${state.run}/${state.source}/${row.iteration}/${row.row}` }, number(row.return))),
    [row.length, row.iteration, row.seed, row.end].map((value) => make("td", {}, String(value)))));
  return wide("Games", make("table", {}, make("thead", {}, make("tr", {}, header)), make("tbody", {}, rows)));
}

function pager(found) {
  const go = (offset) => { state.offset = offset; again(); };
  const last = Math.min(found.count, state.offset + state.limit);
  // aria-disabled: a disabled button would lose the keyboard.
  const before = button("← back", () => go(Math.max(0, state.offset - state.limit)), { key: "before", "aria-disabled": state.offset === 0 });
  const after = button("further →", () => go(state.offset + state.limit), { key: "after", "aria-disabled": last >= found.count });
  return make("p", { className: "pager" }, before, ` ${found.count ? state.offset + 1 : 0}–${last} of ${found.count} `, after);
}

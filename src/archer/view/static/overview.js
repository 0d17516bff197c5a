// What came of the runs, their curves against games played, and the settings in which they differ.
import { ask } from "./asking.js";
import { draw, ink } from "./charts.js";
import { colourOf, make, nameOf, number, wide } from "./dom.js";

const CHARTS = [
  ["Return, evaluations", "eval/return_mean", "eval/return_ci95"],
  ["Return, games to learn from", "rollout/return_mean", "rollout/return_ci95"],
  ["Share of games won", "rollout/win_rate"],
  ["Turns of a game", "rollout/length"],
  ["Entropy of the policy, per token", "rollout/entropy"],
  ["Loss of Q", "critic/q_loss"],
  ["Loss of V", "critic/v_loss"],
  ["Critic: correlation with returns", "critic/return_correlation"],
  ["Critic: advantages of the right sign", "critic/sign_share"],
  ["Critic: bias", "critic/bias"],
  ["Critic: slope of returns on Q", "critic/slope"],
  ["Loss of the actor", "actor/loss"],
  ["KL to the start", "actor/kl"],
  ["Tokens per second, playing", "time/tokens_per_s"],
  ["Seconds of an iteration", "time/iteration_s"],
];
const TONES = { healthy: "good", collapsed: "bad" };
const verdicts = new Map(); // by run, with the iteration they are of: finding one takes the server some seconds

export function badge(verdict) {
  return make("span", { className: `badge ${TONES[verdict] || "unsure"}` }, verdict);
}

export async function overview() {
  const answer = await ask("/api/runs");
  const { runs, differences } = answer;
  const all = Object.values(runs);
  const page = document.createDocumentFragment();
  page.append(make("h2", {}, "Runs"), outcome(runs));
  const charts = make("div", { className: "cards" });
  for (const [title] of wanted(all)) charts.append(make("section", { className: "card" }, make("h3", {}, title), make("p", { className: "readout" }), make("div", { className: "plot" })));
  page.append(make("h2", {}, "Curves"), make("p", { className: "numbers" }, "Against games played, warm-up included. Dashed: the best known return; dotted: the supervised start. Point at a curve to read it; drag to zoom in, double click to zoom out."), charts);
  if (all.length > 1) page.append(make("h2", {}, "What differs"), settings(differences, all.map(nameOf)));
  page.append(make("details", { key: "settings" }, make("summary", {}, "All settings"), settings(flat(all[0].config), [nameOf(all[0])])));
  const iterations = all.map((run) => run.iterations.at(-1) ?? 0).join(", ");
  const shown = () => { drawAll(all, charts); judge(runs); };
  return { page, status: `iteration ${iterations}`, shown, state: JSON.stringify(answer) };
}

function wanted(all) {
  return CHARTS.filter(([, key]) => all.some((run) => (run.metrics[key] || []).some((value) => value !== null)));
}

function outcome(runs) {
  const header = ["run", "critic", "task", "iterations", "games", "return before", "return now", "best known"];
  const rows = Object.entries(runs).map(([id, run], index) => {
    const measured = (run.metrics["eval/return_mean"] || []).filter((value) => value !== null);
    const summary = run.summary || {};
    const choice = run.config.eval.best_of ? ` (best of ${run.config.eval.best_of})` : "";
    const swatch = make("span", { className: "swatch", style: { background: colourOf(index) } });
    const cells = [
      run.config.env.name ?? "files", `${run.iterations.at(-1) ?? 0} of ${run.config.iterations}`,
      number((run.metrics.games || []).at(-1), 0), number(measured[0]) + choice,
      number(summary.return_mean ?? measured.at(-1)) + choice, number(best(run)),
    ];
    const critic = make("td", { id: `critic-${id}`, label: header[1] }, known(id));
    return make("tr", {}, make("th", { scope: "row" }, swatch, nameOf(run)), critic, cells.map((text, place) => make("td", { label: header[place + 2] }, text)));
  });
  const head = make("tr", {}, header.map((text) => make("th", { scope: "col" }, text)));
  const found = wide("What came of the runs", make("table", {}, make("thead", {}, head), make("tbody", {}, rows)));
  found.classList.add("stack");
  return found;
}

// The best known return: known before training, but for runs of earlier versions.
function best(run) {
  return run.summary?.reference_return ?? (run.metrics["eval/reference_return"] || []).find((value) => value !== null);
}

// The verdict on a run's critic: the last one known, until there is a newer.
function known(id) {
  const found = verdicts.get(id);
  if (!found?.verdict && !found?.missing) return "…";
  if (!found.verdict) return make("span", { title: found.missing }, "–");
  return make("a", { href: `#critic/${id}`, className: "plain" }, badge(found.verdict));
}

async function judge(runs) {
  for (const [id, run] of Object.entries(runs)) {
    const iteration = run.iterations.at(-1) ?? 0;
    const before = verdicts.get(id);
    if (before?.iteration === iteration) continue;
    verdicts.set(id, { ...before, iteration }); // asked once, however often the page is shown meanwhile
    try {
      const { verdict, missing } = await ask(`/api/runs/${id}/critic`);
      // Without a checkpoint yet there may be one the next time.
      verdicts.set(id, { verdict, missing, iteration: verdict ? iteration : null });
    } catch (error) {
      verdicts.set(id, { missing: error.message, iteration });
    }
    document.getElementById(`critic-${id}`)?.replaceChildren(known(id));
  }
}

function settings(values, names) {
  const rows = Object.entries(values).map(([name, cells]) => make("tr", {}, make("th", { scope: "row" }, name), cells.map((cell) => make("td", {}, typeof cell === "string" ? cell : JSON.stringify(cell) ?? "–"))));
  const head = make("tr", {}, ["setting", ...names].map((name) => make("th", { scope: "col" }, name)));
  return wide("Settings", make("table", {}, make("thead", {}, head), make("tbody", {}, rows)));
}

function flat(values, prefix = "") {
  return Object.entries(values).reduce((found, [name, value]) => {
    const nested = value && typeof value === "object" && !Array.isArray(value);
    return Object.assign(found, nested ? flat(value, `${prefix}${name}.`) : { [prefix + name]: [value] });
  }, {});
}

function drawAll(all, charts) {
  wanted(all).forEach(([title, key, interval], place) => curve(all, charts.children[place], title, key, interval));
}

// One metric of all runs against the games they had played, with its 95 % interval where it has one.
function curve(all, card, title, key, interval) {
  const axis = [...new Set(all.flatMap((run) => run.metrics.games || []))].sort((a, b) => a - b);
  const series = [{ label: "games" }];
  const data = [axis];
  const bands = [];
  const main = []; // where in the data each run's curve is
  const add = (run, values, index, options) => {
    const at = new Map();
    (run.metrics.games || []).forEach((games, row) => { if (values[row] !== null && values[row] !== undefined) at.set(games, values[row]); });
    data.push(axis.map((games) => at.get(games) ?? null));
    series.push({ label: nameOf(run), stroke: colourOf(index), width: 2, spanGaps: true, points: { show: at.size < 40, size: 5 }, ...options });
  };
  all.forEach((run, index) => {
    const logged = run.metrics[key] || [];
    const half = interval ? run.metrics[interval] || [] : [];
    if (half.some((value) => value !== null)) {
      const edge = { width: 0, stroke: "transparent", points: { show: false } };
      const moved = (by) => logged.map((value, row) => (value === null || half[row] == null ? value : value + by * half[row]));
      add(run, moved(1), index, edge);
      add(run, moved(-1), index, edge);
      bands.push({ series: [series.length - 2, series.length - 1], fill: `${colourOf(index)}33` });
    }
    add(run, logged, index, {});
    main.push(data.at(-1));
  });
  if (key.endsWith("return_mean")) {
    const line = (value, label, stroke, dash) => {
      data.push(axis.map(() => value));
      series.push({ label, stroke, width: 1, dash, points: { show: false } });
    };
    const known = all.map(best).filter((value) => value != null);
    if (known.length) line(Math.max(...known), "best known", ink(), [6, 4]);
    all.forEach((run, index) => {
      const start = (run.metrics["eval/return_mean"] || []).find((value) => value !== null);
      if (start !== undefined) line(start, `supervised start of ${nameOf(run)}`, colourOf(index), [2, 4]);
    });
  }
  const latest = all.map((run) => `${nameOf(run)}: ${number((run.metrics[key] || []).filter((value) => value !== null).at(-1))}`).join("; ");
  const readout = card.querySelector(".readout");
  const read = (at) => readout.replaceChildren(...values(all, axis, main, at));
  read(null);
  const cursor = { drag: { x: true, y: false }, sync: { key: "games", setSeries: false, scales: ["x", null] } };
  draw(card.querySelector(".plot"), data, `${title} against games played. Last: ${latest}`, { series, bands, cursor, hooks: { setCursor: [(plot) => read(plot.cursor.idx)] } });
}

// What the curves are at a place of the axis, or at their ends.
function values(all, axis, curves, at) {
  const shown = curves.map((curve, index) => {
    const value = curve.slice(0, at == null ? undefined : at + 1).filter((one) => one !== null).at(-1);
    if (value === undefined) return null;
    return make("span", {}, make("span", { className: "swatch", style: { background: colourOf(index) }, title: nameOf(all[index]) }), brief(value));
  });
  return [...shown, at == null ? null : make("span", { className: "at" }, `at ${axis[at].toLocaleString("en")} games`)].filter((one) => one !== null);
}

// Three digits that matter.
function brief(value) {
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en").replace("-", "−") : String(Number(value.toPrecision(3))).replace("-", "−");
}

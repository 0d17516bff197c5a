// Whether a run's critic is healthy: the verdict, what came against what it said, TD errors, advantages, extremes.
import { ask, held } from "./asking.js";
import { colour, draw, ink } from "./charts.js";
import { SOURCES, advantage, again, choose, colourOf, field, make, mix, nameOf, number, show, signed, table } from "./dom.js";
import { badge } from "./overview.js";

const state = { run: null, source: "" };

export async function critic(run) {
  const { runs } = await ask("/api/runs");
  if (run) state.run = run;
  if (!runs[state.run]) state.run = Object.keys(runs)[0];
  if (!runs[state.run].sources.includes(state.source)) state.source = "";
  const found = await ask(`/api/runs/${state.run}/critic?source=${state.source}`);
  const page = document.createDocumentFragment();
  page.append(make("h2", {}, "Critic"), selection(runs, found));
  if (found.missing) {
    page.append(make("p", {}, found.missing));
    return { page, status: "" };
  }
  page.append(verdict(found), ...pictures(found), numbers(found), extremes(found));
  return { page, status: found.verdict, shown: () => drawAll(found) };
}

function selection(runs, found) {
  const form = make("form", {}, field("Run", choose("run", Object.entries(runs).map(([id, run]) => [id, nameOf(run)]), state.run)));
  if (found.sources && !held) form.append(field("Judged on games of", choose("source", found.sources.map((name) => [name, SOURCES[name]]), found.source)));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    const wanted = Object.fromEntries(new FormData(form));
    Object.assign(state, { source: "" }, wanted.run === state.run ? wanted : { run: wanted.run });
    if (location.hash === "#critic") again();
    else location.hash = "critic"; // an address that names a run would bring that one back
  });
  return form;
}

function verdict(found) {
  const reasons = found.reasons.map((reason) => make("li", {}, reason));
  return make("section", { className: "card verdict" },
    make("p", {}, badge(found.verdict), make("strong", {}, found.headline)),
    make("ul", {}, reasons),
    make("p", { className: "numbers" }, `${found.judged_by[0].toUpperCase()}${found.judged_by.slice(1)}, on ${found.judged_on}; ${found.turns} turns.`));
}

function pictures(found) {
  if (!found.calibration.length) return [];
  const card = (id, title, note) => make("section", { className: "card" }, make("h3", {}, title), make("div", { className: "plot", id }), make("p", { className: "numbers" }, note));
  return [make("div", { className: "cards" },
    card("calibration", "Calibration", "Discounted return that came, against Q, in ten bins of equally many turns, with 95 % intervals. A calibrated critic lies on the dashed line."),
    card("td", "TD error by turn", "r + γ V(s′) − Q(s, a): the mean (full line) should be near 0, the root mean square (dashed) steady."),
    card("histogram", "Advantages", "How many utterances were so much better (green) or worse (red) than the average, by the critic."))];
}

function drawAll(found) {
  if (!found.calibration.length) return;
  drawCalibration(found.calibration);
  drawErrors(found.td);
  drawHistogram(found.histogram);
}

function drawCalibration(bins) {
  const edge = { width: 0, stroke: "transparent", points: { show: false } };
  const line = colourOf(0);
  const data = [
    bins.map((bin) => bin.q), bins.map((bin) => bin.q),
    bins.map((bin) => (bin.half_width === null ? null : bin.return + bin.half_width)),
    bins.map((bin) => (bin.half_width === null ? null : bin.return - bin.half_width)),
    bins.map((bin) => bin.return),
  ];
  const series = [{}, { stroke: ink(), width: 1, dash: [6, 4], points: { show: false } }, edge, edge, { stroke: line, width: 2, points: { show: true, size: 6, fill: line } }];
  const said = `Return that came against Q: ${bins.map((bin) => `${number(bin.return)} at ${number(bin.q)}`).join(", ")}`;
  draw(document.getElementById("calibration"), data, said, { series, bands: [{ series: [2, 3], fill: `${line}33` }], axes: [{ label: "Q" }, { label: "return that came" }] });
}

function drawErrors(errors) {
  const series = [
    {},
    { stroke: ink(), width: 1, points: { show: false } },
    { stroke: colourOf(0), width: 2, points: { show: true, size: 5 } },
    { stroke: colourOf(1), width: 2, dash: [6, 4], points: { show: true, size: 5 } },
  ];
  const data = [errors.map((one) => one.turn), errors.map(() => 0), errors.map((one) => one.mean), errors.map((one) => one.rms)];
  const said = `TD error by turn, mean: ${errors.map((one) => `${one.turn}: ${number(one.mean)}`).join(", ")}`;
  draw(document.getElementById("td"), data, said, { series, axes: [{ incrs: [1, 2, 5, 10], label: "turn" }, {}] });
}

function drawHistogram({ edges, counts }) {
  const middle = counts.map((_, place) => (edges[place] + edges[place + 1]) / 2);
  const side = (wanted) => counts.map((count, place) => (wanted(middle[place]) ? count : null));
  const bars = (name) => ({ stroke: colour(name), fill: colour(name), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.9, 60] }) });
  const said = `Advantages from ${number(edges[0])} to ${number(edges.at(-1))}; most near ${number(middle[counts.indexOf(Math.max(...counts))])}`;
  draw(document.getElementById("histogram"), [middle, side((at) => at >= 0), side((at) => at < 0)], said, {
    series: [{}, bars("--good"), bars("--bad")],
    scales: { x: { time: false }, y: { range: (_, low, high) => [0, high || 1] } },
    axes: [{ label: "Q − V" }, { label: "utterances" }],
  });
}

function numbers(found) {
  const rows = found.numbers.map((one) => [one.name, one.value, one.healthy]);
  const errors = found.td.map((one) => [String(one.turn), String(one.games), signed(one.mean), number(one.rms)]);
  return make("section", {}, make("h2", {}, "Numbers"), table("Numbers", ["number", "#value", "healthy"], rows),
    make("details", { key: "td-table" }, make("summary", {}, "TD error by turn, in numbers"), table("TD error by turn", ["#turn", "#games", "#mean", "#root mean square"], errors)));
}

function extremes(found) {
  const widest = Math.max(1e-9, ...[...found.best, ...found.worst].map((one) => Math.abs(advantage(one))));
  const list = (title, rows) => make("section", {}, make("h2", {}, title), rows.length ? rows.map((one) => {
    const place = `#episode/${state.run}/${one.source}/${one.iteration}/${one.row}`;
    return make("div", { className: "turn", style: { borderLeftColor: mix(advantage(one) / widest) } },
      make("div", { className: "heard excerpt" }, show(one.observation)),
      make("p", { className: "said" }, one.utterance || "(nothing)"),
      make("div", { className: "numbers" }, `advantage ${signed(advantage(one))} · Q ${number(one.q)} · V ${number(one.v)} · `,
        make("a", { href: place }, `turn ${one.turn} of game ${one.iteration}/${one.row}`)));
  }) : make("p", { className: "numbers" }, "None."));
  return make("div", { className: "sides" }, list("Best utterances", found.best), list("Worst utterances", found.worst));
}

// One game, or two side by side: every utterance with what the critic thinks of it, and what else could have been said.
import { ask, held, send } from "./asking.js";
import { candidateTable } from "./candidates.js";
import { SOURCES, advantage, button, make, mix, nameOf, number, show, signed, table } from "./dom.js";
import { strip } from "./strip.js";

const DRAWN = 8;

export async function episode(places) {
  const asked = places.map(async (place) => {
    const [run, source, iteration, row] = place.split("/");
    return { run, place, game: await ask(`/api/runs/${run}/episodes/${source}/${iteration}/${row}`) };
  });
  const [{ runs }, ...games] = await Promise.all([ask("/api/runs"), ...asked]);
  const page = document.createDocumentFragment();
  page.append(make("p", {}, make("a", { href: "#episodes" }, "← all games")));
  page.append(make("div", { className: "sides" }, games.map((one) => conversation(one, runs, games.length > 1))));
  if (games.length === 1) page.append(beside(games[0], runs));
  return { page, status: `return ${games.map(({ game }) => number(game.return)).join(", ")}` };
}

function conversation({ run, place, game }, runs, several) {
  const won = { true: "Won, return", false: "Not won, return", null: "Return" }[game.success];
  const title = `${won} ${number(game.return)}`;
  const where = `${Object.keys(runs).length > 1 ? `${nameOf(runs[run])}, ` : ""}${SOURCES[game.source]}, iteration ${game.iteration}, seed ${game.seed}, ended by ${game.end}`;
  const box = make("section", { className: "talk" },
    make("h2", {}, several ? make("a", { href: `#episode/${place}` }, title) : title),
    make("p", { className: "numbers" }, where + (game.judged_by ? `; Q and V by ${game.judged_by}` : "; no critic to judge by")));
  if (game.judged_by) box.append(strip(game.turns, game.discount));
  const more = game.policy && !held ? (index) => siblings(run, game, index) : () => null;
  box.append(...turnBoxes(game.turns, () => null, more));
  return box;
}

// Every turn: what was heard, what was said, token by token, and the numbers.
export function turnBoxes(turns, whose = () => null, more = () => null) {
  const gaps = turns.map(advantage);
  const widest = Math.max(1e-9, ...gaps.map((gap) => Math.abs(gap ?? 0)));
  return turns.map((turn, index) => {
    const gap = gaps[index];
    const values = gap === null ? "" : ` · Q ${number(turn.q)} · V ${number(turn.v)} · advantage ${signed(gap)}`;
    const who = whose(turn);
    const colour = gap === null ? "var(--line)" : mix(gap / widest);
    return make("div", { className: "turn", id: `turn-${index + 1}`, tabIndex: -1, style: { borderLeftColor: colour } },
      make("div", { className: "heard" }, show(turn.observation)),
      make("p", { className: "said" }, who ? make("span", { className: "mark" }, who) : null, words(turn)),
      make("div", { className: "numbers" }, `reward ${number(turn.reward)}${values}`),
      make("div", { className: "more" }, tokens(turn, index), more(index)));
  });
}

// The darker the line under a token, the less likely it was.
function words(turn) {
  if (!turn.tokens.length) return [turn.utterance];
  return turn.tokens.map((token, place) => {
    const chance = turn.logprobs[place];
    const told = chance === null ? "not sampled by a policy" : `log-probability ${number(chance)}, probability ${number(Math.exp(chance), 3)}`;
    const line = chance === null ? "transparent" : `rgba(128,128,128,${Math.min(1, -chance / 3)})`;
    return make("span", { className: token === "∎" ? "token stop" : "token", title: told, style: { borderBottomColor: line } }, token);
  });
}

// The same for those who cannot hover.
function tokens(turn, index) {
  if (!turn.tokens.length || turn.logprobs.every((chance) => chance === null)) return null;
  const rows = turn.tokens.map((token, place) => [make("span", { className: "words" }, token), number(turn.logprobs[place] === null ? null : Math.exp(turn.logprobs[place]), 3), number(turn.logprobs[place])]);
  const found = table(`Tokens of turn ${index + 1}`, ["token", "#probability", "#log-probability"], rows);
  found.classList.add("few");
  return make("details", { key: `tokens-${index}` }, make("summary", {}, "Tokens"), found);
}

// Utterances that the newest policy draws at a turn, on request: none were kept when the game was played.
function siblings(run, game, turn) {
  const found = make("div", { role: "status" });
  let draw = 0;
  const more = button("What else could it have said?", async () => {
    more.setAttribute("aria-disabled", "true");
    try {
      const address = `/api/runs/${run}/episodes/${game.source}/${game.iteration}/${game.row}/${turn}/siblings`;
      const { ranked, drawn, iteration, judged } = await send(address, { count: DRAWN, draw });
      const order = judged ? "ranked by the critic of the same checkpoint" : "the most frequent first, as there is no critic";
      const note = `${drawn} utterances drawn just now by the newest checkpoint (after ${iteration} iterations), ${order}. They are not what was weighed when this game was played.`;
      found.replaceChildren(make("p", { className: "numbers" }, note), candidateTable(ranked, drawn, (one) => (one.said ? "was said" : null)));
      more.textContent = "Draw others";
      draw += 1;
    } catch (error) {
      found.replaceChildren(make("p", { className: "error" }, error.message));
    }
    more.setAttribute("aria-disabled", "false");
  }, { className: "small", key: `siblings-${turn}` });
  return make("div", { className: "siblings" }, found, more);
}

// Games of the same seed: in other evaluations and iterations, and in other runs of the task.
function beside(one, runs) {
  const found = make("div", { role: "status", className: "others" });
  const search = button("The same task at another time", async () => {
    search.setAttribute("aria-disabled", "true");
    try {
      const others = await sameTask(one, runs);
      found.replaceChildren(...(others.length ? [make("p", { className: "numbers" }, "Beside this game:"), make("ul", {}, others)] : ["No other game of this seed is kept."]));
    } catch (error) {
      found.replaceChildren(make("p", { className: "error" }, error.message));
    }
    search.setAttribute("aria-disabled", "false");
  }, { key: "beside" });
  return make("section", { className: "beside" }, search, found);
}

async function sameTask({ run, place, game }, runs) {
  const task = (id) => JSON.stringify(runs[id].config.env);
  const links = [];
  for (const [id, other] of Object.entries(runs)) {
    if (task(id) !== task(run)) continue;
    for (const source of other.sources) {
      const parameters = new URLSearchParams({ source, seed: game.seed, sort: "iteration", descending: 0, offset: 0, limit: 200 });
      const { rows } = await ask(`/api/runs/${id}/episodes?${parameters}`);
      for (const row of rows) {
        const there = `${id}/${source}/${row.iteration}/${row.row}`;
        if (there === place) continue;
        const both = id === run && row.iteration < game.iteration ? [there, place] : [place, there]; // the earlier on the left
        const when = source === "train" || source === "eval" ? `iteration ${row.iteration}` : SOURCES[source];
        const whose = id === run ? "" : `${nameOf(other)}: `;
        links.push(make("li", {}, make("a", { href: `#episode/${both.join("+")}` }, `${whose}${when}, return ${number(row.return)}`)));
      }
    }
  }
  return links;
}

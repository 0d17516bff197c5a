// One game, or two side by side: every utterance with what the critic thinks of it, and what else could have been said.
import { ask, held, send } from "./asking.js";
import { candidateTable } from "./candidates.js";
import { SOURCES, advantage, button, make, mix, number, show, signed } from "./dom.js";

const DRAWN = 8;

export async function episode(places) {
  const games = await Promise.all(places.map(async (place) => {
    const [run, source, iteration, row] = place.split("/");
    return { run, game: await ask(`/api/runs/${run}/episodes/${source}/${iteration}/${row}`) };
  }));
  const page = document.createDocumentFragment();
  page.append(make("p", {}, make("a", { href: "#episodes" }, "← all games")));
  page.append(make("div", { className: "sides" }, games.map(({ run, game }) => conversation(run, game))));
  if (games.length === 1) page.append(beside(games[0]));
  return { page, status: `return ${number(games[0].game.return)}` };
}

function conversation(run, game) {
  const where = `${SOURCES[game.source]}, iteration ${game.iteration}, seed ${game.seed}`;
  const box = make("section", { className: "talk" },
    make("h2", {}, `Return ${number(game.return)}, ${game.end}`),
    make("p", { className: "numbers" }, where + (game.judged_by ? `; Q and V by ${game.judged_by}` : "; no critic to judge by")));
  if (game.judged_by) box.append(strip(game.turns));
  const boxes = turnBoxes(game.turns);
  if (game.policy && !held) boxes.forEach((turn, index) => turn.append(siblings(run, game, index)));
  box.append(...boxes);
  return box;
}

// Every turn: what was heard, what was said, token by token, and the numbers.
export function turnBoxes(turns, whose = () => null) {
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
      make("div", { className: "numbers" }, `reward ${number(turn.reward)}${values}`));
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

// V before each turn as a row of bars: where a game was won or lost is where they jump.
export function strip(turns) {
  const gaps = turns.map(advantage);
  const widest = Math.max(1e-9, ...gaps.map((gap) => Math.abs(gap ?? 0)));
  const values = turns.map((turn) => turn.v);
  const low = Math.min(...values), high = Math.max(...values);
  const bars = values.map((value, index) => {
    const height = `${12 + 88 * (high > low ? (value - low) / (high - low) : .5)}%`;
    const told = `turn ${index + 1}: V ${number(value)}`;
    const bar = make("a", { href: "#", title: told, "aria-label": told, key: `bar-${index}`, style: { height, background: mix((gaps[index] ?? 0) / widest) } });
    bar.addEventListener("click", (event) => {
      event.preventDefault();
      const turn = bar.closest("section").querySelector(`#turn-${index + 1}`);
      turn.scrollIntoView({ block: "center" });
      turn.focus();
    });
    return bar;
  });
  return make("div", {},
    make("div", { className: "strip", role: "group", "aria-label": "Value of the state before each turn" }, bars),
    make("p", { className: "numbers" }, `V before each turn: ${low < high ? `${number(low)} to ${number(high)}` : number(low)}`));
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

// The same task seed in another evaluation or iteration, side by side.
function beside({ run, game }) {
  const box = make("p", {});
  const search = async () => {
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
  };
  box.append(button("The same task at another time", search, { key: "beside" }));
  return box;
}

// Play with a run's agent, on either side, with its critic's view of what might be said.
import { ask, send } from "./asking.js";
import { candidateTable } from "./candidates.js";
import { again, button, choose, field, make, nameOf, number, show } from "./dom.js";
import { turnBoxes } from "./game.js";
import { strip } from "./strip.js";

const wishes = { run: "0", side: "agent", seed: 1, count: 8, best: false, first: "" };

export async function play(id) {
  return id ? table(await ask(`/api/play/${encodeURIComponent(id)}`)) : beginning();
}

async function beginning() {
  const { runs } = await ask("/api/runs");
  if (!runs[wishes.run]) wishes.run = Object.keys(runs)[0];
  const first = field("You open with", make("input", { name: "first", value: wishes.first, placeholder: "what the run's own says", className: "long" }));
  const form = make("form", {},
    field("Run", choose("run", Object.entries(runs).map(([id, run]) => [id, nameOf(run)]), wishes.run)),
    field("You are", choose("side", [["agent", "the agent"], ["environment", "the environment"]], wishes.side)),
    field("The agent says", choose("best", [["", "what comes first to it"], ["1", "what its critic likes best"]], wishes.best ? "1" : "")),
    field("Seed", make("input", { name: "seed", type: "number", min: 0, max: 2 ** 53 - 1, step: 1, required: true, value: wishes.seed, className: "short" })),
    field("Candidates", make("input", { name: "count", type: "number", min: 1, max: 32, step: 1, required: true, value: wishes.count, className: "short" })),
    first,
    make("button", { className: "main" }, "Begin"));
  const update = () => {
    const given = Object.fromEntries(new FormData(form));
    Object.assign(wishes, given, { seed: Number(given.seed), count: Number(given.count), best: given.best === "1" });
    first.hidden = wishes.side === "agent";
  };
  const problem = make("p", { className: "error", role: "alert" });
  form.addEventListener("change", update);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    update();
    problem.textContent = "";
    form.setAttribute("aria-busy", "true");
    const { run, side, seed, count, best } = wishes;
    try {
      const opened = side === "environment" && wishes.first ? { first: wishes.first } : {};
      location.hash = `play/${(await send(`/api/runs/${run}/play`, { side, seed, count, best, ...opened })).id}`;
    } catch (error) {
      problem.textContent = error.message;
    }
    form.removeAttribute("aria-busy");
  });
  update();
  const page = document.createDocumentFragment();
  page.append(make("h2", {}, "Play"),
    make("p", {}, "Talk to the agent as its environment, or take its place and see what it would say, ranked by its critic. Nothing of this is kept in the run."),
    form, problem);
  return { page, status: "" };
}

function table(game) {
  const page = document.createDocumentFragment();
  const policy = `the policy after ${game.iteration} iterations`;
  page.append(make("p", {}, make("a", { href: "#play" }, "← another game")));
  const whole = make("section", { className: "talk" },
    make("h2", {}, game.side === "agent" ? "You are the agent" : "You are the environment"),
    make("p", { className: "numbers" }, `Seed ${game.seed}, ${policy}; ${game.judged_by ? `Q and V by ${game.judged_by}` : "there is no critic"}.`));
  if (game.turns.length && game.judged_by) whole.append(strip(game.turns, game.discount, game.v));
  whole.append(...turnBoxes(game.turns, (turn) => (game.side === "environment" ? null : turn.by)));
  const chosen = game.side === "environment" && game.candidates.find((one) => one.chosen);
  whole.append(make("div", { className: "turn now" }, make("div", { className: "heard" }, show(game.observation)),
    chosen ? make("p", { className: "said" }, chosen.utterance || "(nothing)") : null,
    game.v === null ? null : make("div", { className: "numbers" }, `V ${number(game.v)}: the return that the critic foresees from here`)));
  whole.append(game.end ? over(game) : game.side === "agent" ? asAgent(game) : asEnvironment(game));
  page.append(whole);
  const heard = [...show(game.observation)].slice(0, 40).join(""); // is read out, too
  return { page, status: game.end ? `over, return ${number(game.return)}` : `turn ${game.turns.length + 1}: ${heard}` };
}

function over(game) {
  return make("p", { className: "card" }, make("strong", {}, `The game is over (${game.end}), return ${number(game.return)}. `), make("a", { href: "#play" }, "Play again"));
}

// A form of one line, and what happens when it or a button beside it is used.
function moves(game, label, act) {
  const problem = make("p", { className: "error", role: "alert" });
  const words = make("input", { name: "words", autocomplete: "off" });
  const form = make("form", { className: "words" }, field(label, words));
  const move = async (content) => {
    if (form.getAttribute("aria-busy")) return;
    form.setAttribute("aria-busy", "true");
    try {
      await send(`/api/play/${encodeURIComponent(game.id)}`, { turn: game.turns.length, ...content });
      words.value = "";
      again();
    } catch (error) {
      problem.textContent = error.message;
      form.removeAttribute("aria-busy");
    }
  };
  form.addEventListener("submit", (event) => { event.preventDefault(); act(move, words.value); });
  return { form, words, move, problem };
}

function asAgent(game) {
  const { form, move, problem } = moves(game, "Your words", (send, text) => send({ say: text }));
  form.append(make("button", { key: "say", className: "main" }, "Say"), button("Let the agent speak", () => move({ step: true }), { key: "step" }));
  const hints = candidateTable(game.candidates, game.drawn, (one) => (one.chosen ? "would say this" : null), (place) => move({ pick: place }));
  return make("div", {}, form, problem, make("h3", {}, `What the agent would say, of ${game.drawn} drawn`), hints);
}

function asEnvironment(game) {
  const { form, words, move, problem } = moves(game, "Your answer", (send, text) => send({ answer: text }));
  form.append(make("button", { key: "answer", className: "main" }, "Answer"), button("Answer, and that was the end", () => move({ answer: words.value, over: true }), { key: "over" }));
  const weighed = candidateTable(game.candidates, game.drawn, (one) => (one.chosen ? "says this" : null));
  return make("div", {}, form, problem, make("h3", {}, `What it might have said, of ${game.drawn} drawn`), weighed);
}

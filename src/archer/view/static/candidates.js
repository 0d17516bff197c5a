// What an agent might say at a state, ranked by its critic.
import { advantage, button, make, mix, number, signed, table } from "./dom.js";

// `pick(place)` makes each a button; `mark(one)` is a word beside it, or null.
export function candidateTable(ranked, drawn, mark, pick = null) {
  const gaps = ranked.map(advantage);
  const judged = gaps.some((gap) => gap !== null);
  const widest = Math.max(1e-9, ...gaps.map((gap) => Math.abs(gap ?? 0)));
  const rows = ranked.map((one, place) => {
    const words = one.utterance || "(nothing)";
    const said = pick ? button(words, () => pick(place), { key: `candidate-${place}`, className: "words" }) : make("span", { className: "words" }, words);
    const label = mark(one);
    const edge = gaps[place] === null ? "var(--line)" : mix(gaps[place] / widest);
    const cell = make("div", { className: "candidate", style: { borderLeftColor: edge } }, said, label ? make("span", { className: "mark" }, label) : null);
    const chance = one.times ? `${one.times}/${drawn}` : "–";
    return judged ? [cell, signed(gaps[place]), number(one.q), chance] : [cell, chance];
  });
  const found = table("What the agent might say", ["utterance", ...(judged ? ["#advantage", "#Q"] : []), "#drawn"], rows);
  found.classList.add("few");
  return found;
}

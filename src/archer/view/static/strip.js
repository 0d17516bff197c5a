// How a game went by its critic: the return that was foreseen before each turn, and where that turned.
import { advantage, make, mix, number, signed } from "./dom.js";

// What the whole game was to come to, discounted as the critic learned it: the rewards so far and V from there on.
function foreseen(turns, discount) {
  const values = [];
  let sofar = 0, weight = 1;
  for (const turn of turns) {
    values.push(sofar + weight * turn.v);
    sofar += weight * turn.reward;
    weight *= discount;
  }
  return { values, sofar, weight };
}

// `v` is that of the state after the last turn, null where the game is over: then what came stands there.
export function strip(turns, discount, v = null) {
  const { values, sofar, weight } = foreseen(turns, discount);
  const last = v === null ? sofar : sofar + weight * v;
  const gaps = turns.map(advantage);
  const widest = Math.max(1e-9, ...gaps.map((gap) => Math.abs(gap ?? 0)));
  const all = [...values, last];
  const low = Math.min(...all), high = Math.max(...all);
  const height = (value) => `${10 + 90 * (high > low ? (value - low) / (high - low) : .5)}%`;
  const moves = turns.map((_, index) => all[index + 1] - all[index]);
  const fell = turning(moves, Math.min(...moves), -1), rose = turning(moves, Math.max(...moves), 1);
  const columns = turns.map((_, index) => {
    const told = `turn ${index + 1}: ${number(values[index])} foreseen, then ${signed(moves[index])}`;
    const bar = make("span", { className: "bar", style: { height: height(values[index]), background: mix((gaps[index] ?? 0) / widest) } });
    const mark = index === rose ? make("span", { className: "turned up" }, "▲") : index === fell ? make("span", { className: "turned down" }, "▼") : make("span", { className: "turned" });
    return link(index, { title: told, "aria-label": told, key: `bar-${index}` }, make("span", { className: "room" }, bar), mark);
  });
  const after = v === null ? "what came" : "foreseen now";
  columns.push(make("span", { className: "column", title: `${after}: ${number(last)}` }, make("span", { className: "room" }, make("span", { className: "bar last", style: { height: height(last) } })), make("span", { className: "turned" })));
  return make("div", {},
    make("div", { className: "strip", role: "group", "aria-label": "Return foreseen before each turn" }, columns),
    make("p", { className: "numbers" }, `The game as the critic foresaw it before each turn: ${number(values[0])} at first; ${after}, the grey bar: ${number(last)}.`,
      point(" Fell most in ", fell, moves), point(" Rose most in ", rose, moves)));
}

// The turn in which it moved most in a direction; -1 where it hardly did.
function turning(moves, most, direction) {
  return moves.length > 1 && most * direction > .005 ? moves.indexOf(most) : -1;
}

function point(words, index, moves) {
  return index < 0 ? null : [words, link(index, { key: `to-${index}`, className: "" }, `turn ${index + 1}`), ` (${signed(moves[index])}).`];
}

function link(index, properties, ...children) {
  const made = make("a", { href: "#", className: "column", ...properties }, ...children);
  made.addEventListener("click", (event) => {
    event.preventDefault();
    const turn = made.closest("section").querySelector(`#turn-${index + 1}`);
    turn.scrollIntoView({ block: "center" });
    turn.focus();
  });
  return made;
}

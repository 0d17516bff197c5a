// Charts by uPlot: all of a page are made when it is shown, and go with it.
const HEIGHT = 190;
let plots = [];

export function forget() {
  plots.forEach((plot) => plot.destroy());
  plots = [];
}

export function fit() {
  plots.forEach((plot) => plot.setSize({ width: plot.root.parentElement.clientWidth, height: HEIGHT }));
}

export function ink() {
  return getComputedStyle(document.body).color;
}

// A colour of the style sheet, as the canvas wants it.
export function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// `said` is what the picture shows, for those who do not see it; `options` are uPlot's.
export function draw(box, data, said, options) {
  const grid = { stroke: ink(), grid: { stroke: "#8884", width: 1 }, ticks: { stroke: "#8884", width: 1 } };
  const { axes = [{}, {}], cursor = { drag: { x: true, y: false } }, ...rest } = options;
  const words = { labelSize: 18, labelGap: 0, labelFont: "12px system-ui, sans-serif" };
  plots.push(new uPlot({
    width: box.clientWidth || 320, height: HEIGHT, legend: { show: false }, cursor,
    scales: { x: { time: false } }, axes: [{ ...grid, ...words, size: 32, ...axes[0] }, { ...grid, ...words, size: 50, ...axes[1] }], ...rest,
  }, data, box));
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", said);
}

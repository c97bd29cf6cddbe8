/* Lines over the last minutes, in SVG. A plot is made once and drawn again whenever there is something new; a pointer, or the
 * arrow keys once it has the focus, reads values off it. */

const SVG = "http://www.w3.org/2000/svg";
/* When this many times the usual time is between two points, nothing is known of it, and the line breaks. */
const GAP = 2.5;
/* What is drawn of the past: as many minutes as are known, and no more than five. */
export const KEPT_MS = 300_000;
const MINUTE_MS = 60_000;

export const element = (tag, name = "", ...children) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.append(...children);
  return node;
};

/* Changes only what has changed, so that readers are not told the same again. */
export const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
export const set = (node, name, value) => { if (node.getAttribute(name) !== value) node.setAttribute(name, value); };

/* The next round number. */
function above(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map(step => step * power).find(round => round >= value * .999);
}

const linear = least => ({
  range: (_, most) => [0, above(Math.max(most, least))],
  at: (value, [, top]) => value / top,
  ticks: ([, top]) => [0, top / 2, top],
});

/* By steps of a quarter of a decade, so that it does not move with every point; one decade at least. */
const logarithmic = {
  range: (lowest, most) => {
    const bottom = Math.floor(4 * Math.log10(Math.max(lowest, 1) * .9)) / 4;
    return [bottom, Math.max(bottom + 1, Math.ceil(4 * Math.log10(Math.max(most, 1) * 1.1)) / 4)];
  },
  at: (value, [bottom, top]) => (Math.log10(Math.max(value, 1)) - bottom) / (top - bottom),
  ticks: ([bottom, top]) => {
    const steps = top - bottom > 1.5 ? [1] : [1, 3];
    const decades = Array.from({ length: Math.ceil(top) - Math.floor(bottom) + 1 }, (_, index) => 10 ** (Math.floor(bottom) + index));
    return decades.flatMap(decade => steps.map(step => step * decade)).filter(tick => Math.log10(tick) >= bottom && Math.log10(tick) <= top);
  },
};

export const scales = { rate: linear(1), share: { ...linear(1), range: () => [0, 1] }, time: logarithmic };

export class Plot {
  /* `lines`: by class, what each is called and how its value is had of a point, null where there is none. */
  constructor(holder, { about, lines, scale, says, every_ms = 1000, bare = false }) {
    Object.assign(this, { holder, about, lines, scale, says, every_ms, bare, points: [], from: 0, over_ms: MINUTE_MS, cursor: null });
    this.svg = document.createElementNS(SVG, "svg");
    for (const [name, value] of [["viewBox", "0 0 1000 100"], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) this.svg.setAttribute(name, value);
    this.ticks = element("div", "ticks");
    this.ticks.ariaHidden = "true";
    this.readout = element("output", "readout");
    this.readout.hidden = true;
    holder.replaceChildren(this.svg, this.ticks, ...(bare ? [] : [this.readout]));
    set(holder, "role", "img");
    if (bare) return;
    holder.tabIndex = 0;
    holder.addEventListener("pointermove", event => {
      const box = this.svg.getBoundingClientRect();
      this.look(this.from + this.over_ms * (event.clientX - box.left) / box.width);
    });
    holder.addEventListener("pointerleave", () => this.look(null));
    holder.addEventListener("blur", () => this.look(null));
    holder.addEventListener("keydown", event => {
      const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -Infinity, End: Infinity }[event.key];
      if (event.key === "Escape") this.look(null);
      if (steps === undefined || this.points.length === 0) return;
      event.preventDefault();
      const at = this.cursor === null ? this.points.length - 1 : this.nearest(this.cursor);
      const next = Math.min(this.points.length - 1, Math.max(0, at + (this.cursor === null && steps === -1 ? 0 : steps)));
      this.look(this.points[next].at_ms);
    });
  }

  nearest(at_ms) {
    let best = 0;
    this.points.forEach((point, index) => { if (Math.abs(point.at_ms - at_ms) < Math.abs(this.points[best].at_ms - at_ms)) best = index; });
    return best;
  }

  look(at_ms) {
    this.cursor = at_ms;
    this.drawCursor();
  }

  draw(points) {
    this.points = points;
    const end = points.at(-1)?.at_ms ?? 0, known_ms = end - (points[0]?.at_ms ?? 0);
    this.over_ms = Math.min(KEPT_MS, Math.max(1, Math.ceil(known_ms / MINUTE_MS)) * MINUTE_MS);
    this.from = end - this.over_ms;
    const values = points.flatMap(point => this.lines.map(line => line.of(point))).filter(value => value !== null);
    this.range = this.scale.range(Math.min(...values, values.length ? Infinity : 1000), Math.max(...values, 0));
    const ticks = this.bare ? [] : this.scale.ticks(this.range);
    const grid = ticks.map(tick => this.shape("line", "grid", { x1: 0, x2: 1000, y1: this.y(tick), y2: this.y(tick) }));
    this.svg.replaceChildren(...grid, ...this.lines.flatMap(line => this.runs(line).flatMap(run => this.pieces(line, run))));
    this.ticks.replaceChildren(...ticks.map(tick => {
      const label = element("span", "", this.says(tick));
      label.style.top = `${this.y(tick)}%`;
      return label;
    }));
    const last = points.at(-1);
    const told = last ? this.lines.map(line => `${line.called} ${this.value(line, last)}`).join(", ") : "no figures yet";
    set(this.holder, "aria-label", `${this.about}: ${told}`);
    this.drawCursor();
  }

  value(line, point) {
    const value = line.of(point);
    return value === null ? "–" : this.says(value);
  }

  x(at_ms) { return 1000 * (at_ms - this.from) / this.over_ms; }
  y(value) { return 100 - 100 * this.scale.at(value, this.range); }

  /* Stretches without a gap. */
  runs(line) {
    const runs = [[]];
    let before = null;
    for (const point of this.points) {
      const value = line.of(point);
      if (value === null || (before !== null && point.at_ms - before > GAP * this.every_ms)) runs.push([]);
      before = point.at_ms;
      if (value !== null && this.x(point.at_ms) >= 0) runs.at(-1).push([this.x(point.at_ms), this.y(value)]);
    }
    return runs.filter(run => run.length > 0);
  }

  pieces(line, run) {
    /* A single point draws nothing; a short line does. */
    const dots = run.length > 1 ? run : [[run[0][0] - 2, run[0][1]], run[0]];
    const text = dots.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(2)}`).join(" ");
    const below = `${dots[0][0].toFixed(1)},100 ${text} ${dots.at(-1)[0].toFixed(1)},100`;
    return [...(line.area ? [this.shape("polygon", line.class, { points: below })] : []), this.shape("polyline", line.class, { points: text })];
  }

  shape(tag, name, attributes) {
    const shape = document.createElementNS(SVG, tag);
    shape.setAttribute("class", name);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    return shape;
  }

  drawCursor() {
    this.svg.querySelector(".cursor")?.remove();
    this.readout.hidden = this.cursor === null || this.points.length === 0;
    if (this.readout.hidden) return;
    const point = this.points[this.nearest(this.cursor)], x = this.x(point.at_ms);
    this.svg.append(this.shape("line", "cursor", { x1: x, x2: x, y1: 0, y2: 100 }));
    put(this.readout, `${clock(point.at_ms)}  ${this.lines.map(line => `${line.called} ${this.value(line, point)}`).join("  ")}`);
    this.readout.classList.toggle("left", x > 500);
  }
}

export const clock = at_ms => new Date(at_ms).toLocaleTimeString("en-GB");

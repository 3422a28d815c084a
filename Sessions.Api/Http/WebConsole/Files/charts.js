// Small charts, drawn here: lines over time, and bars by day.
import { h, svg } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 84;

/** A chart of some series that is drawn anew with each sample. */
export class LineChart {
  #label;
  #format;
  #series;
  #now = h("p", { class: "now" });
  #drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  #top = h("span", { class: "top" });

  /** Series have a name, and a class that gives them their color. */
  constructor(label, series, format) {
    [this.#label, this.#series, this.#format] = [label, series, format];
    this.element = h(
      "section",
      { class: "chart" },
      h("header", {}, h("h3", {}, label), this.#top),
      this.#now,
      this.#drawing,
      h(
        "ul",
        { class: "legend" },
        series.map(({ name, color }) => h("li", {}, h("i", { class: color }), name)),
      ),
    );
  }

  /** Draws: for each series its values, oldest first, and how many there may be. */
  draw(all, slots) {
    const top = Math.max(...all.flat(), 0);
    const scale = top > 0 ? (HEIGHT - 6) / top : 0;
    const shapes = all.flatMap((values, i) => {
      if (values.length === 0) return [];
      const from = slots - values.length;
      const points = values.map(
        (value, at) => `${(((from + at) / (slots - 1)) * WIDTH).toFixed(1)},${(HEIGHT - 2 - value * scale).toFixed(1)}`,
      );
      // A line that lies on the ground says nothing.
      if (i > 0 && values.every(value => value === 0)) return [];
      const { color } = this.#series[i];
      const start = ((from / (slots - 1)) * WIDTH).toFixed(1);
      return [
        i === 0 && svg("polygon", { class: `area ${color}`, points: `${start},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}` }),
        svg("polyline", { class: `line ${color}`, points: points.join(" "), "vector-effect": "non-scaling-stroke" }),
      ];
    });
    this.#drawing.replaceChildren(
      svg("line", { class: "ground", x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1, "vector-effect": "non-scaling-stroke" }),
      ...shapes.filter(Boolean),
    );
    const last = all.map(values => this.#format(values.at(-1) ?? 0));
    this.#now.replaceChildren(...last.flatMap((text, i) => [h("span", { class: i === 0 ? "first" : "other" }, text), " "]));
    this.#top.textContent = top > 0 ? `up to ${this.#format(top)}` : "";
    this.#drawing.setAttribute("aria-label", `${this.#label}: ${this.#series.map(({ name }, i) => `${name} ${last[i]}`).join(", ")}`);
  }
}

/** Bars by day, one above the other by name. `days` has { label, parts: [[name, value]] }. */
export function barChart(label, days, names, format) {
  const top = Math.max(1, ...days.map(day => day.parts.reduce((sum, [, value]) => sum + value, 0)));
  const step = WIDTH / days.length;
  const bars = days.flatMap((day, i) => {
    let y = HEIGHT - 1;
    return day.parts
      .filter(([, value]) => value > 0)
      .map(([name, value]) => {
        const height = Math.max(1, (value / top) * (HEIGHT - 6));
        y -= height;
        return svg(
          "rect",
          {
            class: `bar c${names.indexOf(name) % 6}`,
            x: (i * step + step * 0.15).toFixed(2),
            y: y.toFixed(2),
            width: (step * 0.7).toFixed(2),
            height: height.toFixed(2),
          },
          svg("title", {}, `${day.label}, ${name}: ${format(value)}`),
        );
      });
  });
  return h(
    "figure",
    { class: "bars" },
    svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
      svg("line", { class: "ground", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5, "vector-effect": "non-scaling-stroke" }),
      bars,
    ),
    h("figcaption", {}, h("span", {}, days[0]?.label), h("span", {}, `up to ${format(top)} a day`), h("span", {}, days.at(-1)?.label)),
    h(
      "ul",
      { class: "legend" },
      names.map((name, i) => h("li", {}, h("i", { class: `c${i % 6}` }), h("span", { dir: "auto" }, name))),
    ),
  );
}

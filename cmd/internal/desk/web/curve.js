// The curve of a call's risk, drawn by uPlot; its x axis is the time line's.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { h, colour } from "./dom.js";
import { levels } from "./words.js";

const height = 110; // CSS pixels
const least = 16; // score at the top where no call is worse: a little above critical

let styled = false;
function style() {
  if (styled) return;
  styled = true;
  document.head.append(h("link", { rel: "stylesheet", href: "/web/vendor/uplot/uPlot.min.css" }));
}

export class Curve {
  /** box is where it stands; its width is that of the drawing. */
  constructor(box) {
    style();
    this.box = box;
    this.points = [];
    this.range = [0, 20];
    this.top = least;
    this.plot = null;
    this.make();
  }

  /** Makes the drawing, in the colours of the moment. */
  make() {
    this.plot?.destroy();
    this.inks = Object.fromEntries(levels.map(level => [level, colour(level)]));
    const grid = colour("grid"), ink = colour("ink");
    this.plot = new uPlot({
      width: Math.max(50, this.box.clientWidth), height,
      padding: [6, 0, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      select: { show: false },
      scales: { x: { time: false, range: () => this.range }, y: { range: () => [0, this.top] } },
      axes: [{ show: false }, { show: true, size: 0, gap: 0, values: () => [], ticks: { show: false }, grid: { stroke: grid, width: 1 } }],
      series: [{}, { stroke: ink, width: 1.6, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) }],
      hooks: { drawAxes: [u => this.fill(u)] },
    }, this.data(), this.box);
    // What it shows is told in words beside it.
    this.plot.root.setAttribute("aria-hidden", "true");
  }

  data() {
    const x = [], y = [];
    for (const [t, score] of this.points) {
      x.push(t);
      y.push(score);
    }
    if (x.length && this.end > x.at(-1)) {
      x.push(this.end);
      y.push(y.at(-1));
    }
    return [x, y];
  }

  /** The area under the curve has the colour of the level. */
  fill(u) {
    const { ctx } = u, y0 = u.valToPos(0, "y", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    ctx.globalAlpha = 0.17;
    for (let i = 0; i < this.points.length; i++) {
      const [t, score, level] = this.points[i];
      const to = i + 1 < this.points.length ? this.points[i + 1][0] : this.end;
      if (to < this.range[0] || t > this.range[1] || score <= 0) continue;
      const x0 = u.valToPos(t, "x", true), x1 = u.valToPos(to, "x", true), y = u.valToPos(score, "y", true);
      ctx.fillStyle = this.inks[level] || this.inks.none;
      ctx.fillRect(x0, y, x1 - x0, y0 - y);
    }
    ctx.restore();
  }

  /** points are [seconds, score, level]; the curve goes on to end; from and to are what is seen. */
  draw(points, end, from, to) {
    this.points = points;
    this.end = end;
    this.range = [from, to];
    this.top = Math.max(least, ...points.map(p => p[1] * 1.08));
    const width = this.box.clientWidth;
    if (width && Math.abs(width - this.plot.width) > 0.5) this.plot.setSize({ width, height });
    this.plot.setData(this.data());
  }

  close() {
    this.plot.destroy();
  }
}

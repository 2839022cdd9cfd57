"use strict";
// Plots as SVG: lines over the last hour, and bars.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 520, HEIGHT = 190, LEFT = 44, RIGHT = 10, TOP = 10, BOTTOM = 24;

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Round up to 1, 2 or 5 times a power of ten, so that the axis has round numbers. */
function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

function plain(value) {
  return String(Number(value.toPrecision(3)));
}

/** Draw lines of one point a minute. `lines`: [{name, kind, points}], where a point is a number or null. */
function plot(place, label, end, lines) {
  const most = nice(Math.max(0, ...lines.flatMap((line) => line.points.filter((point) => point !== null))));
  const count = lines[0].points.length;
  const x = (index) => LEFT + (WIDTH - LEFT - RIGHT) * (index / (count - 1));
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / most);
  const parts = [];
  for (const part of [0, 0.5, 1]) {
    const at = y(most * part);
    parts.push(svg("line", {class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at}));
    parts.push(svg("text", {class: "axis", x: LEFT - 6, y: at + 4, "text-anchor": "end"}, plain(most * part)));
  }
  for (const minutes of [60, 45, 30, 15, 0]) {
    const index = (count - 1) * (1 - minutes / 60);
    const anchor = minutes === 60 ? "start" : minutes === 0 ? "end" : "middle";
    const time = new Date((end - minutes * 60) * 1000).toTimeString().slice(0, 5);
    parts.push(svg("text", {class: "axis", x: x(index), y: HEIGHT - 6, "text-anchor": anchor}, time));
  }
  for (const line of lines) {
    let path = "", pen = false;
    line.points.forEach((point, index) => {
      if (point === null) { pen = false; return; }
      path += `${pen ? "L" : "M"}${x(index).toFixed(1)} ${y(point).toFixed(1)}`;
      const next = line.points[index + 1] ?? null;
      if (!pen && next === null) { // a single point would be invisible
        parts.push(svg("circle", {class: `dot ${line.kind}`, cx: x(index), cy: y(point), r: 3}));
      }
      pen = true;
    });
    parts.push(svg("path", {class: `line ${line.kind}`, d: path, "stroke-linecap": "round"}));
  }
  const last = lines.map((line) => `${line.name}: at most ${plain(Math.max(0, ...line.points.map(Number)))}`);
  const drawn = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${label}. ${last.join(", ")}`}, ...parts);
  const keys = document.createElement("div");
  for (const line of lines) {
    const key = document.createElement("span");
    key.className = "key";
    key.append(svg("svg", {viewBox: "0 0 32 10", "aria-hidden": "true"}, svg("path", {class: `line ${line.kind}`, d: "M1 5H31"})), line.name);
    keys.append(key);
  }
  place.replaceChildren(drawn, keys);
}

/** Draw how much of a limit is used; without a limit there is nothing to draw. */
function bar(held, limit) {
  const share = limit > 0 ? Math.min(1, held / limit) : held > 0 ? 1 : 0;
  return svg("svg", {class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true"},
    svg("rect", {class: "back", width: 100, height: 10, rx: 2}),
    svg("rect", {class: share >= 1 ? "full" : "held", width: 100 * share, height: 10, rx: 2}));
}

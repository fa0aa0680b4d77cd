"use strict";
// The drawing of the page "Width and step size, to explore". The runs are in phases-data.js, colors in phases.css and explorable.css.

(() => {
  const { show, element, path, buildFrame, drawPowers, buildKey, buildHandle, onArrows, buildWords } = Explorable;
  const { equations, multiples, times, maxSteps, converged, diverged, rows } = PHASES;
  // The frames of both plots, in the units of their viewBox.
  const MAP = { width: 400, height: 356, left: 58, right: 394, top: 24, bottom: 312 };
  const FALL = { width: 400, height: 290, left: 52, right: 388, top: 12, bottom: 246 };
  const [WIDE, HIGH] = [(MAP.right - MAP.left) / multiples.length, (MAP.bottom - MAP.top) / rows.length];
  const LAST_FACTOR = Math.log(multiples.at(-1) / multiples[0]) / (multiples.length - 1);
  const DENSE = [...new Set(Array.from({ length: 121 }, (_, k) => Math.round(maxSteps ** (k / 120))))];

  const root = document.getElementById("phases-explorable");
  const state = { row: rows.findIndex((row) => row.width === 64), column: multiples.findIndex((c) => c > 1) };
  const parts = {};

  const count = (x) => x.toLocaleString("en");
  const clamp = (x, end) => Math.min(Math.max(x, 0), end);
  const current = () => ({ row: rows[state.row], multiple: multiples[state.column], cell: rows[state.row].cells[state.column] });
  /** The fraction of the loss that every step takes off at least; 0 where nothing is promised. */
  const promised = ({ guarantee }, multiple) => (guarantee && multiple <= guarantee.multiple ? guarantee.rate * multiple : 0);

  // Coordinates: the steps are spaced by a constant factor, each in the middle of its column.

  const x = (multiple) => MAP.left + (Math.log(multiple / multiples[0]) / LAST_FACTOR + 0.5) * WIDE;
  const y = (row) => MAP.bottom - (row + 0.5) * HIGH;

  // What is drawn

  /** The stronger the color, the faster. */
  const opacity = (steps) => 1 - 0.65 * clamp(Math.log(steps / 50) / Math.log(maxSteps / 50), 1);

  function drawField(parent, row, column) {
    const { phase, steps } = rows[row].cells[column];
    const [left, top] = [x(multiples[column]) - WIDE / 2, y(row) - HIGH / 2];
    if (phase === "diverged") {
      element("path", { d: `M${left + WIDE / 2 - 3} ${top + HIGH / 2 - 3}l6 6m0 -6l-6 6`, class: phase }, parent);
      return;
    }
    const field = element("rect", { x: left + 0.5, y: top + 0.5, width: WIDE - 1, height: HIGH - 1, class: phase }, parent);
    if (phase === "converged") field.setAttribute("fill-opacity", opacity(steps));
  }

  /** A limit that theory gives, row by row, with its name above. */
  function drawLimit(inside, map, name, limit, anchor) {
    const known = rows.map((row, k) => [limit(row), k]).filter(([value]) => value);
    element("path", { d: path(known.flatMap(([value, k]) => [[x(value), y(k) + HIGH / 2], [x(value), y(k) - HIGH / 2]]), ""), class: "theorem" }, inside);
    element("text", { x: x(known.at(-1)[0]) + (anchor === "end" ? 3 : -3), y: MAP.top - 7, "text-anchor": anchor, class: "limit" }, map, name);
  }

  function drawCurve() {
    const { row, multiple, cell } = current();
    const losses = cell.curve.map((value, k) => [times[k], value]).slice(1);
    if (cell.steps !== null && cell.steps > times[cell.curve.length - 1]) losses.push([cell.steps, cell.last]);
    const highest = Math.max(1, ...losses.map(([, value]) => value));
    const scale = drawPowers(parts.powers, FALL, Math.log10(converged), Math.ceil(Math.log10(Math.min(highest, diverged))));
    const across = (t) => FALL.left + Math.log(t) / Math.log(maxSteps) * (FALL.right - FALL.left);
    const curve = (points) => path(points.map(([t, value]) => [across(t), Math.min(Math.max(scale(value), -999), 999)]), "");
    parts.measured.setAttribute("d", curve(losses));
    const [t, value] = losses.at(-1);
    parts.end.setAttribute("cx", across(t));
    parts.end.setAttribute("cy", scale(value));
    const fall = promised(row, multiple);
    parts.guarantee.setAttribute("d", fall ? curve(DENSE.map((t) => [t, (1 - fall) ** t])) : "");
    const linearized = (t) => row.modes.reduce((sum, [eigenvalue, part]) => sum + part * (1 - multiple * eigenvalue) ** (2 * t), 0);
    parts.linearized.setAttribute("d", curve(DENSE.map((t) => [t, linearized(t)])));
  }

  // What is said

  function conclusion({ row, multiple, cell }) {
    const fall = promised(row, multiple);
    const slower = fall ? ` The guarantee promises that after ${count(Math.ceil(Math.log(converged) / Math.log1p(-fall)))} steps.` : "";
    const unknown = ` The curve ends after ${times[cell.curve.length - 1]} steps: from there on rounding errors decide about it.`;
    if (cell.phase === "converged") return `Converged: after ${cell.steps} steps the loss is below a millionth of its start.${slower}`;
    if (cell.phase === "slow") return `Slow: after ${count(maxSteps)} steps the loss is ${cell.steps ? show(cell.last) + " of its start" : "not yet a millionth of its start"}.${cell.steps ? slower : unknown}`;
    return cell.steps ? `Diverged: after ${cell.steps} steps the loss is a million times its start.` : `Diverged.${unknown}`;
  }

  function sentences({ row, multiple, cell }) {
    const { parameters, smallest, largest, kantorovich: h, guarantee } = row;
    return {
      kernel: [smallest !== null, "Kernel regular at the start", smallest === null
        ? `λ<sub>min</sub>(K) is not resolved: with ${parameters} unknowns for ${equations} equations K is singular everywhere.`
        : `${count(parameters)} unknowns for ${equations} equations; λ<sub>min</sub>(K) = ${show(smallest)}, and λ<sub>max</sub>(K) is ${show(largest / smallest)} times as large.`],
      solution: [row.certified, "A solution is proved to exist", row.certified
        ? `The Kantorovich number h = ${show(h)} is below ½, so one lies within ${show(row.distance)} of the start.`
        : h === null ? "Without a regular kernel there is no Kantorovich number." : `The Kantorovich number h = ${show(h)} is not below ½.`],
      guarantee: [promised(row, multiple) > 0, "This step size is guaranteed", guarantee
        ? `All up to ${show(guarantee.multiple)}/λ<sub>max</sub> are.${promised(row, multiple) ? ` Each step lowers the loss at least by the fraction ${show(promised(row, multiple))}.` : ""}`
        : "None is at this width, because no ball is known on which the kernel stays regular."],
      theorem: [multiple <= row.theorem, "Within Theorem 6’s step size, as measured at the start",
        `It is ${show(row.theorem)}/λ<sub>max</sub>, and the largest Hessian norm ${show(row.hessian)}. The theorem asks for constants of a whole ball.`],
      linear: [multiple < 2, "Stable for the linearized run",
        `The step size is ${show(multiple)}/λ<sub>max</sub> = ${show(multiple / largest)}; the limit is 2/λ<sub>max</sub>.${cell.top ? ` With the λ<sub>max</sub>(K) of the end of the run it is ${show(cell.top)}/λ<sub>max</sub>.` : ""}`],
    };
  }

  function draw() {
    const { row, multiple } = current();
    const where = `Width ${count(row.width)}, step size ${show(multiple)} / lambda max.`;
    parts.field.style.left = `${x(multiple) / MAP.width * 100}%`;
    parts.field.style.top = `${y(state.row) / MAP.height * 100}%`;
    parts.field.setAttribute("aria-label", `${where} ${conclusion(current())} The arrow keys go to other widths and step sizes.`);
    parts.where.innerHTML = `Width ${count(row.width)}, step size ${show(multiple)}/λ<sub>max</sub>`;
    drawCurve();
    parts.say(where, conclusion(current()), sentences(current()));
  }

  function goTo(row, column) {
    Object.assign(state, { row: clamp(row, rows.length - 1), column: clamp(column, multiples.length - 1) });
    draw();
  }

  // The page

  function buildMap(parent) {
    const holder = element("div", { class: "map" }, parent);
    const map = element("svg", { viewBox: `0 0 ${MAP.width} ${MAP.height}`, role: "img",
      "aria-label": "How gradient descent ends, for each width and step size, with the limits that theory gives. The sentences below say it for one field." }, holder);
    const inside = buildFrame(map, MAP);
    rows.forEach((row, k) => {
      multiples.forEach((_, column) => drawField(inside, k, column));
      element("text", { x: MAP.left - 6, y: y(k) + 5, "text-anchor": "end" }, map, count(row.width));
    });
    drawLimit(inside, map, "guaranteed", (row) => row.guarantee?.multiple, "end");
    drawLimit(inside, map, "Theorem 6", (row) => row.theorem, "end");
    drawLimit(inside, map, "linear limit", () => 2, "start");
    for (const tick of [0.1, 0.2, 0.5, 1, 2, 5]) element("text", { x: x(tick), y: MAP.bottom + 18, "text-anchor": "middle" }, map, tick);
    element("text", { x: (MAP.left + MAP.right) / 2, y: MAP.bottom + 37, "text-anchor": "middle" }, map, "step size, in units of 1/λ<tspan dy='4' font-size='11'>max</tspan>");
    element("text", { x: 0, y: MAP.top - 7 }, map, "width");
    parts.field = buildHandle(holder, map, MAP, "field", ([left, top]) =>
      goTo(Math.floor((MAP.bottom - top) / HIGH), Math.floor((left - MAP.left) / WIDE)));
    onArrows(parts.field, ([right, up]) => goTo(state.row + up, state.column + right));
  }

  function buildFall(parent) {
    const fall = element("svg", { viewBox: `0 0 ${FALL.width} ${FALL.height}`, role: "img",
      "aria-label": "The loss of this run, relative to its start, against the number of steps, both on logarithmic scales." }, parent);
    parts.powers = element("g", {}, fall);
    const inside = buildFrame(fall, FALL);
    for (const name of ["linearized", "guarantee", "measured"]) parts[name] = element("path", { class: name }, inside);
    parts.end = element("circle", { r: 4, class: "end" }, inside);
    for (const t of [1, 10, 100, 1000]) {
      const across = FALL.left + Math.log(t) / Math.log(maxSteps) * (FALL.right - FALL.left);
      element("text", { x: across, y: FALL.bottom + 19, "text-anchor": t === 1000 ? "end" : "middle" }, fall, count(t));
    }
    element("text", { x: (FALL.left + FALL.right) / 2, y: FALL.bottom + 38, "text-anchor": "middle" }, fall, "step t");
  }

  function build() {
    const columns = element("div", { class: "columns" }, root);
    const [left, right] = [element("div", {}, columns), element("div", {}, columns)];
    buildMap(left);
    buildKey(left, {
      converged: "converged, the stronger the faster", slow: `not within ${count(maxSteps)} steps`, diverged: "diverged", theorem: "limits that theory gives",
    }, ["converged", "slow"]);
    parts.where = element("p", { class: "where" }, right);
    buildFall(right);
    buildKey(right, { measured: "loss, relative to its start", guarantee: "guaranteed", linearized: "linearized run" });
    parts.say = buildWords(root, ["kernel", "solution", "guarantee", "theorem", "linear"]);
  }

  build();
  draw();
})();

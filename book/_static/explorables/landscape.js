"use strict";
// The drawing of the page "The landscape, to explore". Numbers are in landscape-mathematics.js, colors in landscape.css and explorable.css.

(() => {
  const { SYSTEMS, residual, loss, plRatio, determinant, judge, isolatedSolutions } = Landscape;
  const { show, element, path, buildFrame, drawPowers, buildKey, buildHandle, onArrows, buildWords } = Explorable;
  const NAMES = {
    wells: "fewer unknowns than equations",
    product: "more unknowns than equations",
    bumpyValley: "almost enough unknowns",
    folds: "as many unknowns as equations",
  };
  const FORMULAS = {
    wells: "(w₁² − 1, w₂ − w₁²/2, 0.42 (w₁ + 1)) = (0, 0, 0.3): 2 unknowns, 3 equations, no solution",
    product: "w₁w₂ = 1: 2 unknowns, 1 equation, a curve of solutions",
    bumpyValley: "(w₂ − w₁²/4, ½ + ¼ cos 5w₁ + ⅛ sin w₁) = (0, 0): steep walls, a bottom that is low but never 0",
    folds: "(w₁³/3 − w₁ + w₂²/4, w₂³/3 − w₂ + w₁²/4) = (0, 0): 2 unknowns, 2 equations, five solutions",
  };
  const identity = (x) => x;
  const SLIDERS = {
    multiple: { text: "step size, in steps of the theorem", min: 0.1, max: 5, step: 0.1, read: identity, write: identity },
    mu: { text: "μ, the constant of PL*", min: -2, max: 1, step: 0.02, read: (x) => 10 ** x, write: Math.log10 },
    epsilon: { text: "ε, losses below it do not count", min: 0, max: 1, step: 0.01, read: identity, write: identity },
    radius: { text: "R, radius of the ball", min: 0.05, max: 4, step: 0.05, read: identity, write: identity },
  };
  const CELLS = 80;
  const CONTOURS = 9;
  // The frames of both plots, in the units of their viewBox.
  const MAP = { width: 400, height: 398, left: 36, right: 394, top: 6, bottom: 364 };
  const FALL = { width: 400, height: 290, left: 52, right: 380, top: 12, bottom: 246 };
  const LOWEST = 1e-10; // relative losses below this are not drawn

  const root = document.getElementById("landscape-explorable");
  const state = { name: "product", ...SYSTEMS.product.initial };
  const parts = {};
  let field; // what depends on the system alone
  let shaded = ""; // for which system, mu and epsilon the regions are drawn

  const place = ([a, b]) => `(${a.toFixed(2)}, ${b.toFixed(2)})`;

  // Coordinates

  const scale = () => (MAP.right - MAP.left) / (2 * SYSTEMS[state.name].view.half);
  function toMap([a, b]) {
    const { center, half } = SYSTEMS[state.name].view;
    return [MAP.left + (a - center[0] + half) * scale(), MAP.bottom - (b - center[1] + half) * scale()];
  }
  function fromMap([x, y]) {
    const { center, half } = SYSTEMS[state.name].view;
    return [center[0] - half + (x - MAP.left) / scale(), center[1] - half + (MAP.bottom - y) / scale()];
  }

  // Level sets on a grid

  function onGrid(f) {
    const { center, half } = SYSTEMS[state.name].view;
    const at = (k, i) => center[k] - half + 2 * half * i / CELLS;
    return Array.from({ length: CELLS + 1 }, (_, j) => Array.from({ length: CELLS + 1 }, (_, i) => f([at(0, i), at(1, j)])));
  }

  /** Calls back for each cell with its corners, in order, and the points on its sides where the level is crossed. */
  function visitCells(values, level, visit) {
    const size = (MAP.right - MAP.left) / CELLS;
    const corner = (i, j) => [MAP.left + i * size, MAP.bottom - j * size, values[j][i]];
    for (let j = 0; j < CELLS; j++)
      for (let i = 0; i < CELLS; i++) {
        const corners = [corner(i, j), corner(i + 1, j), corner(i + 1, j + 1), corner(i, j + 1)];
        const crossings = corners.map((p, k) => {
          const q = corners[(k + 1) % 4];
          const share = (level - p[2]) / (q[2] - p[2]);
          return (p[2] >= level) !== (q[2] >= level) && [p[0] + share * (q[0] - p[0]), p[1] + share * (q[1] - p[1])];
        });
        visit(corners, crossings);
      }
  }

  /** The level set. Its pieces in the cells are joined, so that dashes run on from cell to cell. */
  function lines(values, level) {
    const name = (point) => point.map((x) => x.toFixed(2)).join();
    const neighbors = new Map();
    const link = (from, to) => neighbors.set(name(from), [...(neighbors.get(name(from)) ?? []), to]);
    visitCells(values, level, (_, crossings) => {
      const ends = crossings.filter(Boolean);
      for (let k = 0; k < ends.length; k += 2) {
        link(ends[k], ends[k + 1]);
        link(ends[k + 1], ends[k]);
      }
    });
    const follow = (from) => {
      const line = [];
      for (let next = from; next; next = neighbors.get(name(next)).find((point) => !seen.has(name(point)))) {
        seen.add(name(next));
        line.push(next);
      }
      return line;
    };
    const seen = new Set();
    let drawn = "";
    for (const [first] of neighbors.values())
      if (!seen.has(name(first))) {
        const [back, forth] = [follow(first), follow(first)];
        const closed = neighbors.get(name(back.at(-1))).some((point) => name(point) === name(first)) && back.length > 2;
        drawn += path([...back.reverse(), ...forth.slice(1)], closed ? "Z" : "");
      }
    return drawn;
  }

  /** The region where the values are at least the level. */
  function region(values, level) {
    let drawn = "";
    visitCells(values, level, (corners, crossings) => {
      const outline = corners.flatMap((p, k) => [p[2] >= level && p, crossings[k]]).filter(Boolean);
      if (outline.length) drawn += path(outline, "Z");
    });
    return drawn;
  }

  const crosses = (points) => points.map(toMap).map(([x, y]) => `M${x - 6} ${y - 6}l12 12m0 -12l-12 12`).join("");
  const dots = (points) => points.map(toMap).map(([x, y]) => `M${x - 6} ${y}a6 6 0 1 0 12 0a6 6 0 1 0 -12 0`).join("");

  // What is drawn

  function drawSystem() {
    const system = SYSTEMS[state.name];
    const equations = system.targets.length;
    const losses = onGrid((w) => loss(system, w));
    const sorted = losses.flat().sort((a, b) => a - b);
    const level = (k) => sorted[Math.floor((0.04 + 0.86 * k / (CONTOURS - 1)) * (sorted.length - 1))];
    field = { ratios: onGrid((w) => Math.min(plRatio(system, w), 1e3)), deficits: losses.map((row) => row.map((x) => -x)) };
    parts.contours.setAttribute("d", Array.from({ length: CONTOURS }, (_, k) => lines(losses, level(k))).join(""));
    parts.solutionCurve.setAttribute("d", equations === 1 ? lines(onGrid((w) => residual(system, w)[0]), 0) : "");
    parts.solutionPoints.setAttribute("d", equations === 2 ? dots(isolatedSolutions(system)) : "");
    parts.singularCurve.setAttribute("d", equations === 2 ? lines(onGrid((w) => determinant(system, w)), 0) : "");
    parts.singularPoints.setAttribute("d", crosses(system.singularPoints ?? []));
    parts.singularKey.textContent = equations === 3 ? "singular set: every point of the plane" : "singular set";
    parts.formula.textContent = `F(w) = y:  ${FORMULAS[state.name]}`;
    drawTicks(system.view);
  }

  /** At even numbers, at all whole ones in a small view; not where the names of the axes stand. */
  function drawTicks({ center, half }) {
    parts.ticks.replaceChildren();
    for (let t = -6; t <= 6; t += half > 2 ? 2 : 1) {
      const [x, y] = toMap([t, t]);
      if (Math.abs(t - center[0]) < 0.8 * half) element("text", { x, y: MAP.bottom + 17, "text-anchor": "middle" }, parts.ticks, t);
      if (Math.abs(t - center[1]) < 0.8 * half) element("text", { x: MAP.left - 5, y: y + 5, "text-anchor": "end" }, parts.ticks, t);
    }
  }

  function drawRegions() {
    const wanted = [state.name, state.mu, state.epsilon].join();
    if (shaded === wanted) return;
    shaded = wanted;
    parts.holds.setAttribute("d", region(field.ratios, state.mu));
    parts.ignored.setAttribute("d", state.epsilon ? region(field.deficits, -state.epsilon) : "");
  }

  function drawCircle(circle, name, radius) {
    const [x, y] = toMap(state.start);
    const r = radius * scale();
    circle.setAttribute("cx", x);
    circle.setAttribute("cy", y);
    circle.setAttribute("r", r);
    // The name stands on the rim where there is room for it: the inner one below, the others above if possible.
    const up = y - r > MAP.top + 14 && name !== parts.flowName;
    const visible = up || y + r < MAP.bottom - 18;
    const middle = Math.min(Math.max(x, MAP.left + 45), MAP.right - 45);
    name.setAttribute("x", middle);
    name.setAttribute("y", up ? y - r - 3 : y + r + 15);
    name.setAttribute("visibility", visible ? "visible" : "hidden");
  }

  function drawMap(verdict) {
    const { run, radii, survey, holds } = verdict;
    for (const [key, radius] of Object.entries({ flow: radii.flow, theorem: radii.theorem, radius: state.radius }))
      drawCircle(parts[key], parts[`${key}Name`], radius);
    const track = run.points.map(toMap).filter(([x, y]) => Math.abs(x) < 1e4 && Math.abs(y) < 1e4);
    parts.track.setAttribute("d", path(track, ""));
    parts.iterates.setAttribute("d", track.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join(""));
    parts.witness.setAttribute("d", holds.plStar || !survey.witness ? "" : crosses([survey.witness]));
    const [x, y] = toMap(state.start);
    parts.start.style.left = `${x / MAP.width * 100}%`;
    parts.start.style.top = `${y / MAP.height * 100}%`;
    parts.start.setAttribute("aria-label", `Start point at ${place(state.start)}. The arrow keys move it, with Shift in longer steps.`);
  }

  function drawFall({ run, guarantee }) {
    const unit = run.losses[0] || 1; // a start may be a solution
    const relative = run.losses.map((value) => value / unit);
    const promised = guarantee.map((value) => value / unit);
    const low = Math.floor(Math.log10(Math.max(LOWEST, Math.min(0.1, ...relative, ...promised))));
    const high = Math.ceil(Math.log10(Math.max(1, ...relative.filter(Number.isFinite))));
    const x = (t) => FALL.left + t / 100 * (FALL.right - FALL.left);
    const y = drawPowers(parts.powers, FALL, low, high);
    const curve = (values) => (values.length ? path(values.map((value, t) => [x(t), y(value)]), "") : "");
    parts.measured.setAttribute("d", curve(relative));
    parts.guarantee.setAttribute("d", curve(promised));
    const threshold = state.epsilon / unit;
    const seen = threshold > 10 ** low && threshold < 10 ** high;
    parts.threshold.setAttribute("d", seen ? `M${FALL.left} ${y(threshold)}H${FALL.right}` : "");
  }

  // What is said

  function sentences(verdict) {
    const { survey, r0, allowed, stepSize, run, radii, below, holds } = verdict;
    const last = run.losses.length - 1;
    const found = survey.witness
      ? `The smallest PL ratio found is ${show(survey.smallest)}, at ${place(survey.witness)}; μ is ${show(state.mu)}. Looked at: ${survey.checked.toLocaleString("en")} points of a grid, then downhill from the lowest ones. That is a search, not a proof.`
      : "Every loss found in the ball is below ε, so there is nothing to ask.";
    const epsilonText = state.epsilon === 0 ? "No loss is below an ε of 0." : below < 0 ? `Not within ${last} steps.` : `From step ${below} on.`;
    return {
      plStar: [holds.plStar, `PL* with this μ in the ball of radius R${state.epsilon ? ", where the loss is at least ε" : ""}`, found],
      ball: [holds.ball, "Ball large enough for gradient descent",
        Number.isFinite(radii.descent)
          ? `R is ${show(state.radius)}. These steps need ${show(radii.descent)}; a solution alone needs r₀/√μ = ${show(radii.flow)}.`
          : `No radius is known for steps that are too long; a solution alone needs r₀/√μ = ${show(radii.flow)}.`],
      theorem: [state.radius >= radii.theorem, "Ball large enough for Theorem 6 as printed",
        `It asks for 2 L<sub>F</sub> r₀/μ = ${show(radii.theorem)}, with L<sub>F</sub> = ${show(survey.jacobianNorm)} and r₀ = ${show(r0)}.`],
      stepSize: [holds.stepSize, "Step size allowed",
        `It is η = ${show(stepSize)}; the theorem's is 1/(L<sub>F</sub>² + β<sub>F</sub> r₀) = ${show(allowed)}, with β<sub>F</sub> = ${show(survey.curvature)}.`],
      epsilon: [below >= 0, "Loss below ε", `${epsilonText} After ${last} steps it is ${run.losses[last] < 1e-24 ? "0, up to rounding" : show(run.losses[last])}.`],
    };
  }

  function conclusion({ run, guarantee, above, promised }) {
    const line = "the loss stays on or below the dashed line";
    if (promised) return `All hypotheses hold, with the smaller ball: ${state.epsilon ? "until the loss is below ε," : "a solution lies in the ball, and"} ${line}.`;
    if (run.losses.at(-1) > run.losses[0]) return "No promise here. And the loss grows.";
    if (!guarantee.length) return "No promise here, and no dashed line: ημ is above 1.";
    if (above >= 0) return `No promise here. And the loss is above the dashed line at step ${above}.`;
    return `No promise here. Yet ${line}: the conditions are sufficient, not necessary.`;
  }

  function draw() {
    const verdict = judge(SYSTEMS[state.name], state);
    drawRegions();
    drawMap(verdict);
    drawFall(verdict);
    parts.say(`Start ${place(state.start)}.`, conclusion(verdict), sentences(verdict));
    for (const [key, { write, text }] of Object.entries(SLIDERS)) {
      parts[`${key}Slider`].value = write(state[key]);
      parts[`${key}Slider`].setAttribute("aria-valuetext", `${text}: ${show(state[key])}`);
      parts[`${key}Value`].textContent = show(state[key]);
    }
  }

  // What the reader does

  function change(update) {
    Object.assign(state, update);
    parts.frame ??= requestAnimationFrame(() => {
      parts.frame = null;
      draw();
    });
  }

  function moveTo(w) {
    const { center, half } = SYSTEMS[state.name].view;
    change({ start: w.map((x, k) => Math.min(Math.max(x, center[k] - half), center[k] + half)) });
  }

  function choose(name) {
    Object.assign(state, { name }, SYSTEMS[name].initial);
    drawSystem();
    draw();
  }

  // The page

  function buildMap(parent) {
    const holder = element("div", { class: "map" }, parent);
    const map = element("svg", { viewBox: `0 0 ${MAP.width} ${MAP.height}`, role: "img",
      "aria-label": "Map of the loss over w1 and w2, with the region of PL*, the solutions, the singular set, the balls and the path of gradient descent. The sentences below say what it shows." }, holder);
    const inside = buildFrame(map, MAP);
    for (const name of ["holds", "ignored", "contours", "singularCurve", "solutionCurve", "solutionPoints", "singularPoints"])
      parts[name] = element("path", { class: name }, inside);
    for (const name of ["radius", "flow", "theorem"]) parts[name] = element("circle", { class: name }, inside);
    for (const name of ["track", "iterates", "witness"]) parts[name] = element("path", { class: name }, inside);
    for (const [name, text] of Object.entries({ radius: "R", flow: "r₀/√μ", theorem: "Theorem 6" }))
      parts[`${name}Name`] = element("text", { class: `${name} name`, "text-anchor": "middle" }, inside, text);
    parts.ticks = element("g", {}, map);
    element("text", { x: MAP.right - 12, y: MAP.bottom + 17, "text-anchor": "middle" }, map, "w₁");
    element("text", { x: MAP.left - 5, y: MAP.top + 14, "text-anchor": "end" }, map, "w₂");
    parts.start = buildHandle(holder, map, MAP, "start", (point) => moveTo(fromMap(point)));
    onArrows(parts.start, (direction, far) => {
      moveTo(state.start.map((x, k) => Math.round((x + (far ? 0.5 : 0.05) * direction[k]) * 1e6) / 1e6));
    });
  }

  function buildFall(parent) {
    const fall = element("svg", { viewBox: `0 0 ${FALL.width} ${FALL.height}`, role: "img",
      "aria-label": "The loss, relative to its start, against the number of steps, on a logarithmic scale, with the guaranteed line." }, parent);
    parts.powers = element("g", {}, fall);
    const inside = buildFrame(fall, FALL);
    for (const name of ["threshold", "guarantee", "measured"]) parts[name] = element("path", { class: name }, inside);
    for (const t of [0, 50, 100]) {
      const x = FALL.left + t / 100 * (FALL.right - FALL.left);
      element("text", { x, y: FALL.bottom + 19, "text-anchor": "middle" }, fall, t);
    }
    element("text", { x: (FALL.left + FALL.right) / 2, y: FALL.bottom + 38, "text-anchor": "middle" }, fall, "step t");
  }

  function buildControls(parent) {
    for (const [key, { text, min, max, step, read }] of Object.entries(SLIDERS)) {
      const label = element("label", {}, parent);
      const words = element("span", {}, label, `${text}: `);
      parts[`${key}Value`] = element("output", {}, words);
      const slider = (parts[`${key}Slider`] = element("input", { type: "range", min, max, step, name: key }, label));
      slider.addEventListener("input", () => change({ [key]: read(+slider.value) }));
    }
  }

  function buildSystems(parent) {
    const set = element("fieldset", {}, parent);
    element("legend", {}, set, "The system");
    for (const [name, text] of Object.entries(NAMES)) {
      const label = element("label", {}, set);
      const radio = element("input", { type: "radio", name: "system", value: name }, label);
      radio.checked = name === state.name;
      radio.addEventListener("change", () => choose(name));
      label.append(text);
    }
    const again = element("button", { type: "button", class: "btn btn-sm btn-outline-secondary" }, set, "Start again");
    again.addEventListener("click", () => choose(state.name));
    parts.formula = element("p", { class: "formula" }, parent);
  }

  function build() {
    buildSystems(root);
    const columns = element("div", { class: "columns" }, root);
    const [left, right] = [element("div", {}, columns), element("div", {}, columns)];
    buildMap(left);
    const key = buildKey(left, {
      holds: "PL ratio at least μ", ignored: "loss below ε", solutionCurve: "solutions", singularCurve: "singular set",
      track: "gradient descent", radius: "the ball, radius R", flow: "radii that theory asks for", witness: "where PL* fails most",
    }, ["holds", "ignored"]);
    parts.singularKey = key.singularCurve;
    buildControls(right);
    buildKey(right, { measured: "loss, relative to its start", guarantee: "guaranteed, (1 − ημ)<sup>t</sup>", threshold: "ε" });
    buildFall(right);
    parts.say = buildWords(root, ["plStar", "ball", "theorem", "stepSize", "epsilon"]);
  }

  build();
  choose(state.name);
})();

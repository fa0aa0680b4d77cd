"use strict";
// The mathematics of the page "The landscape, to explore": no drawing, so that a test can hold every number against plbook.

const Landscape = (() => {
  const { cos, sin, sqrt, hypot, abs, max } = Math;
  const SLOPE = sqrt(0.18);
  const HEIGHT = 0.5;
  const COUPLING = 0.25;
  const STEPS = 100;
  // The check of a ball looks at its center and at so many points on each of so many circles, the rim among them.
  const CIRCLES = 24;
  const ANGLES = 96;
  // From the lowest of these points on the search goes downhill.
  const WALKS = 12;
  // A loss this many times the first one counts as divergence.
  const TOO_MUCH = 1e6;
  // Losses below this are made of rounding errors.
  const ROUNDING = 1e-24;

  // F, DF and, for each equation, the second derivatives [F_11, F_12, F_22], as in plbook.toys; the view is a square.
  const SYSTEMS = {
    wells: {
      targets: [0, 0, 0.3],
      value: ([a, b]) => [a * a - 1, b - a * a / 2, SLOPE * (a + 1)],
      jacobian: ([a]) => [[2 * a, 0], [-a, 1], [SLOPE, 0]],
      hessians: () => [[2, 0, 0], [-1, 0, 0], [0, 0, 0]],
      view: { center: [0, 0.5], half: 2 },
      initial: { start: [-1.5, 1.6], multiple: 1, mu: 10 ** -0.7, epsilon: 0.1, radius: 1 },
    },
    product: {
      targets: [1],
      value: ([a, b]) => [a * b],
      jacobian: ([a, b]) => [[b, a]],
      hessians: () => [[0, 1, 0]],
      singularPoints: [[0, 0]],
      view: { center: [0, 0], half: 3 },
      initial: { start: [2.4, 0.6], multiple: 1, mu: 10 ** 0.28, epsilon: 0, radius: 1 },
    },
    bumpyValley: {
      targets: [0, 0],
      value: ([a, b]) => [b - a * a / 4, HEIGHT * (1 + cos(5 * a) / 2 + sin(a) / 4)],
      jacobian: ([a]) => [[-a / 2, 1], [HEIGHT * (cos(a) / 4 - 2.5 * sin(5 * a)), 0]],
      hessians: ([a]) => [[-0.5, 0, 0], [-HEIGHT * (sin(a) / 4 + 12.5 * cos(5 * a)), 0, 0]],
      view: { center: [0, 1.4], half: 3.5 },
      initial: { start: [-2.6, 2.9], multiple: 1, mu: 10 ** -0.3, epsilon: 0.6, radius: 3.95 },
    },
    folds: {
      targets: [0, 0],
      value: ([a, b]) => [a ** 3 / 3 - a + COUPLING * b * b, b ** 3 / 3 - b + COUPLING * a * a],
      jacobian: ([a, b]) => [[a * a - 1, 2 * COUPLING * b], [2 * COUPLING * a, b * b - 1]],
      hessians: ([a, b]) => [[2 * a, 0, 2 * COUPLING], [2 * COUPLING, 0, 2 * b]],
      view: { center: [0, 0], half: 3 },
      initial: { start: [-2.2, -2.2], multiple: 1, mu: 10 ** 0.4, epsilon: 0, radius: 0.4 },
    },
  };

  const residual = (system, w) => system.value(w).map((value, i) => value - system.targets[i]);
  const loss = (system, w) => residual(system, w).reduce((sum, r) => sum + r * r, 0) / 2;

  /** DF(w)^T u. */
  function pullBack(system, w, u) {
    const rows = system.jacobian(w);
    return [0, 1].map((k) => rows.reduce((sum, row, i) => sum + row[k] * u[i], 0));
  }

  const gradient = (system, w) => pullBack(system, w, residual(system, w));

  /** 1/2 |grad L|^2 / L, from the unit residual: no square of a small residual underflows. */
  function plRatio(system, w) {
    const r = residual(system, w);
    const length = hypot(...r);
    return length === 0 ? Infinity : hypot(...pullBack(system, w, r.map((x) => x / length))) ** 2;
  }

  /** The larger eigenvalue, in absolute value, of the symmetric matrix [[a, b], [b, d]]. */
  const symmetricNorm = (a, b, d) => abs(a + d) / 2 + hypot((a - d) / 2, b);

  /** |DF|_2^2, the largest eigenvalue of K and of DF^T DF. */
  function largestEigenvalue(system, w) {
    const rows = system.jacobian(w);
    const entry = (j, k) => rows.reduce((sum, row) => sum + row[j] * row[k], 0);
    return symmetricNorm(entry(0, 0), entry(0, 1), entry(1, 1));
  }

  function determinant(system, w) {
    const [[a, b], [c, d]] = system.jacobian(w);
    return a * d - b * c;
  }

  /** The smallest eigenvalue of K = DF DF^T, n x n: 0 for n = 3, since two columns have at most rank 2. */
  function smallestEigenvalue(system, w) {
    const largest = largestEigenvalue(system, w);
    const equations = system.targets.length;
    if (equations === 1) return largest;
    return equations > 2 || largest === 0 ? 0 : determinant(system, w) ** 2 / largest;
  }

  /** The length of (|H_1|_2, ..., |H_n|_2): what DF turns by, at most, per unit of distance. */
  const curvature = (system, w) => hypot(...system.hessians(w).map((entries) => symmetricNorm(...entries)));

  function descend(system, start, stepSize, steps = STEPS) {
    const points = [start];
    const losses = [loss(system, start)];
    while (points.length <= steps && losses.at(-1) <= TOO_MUCH * losses[0]) {
      const w = points.at(-1);
      const slope = gradient(system, w);
      points.push(w.map((x, k) => x - stepSize * slope[k]));
      losses.push(loss(system, points.at(-1)));
    }
    return { points, losses };
  }

  /** The points of one circle after the other, from the center to the rim. */
  function ballPoints([a, b], radius) {
    const points = [[a, b]];
    for (let i = 1; i <= CIRCLES; i++)
      for (let j = 0; j < ANGLES; j++) {
        const angle = 2 * Math.PI * j / ANGLES;
        points.push([a + radius * i / CIRCLES * cos(angle), b + radius * i / CIRCLES * sin(angle)]);
      }
    return points;
  }

  /** From w in steps of at most `step` to where the function is smaller, until steps of a thousandth do not help. */
  function walkDown(f, w, step) {
    const directions = [[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]];
    let lowest = f(w);
    for (let length = step; length > step / 1000;) {
      const next = directions.map(([a, b]) => [w[0] + length * a, w[1] + length * b]).find((v) => f(v) < lowest);
      if (next) [w, lowest] = [next, f(next)];
      else length /= 2;
    }
    return w;
  }

  /** The points of the ball's grid, by position, whose value is not above that of their neighbors. */
  function gridMinima(values) {
    const at = (i, j) => (i < 1 ? values[0] : values[1 + (i - 1) * ANGLES + (j + ANGLES) % ANGLES]) ?? Infinity;
    return values.flatMap((value, position) => {
      const [i, j] = [Math.ceil(position / ANGLES), (position - 1) % ANGLES];
      const neighbors = position === 0 ? values.slice(1, ANGLES + 1) : [at(i - 1, j), at(i + 1, j), at(i, j - 1), at(i, j + 1)];
      return value < Infinity && neighbors.every((other) => value <= other) ? [position] : [];
    });
  }

  /**
   * The smallest PL ratio found where the loss counts, on the grid and then downhill from its local minima (a critical point
   * between grid points is easily missed otherwise), and the constants L_F and beta_F on the grid.
   */
  function surveyBall(system, start, radius, epsilon) {
    const points = ballPoints(start, radius);
    const ratio = (w) => {
      const outside = hypot(w[0] - start[0], w[1] - start[1]) > radius * (1 + 1e-12);
      return outside || loss(system, w) < epsilon ? Infinity : plRatio(system, w);
    };
    const ratios = points.map(ratio);
    const lowest = gridMinima(ratios).sort((i, j) => ratios[i] - ratios[j]).slice(0, WALKS)
      .map((position) => walkDown(ratio, points[position], radius / CIRCLES));
    const witness = lowest.reduce((best, w) => (best && ratio(best) <= ratio(w) ? best : w), null);
    return {
      checked: points.length,
      smallest: witness ? ratio(witness) : Infinity,
      witness,
      jacobianNorm: sqrt(max(...points.map((w) => largestEigenvalue(system, w)))),
      curvature: max(...points.map((w) => curvature(system, w))),
    };
  }

  /** All numbers and verdicts for one setting of start, multiple (theta), mu, epsilon and radius. */
  function judge(system, { start, multiple, mu, epsilon, radius }) {
    const survey = surveyBall(system, start, radius, epsilon);
    const r0 = hypot(...residual(system, start));
    const allowed = 1 / (survey.jacobianNorm ** 2 + survey.curvature * r0);
    const stepSize = multiple * allowed;
    const run = descend(system, start, stepSize);
    const factor = 1 - stepSize * mu;
    const guarantee = factor >= 0 ? run.losses.map((_, t) => factor ** t * run.losses[0]) : [];
    const radii = {
      theorem: 2 * survey.jacobianNorm * r0 / mu,
      flow: r0 / sqrt(mu),
      descent: multiple <= 1 ? 2 / (2 - multiple) * r0 / sqrt(mu) : Infinity,
    };
    const below = run.losses.findIndex((value) => value < epsilon);
    // What happens once the loss is below epsilon is not promised.
    const counts = (value, t) => value > ROUNDING && (below < 0 || t <= below);
    const above = run.losses.findIndex((value, t) => counts(value, t) && value > guarantee[t] * (1 + 1e-9));
    const holds = { plStar: survey.smallest >= mu, ball: radius >= radii.descent, stepSize: multiple <= 1 };
    const promised = Object.values(holds).every(Boolean);
    return { survey, r0, allowed, stepSize, run, guarantee, radii, below, above, holds, promised };
  }

  /** Newton's method from a grid of the view: the solutions of two equations in it, each once. */
  function isolatedSolutions(system) {
    const found = [];
    const { center, half } = system.view;
    for (let cell = 0; cell < 144; cell++) {
      let start = center.map((x, k) => x + half * ((k ? cell % 12 : Math.floor(cell / 12)) / 5.5 - 1));
      for (let step = 0; step < 30; step++) {
        const [r, s] = residual(system, start);
        const [[a, b], [c, d]] = system.jacobian(start);
        const det = a * d - b * c;
        start = [start[0] - (d * r - b * s) / det, start[1] - (a * s - c * r) / det];
      }
      const near = (other) => hypot(other[0] - start[0], other[1] - start[1]) < 1e-6;
      if (loss(system, start) < 1e-20 && !found.some(near)) found.push(start);
    }
    return found;
  }

  return {
    SYSTEMS, residual, loss, gradient, plRatio, largestEigenvalue, determinant, smallestEigenvalue, curvature, descend,
    ballPoints, judge, isolatedSolutions,
  };
})();

"use strict";
// What the explorable pages have in common: making elements, plots and keys, moving a handle, saying what is seen. Colors are in explorable.css.

const Explorable = (() => {
  const show = (x) => (x === 0 || (Math.abs(x) >= 1e-3 && Math.abs(x) < 1e4) ? String(+x.toPrecision(3)) : x.toExponential(0));

  function element(tag, attributes, parent, text) {
    const svg = ["svg", "path", "circle", "text", "g", "rect"].includes(tag);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.innerHTML = text;
    return parent.appendChild(made);
  }

  const path = (points, close) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}${close}`;

  /** What is drawn inside is cut off at the frame. */
  function buildFrame(parent, { left, right, top, bottom }) {
    const frame = { x: left, y: top, width: right - left, height: bottom - top };
    const inside = element("svg", { ...frame, viewBox: Object.values(frame).join(" ") }, parent);
    element("rect", { ...frame, class: "frame" }, inside);
    return inside;
  }

  /** A logarithmic axis at the left of a frame, from 10^low to 10^high; returns the height of a value. */
  function drawPowers(parent, { left, right, top, bottom }, low, high) {
    // A loss of 0 has no logarithm; it lies far below the frame.
    const y = (value) => bottom - (Math.log10(Math.max(value, 1e-99)) - low) / (high - low) * (bottom - top);
    parent.replaceChildren();
    for (let power = low, every = high - low > 5 ? 2 : 1; power <= high; power += every) {
      const height = y(10 ** power);
      element("path", { d: `M${left} ${height}H${right}`, class: "grid" }, parent);
      const text = power === 0 ? "1" : `10${[...String(power)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("")}`;
      element("text", { x: left - 6, y: height + 5, "text-anchor": "end" }, parent, text);
    }
    return y;
  }

  /** A list of samples with their names; returns the names' elements. "fields" are filled, not drawn as a line. */
  function buildKey(parent, entries, fields = []) {
    const list = element("ul", { class: "key" }, parent);
    return Object.fromEntries(Object.entries(entries).map(([name, text]) => {
      const item = element("li", {}, list);
      const sample = element("svg", { viewBox: "0 0 24 12", "aria-hidden": "true" }, item);
      if (fields.includes(name)) element("rect", { width: 24, height: 12, class: name }, sample);
      else element("path", { d: ["witness", "diverged"].includes(name) ? "M7 1l10 10m0 -10l-10 10" : "M1 6H23", class: name }, sample);
      return [name, element("span", {}, item, text)];
    }));
  }

  /** A button on a map that a pointer drags; a click on the map brings it there. `place` gets a point in units of the viewBox. */
  function buildHandle(holder, map, { width, height }, name, place) {
    const handle = element("button", { type: "button", class: `handle ${name}` }, holder);
    const onPointer = (event) => {
      const box = map.getBoundingClientRect();
      place([(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height]);
    };
    map.addEventListener("click", onPointer);
    handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", (event) => {
      if (handle.hasPointerCapture(event.pointerId)) onPointer(event);
    });
    return handle;
  }

  /** Arrow keys as steps to the right and up; they do not scroll the page. */
  function onArrows(handle, move) {
    handle.addEventListener("keydown", (event) => {
      const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!direction) return;
      event.preventDefault();
      move(direction, event.shiftKey);
    });
  }

  /** A summary, sentences with yes or no, and the same in short for screen readers; returns what fills them. */
  function buildWords(root, keys) {
    const summary = element("p", { class: "summary" }, root);
    const list = element("ul", { class: "verdicts" }, root);
    const items = Object.fromEntries(keys.map((key) => [key, element("li", {}, list)]));
    const status = element("p", { role: "status", class: "visually-hidden" }, root);
    let timer;
    return (where, conclusion, verdicts) => {
      summary.textContent = conclusion;
      for (const [key, [yes, claim, reason]] of Object.entries(verdicts)) {
        items[key].className = yes ? "yes" : "no";
        items[key].innerHTML = `<strong>${claim}: ${yes ? "yes" : "no"}.</strong> ${reason}`;
      }
      // Read aloud once the hand rests, not at every point on the way.
      clearTimeout(timer);
      const short = Object.values(verdicts).map(([yes, claim]) => `${claim}: ${yes ? "yes" : "no"}.`);
      timer = setTimeout(() => { status.textContent = [where, conclusion, ...short].join(" "); }, 400);
    };
  }

  return { show, element, path, buildFrame, drawPowers, buildKey, buildHandle, onArrows, buildWords };
})();

"use strict";
(() => {
  // A page is printed as it is in the light, whatever the theme.
  const root = document.documentElement;
  let theme;
  addEventListener("beforeprint", () => { theme = root.dataset.theme; root.dataset.theme = "light"; });
  addEventListener("afterprint", () => { root.dataset.theme = theme; });

  // The theme's arrows in the side bar have no name.
  for (const arrow of document.querySelectorAll("summary:has(> .toctree-toggle)")) arrow.ariaLabel = "Pages below this one";

  // The lines that the search shows have formulas, too.
  const results = document.getElementById("search-results");
  if (results) {
    new MutationObserver((changes) => {
      const added = changes.flatMap((change) => [...change.addedNodes]).filter((node) => node.matches?.("p.context"));
      if (added.length) MathJax.startup.promise.then(() => MathJax.typesetPromise(added));
    }).observe(results, { childList: true, subtree: true });
  }

  // What scrolls sideways can be reached by the keyboard.
  function markScrolling() {
    for (const box of document.querySelectorAll(".bd-content :is(pre, table, div.math, mjx-container[display])")) {
      if (box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX === "auto") box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }
  // A period or a comma stays with the formula or the code before it.
  for (const symbol of document.querySelectorAll("article :is(span.math, code)")) {
    const next = symbol.nextSibling;
    const marks = next?.nodeType === Node.TEXT_NODE ? next.data.match(/^[.,;:?!)]+/)?.[0] : null;
    if (!marks) continue;
    next.data = next.data.slice(marks.length);
    const together = Object.assign(document.createElement("span"), { className: "together" });
    symbol.replaceWith(together);
    together.append(symbol, marks);
  }
  addEventListener("load", () => MathJax.startup.promise.then(markScrolling));
  addEventListener("resize", markScrolling);
})();

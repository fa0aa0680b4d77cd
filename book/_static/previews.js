"use strict";
// Shows a statement, a word of the glossary, a refresher or a formula beside a link to it: when the pointer rests on
// the link, or the keyboard reaches it. Escape closes it. By touch a link is just a link.

(() => {
  const SHOWN = ".proof, dt, aside, .math"; // what a link may lead to if it is to be shown here
  const pages = new Map();
  let box = null;
  let timer;

  function parsed(address) {
    if (!pages.has(address))
      pages.set(address, fetch(address).then((answer) => answer.text()).then((text) => new DOMParser().parseFromString(text, "text/html")));
    return pages.get(address);
  }

  /** A copy of what the link leads to, or nothing if that is a whole section. */
  async function copyOf(link) {
    const [address, id] = link.href.split("#");
    const found = (await parsed(address)).getElementById(decodeURIComponent(id));
    const target = found?.matches("span") ? found.nextElementSibling : found;
    if (!target?.matches(SHOWN)) return null;
    const copy = document.createElement("div");
    copy.append(target.cloneNode(true), ...(target.matches("dt") ? [target.nextElementSibling.cloneNode(true)] : []));
    copy.querySelectorAll(".headerlink").forEach((one) => one.remove());
    copy.querySelectorAll("[id]").forEach((one) => one.removeAttribute("id"));
    copy.querySelectorAll("a[href]").forEach((one) => { one.href = new URL(one.getAttribute("href"), address); });
    return copy;
  }

  function close() {
    clearTimeout(timer);
    if (!box) return;
    MathJax.typesetClear([box]);
    box.link.removeAttribute("aria-describedby");
    box.remove();
    box = null;
  }

  /** Below the link, or above it where there is more room. */
  function place(link) {
    const at = link.getBoundingClientRect();
    const below = window.innerHeight - at.bottom;
    const up = below < box.offsetHeight + 8 && at.top > below;
    box.style.maxHeight = `${(up ? at.top : below) - 8}px`;
    box.style.top = up ? `${Math.max(at.top - box.offsetHeight, 4)}px` : `${at.bottom}px`;
    box.style.left = `${Math.max(4, Math.min(at.left, document.documentElement.clientWidth - box.offsetWidth - 4))}px`;
  }

  async function open(link) {
    if (!MathJax.typesetPromise) return; // still on its way
    const copy = await copyOf(link);
    if (!copy || !(link.matches(":hover") || link === document.activeElement)) return;
    close();
    box = copy;
    Object.assign(box, { className: "preview", id: "preview", role: "tooltip", link });
    box.addEventListener("pointerleave", closeSoon);
    box.addEventListener("pointerenter", () => clearTimeout(timer));
    link.closest("article").append(box);
    await MathJax.typesetPromise([box]);
    if (box !== copy) return;
    link.setAttribute("aria-describedby", "preview");
    place(link);
  }

  function closeSoon() {
    clearTimeout(timer);
    timer = setTimeout(close, 200);
  }

  function openSoon(link) {
    clearTimeout(timer);
    timer = setTimeout(open, 250, link);
  }

  if (location.protocol === "file:") return; // there a page may not read another
  for (const link of document.querySelectorAll("article a.internal[href*='#']")) {
    link.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") openSoon(link); });
    link.addEventListener("pointerleave", closeSoon);
    link.addEventListener("focus", () => { if (link.matches(":focus-visible")) openSoon(link); });
    link.addEventListener("blur", closeSoon);
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  document.addEventListener("scroll", () => { if (box) place(box.link); });
})();

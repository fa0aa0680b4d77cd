// A part of Sphinx's search: what has the typed words in its name comes first, "Theorem 1" not "Theorem 12".
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score: ([, title, , , score]) => {
    const typed = new URLSearchParams(location.search).get("q").trim().toLowerCase();
    const at = title.toLowerCase().indexOf(typed);
    const longer = /\d$/.test(typed) && /^\d/.test(title.slice(at + typed.length));
    if (at < 0 || longer) return score;
    return score + (at === 0 ? 200 : 100);
  },
};

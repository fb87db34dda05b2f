// Tiles, selections and words that filter the table of claims.
"use strict";
(() => {
  const rows = [...document.querySelectorAll("tr.claim")];
  const bar = document.getElementById("filters");
  if (!bar) return;
  const find = (name) => document.getElementById(`filter-${name}`);
  const [verdict, paper, words] = ["verdict", "paper", "words"].map(find);
  const tiles = [...document.querySelectorAll("a.tile")];

  function show() {
    const wanted = words.value.trim().toLowerCase();
    let n = 0;
    for (const row of rows) {
      const fits =
        (!verdict.value || row.dataset.verdict === verdict.value) &&
        (!paper.value || row.dataset.paper === paper.value) &&
        (!wanted || row.textContent.toLowerCase().includes(wanted));
      row.hidden = !fits;
      n += fits;
    }
    for (const group of document.querySelectorAll("#claims tbody.paper")) {
      group.hidden = ![...group.querySelectorAll("tr.claim")].some((row) => !row.hidden);
    }
    find("count").textContent = `${n} of ${rows.length} shown`;
    for (const tile of tiles) {
      tile.setAttribute("aria-pressed", String(tile.dataset.verdict === verdict.value));
    }
  }

  for (const tile of tiles) {
    tile.setAttribute("role", "button");
    tile.addEventListener("keydown", (event) => {
      if (event.key !== " ") return; // as of any button; links know the enter key alone
      event.preventDefault();
      tile.click();
    });
    tile.addEventListener("click", (event) => {
      event.preventDefault();
      const again = verdict.value === tile.dataset.verdict;
      verdict.value = again ? "" : tile.dataset.verdict;
      show();
      if (!again) document.getElementById("claims").scrollIntoView();
    });
  }
  for (const control of [verdict, paper, words]) control.addEventListener("input", show);

  function showAll() {
    verdict.value = paper.value = words.value = "";
    show();
  }
  find("none").addEventListener("click", showAll);
  // A link to a row that is filtered out brings it back.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#claim-"]');
    const row = link && document.getElementById(link.getAttribute("href").slice(1));
    if (row && row.hidden) showAll();
  });
  bar.hidden = false;
  show();
})();

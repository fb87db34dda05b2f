// Steps through attacked images: a problem, a classifier, an image.
(() => {
  const data = document.getElementById("viewer-data");
  if (!data) return;
  const views = JSON.parse(data.textContent);
  const find = (name) => document.getElementById(`viewer-${name}`);
  const [problem, classifier] = [find("problem"), find("classifier")];
  let place = 0;

  function fill(select, names) {
    const before = select.value;
    select.replaceChildren(...names.map((name, index) => new Option(name, String(index))));
    select.value = before && before < names.length ? before : "0";
  }

  function show() {
    const view = views[problem.value];
    const images = view.classifiers[classifier.value].images;
    place = (place + images.length) % images.length;
    for (const part of ["original", "attacked", "difference"]) find(part).src = images[place][part];
    find("place").textContent = `image ${place + 1} of ${images.length}: ${images[place].words}`;
  }

  function choose() {
    fill(classifier, views[problem.value].classifiers.map((one) => one.name));
    show();
  }

  fill(problem, views.map((view) => view.title));
  function step(by) {
    place += by;
    show();
  }

  problem.addEventListener("input", choose);
  classifier.addEventListener("input", show);
  find("back").addEventListener("click", () => step(-1));
  find("on").addEventListener("click", () => step(1));
  // Arrows step, too, but not where they choose from a list.
  document.getElementById("viewer").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.target.tagName === "SELECT") return;
    event.preventDefault();
    step(by);
  });
  choose();
})();

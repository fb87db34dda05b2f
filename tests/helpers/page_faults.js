// What is wrong with a page for its readers, each fault with the element that has it.
(() => {
  const faults = [];
  const every = (selector) => [...document.querySelectorAll(selector)];
  const seen = (element) => element.checkVisibility({ visibilityProperty: true });
  const told = (what, element) =>
    faults.push(`${what}: ${element.outerHTML.replace(/data:[^"]*/g, "data:").slice(0, 120)}`);

  for (const details of every("details")) details.open = true;
  if (!document.documentElement.lang) faults.push("no language");
  if (!document.title) faults.push("no title");
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) faults.push(`${width} pixels wide in a window of ${innerWidth}`);

  let level = 0;
  for (const heading of every("h1, h2, h3, h4, h5, h6").filter(seen)) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) told(`heading of level ${own} after ${level}`, heading);
    level = own;
  }
  for (const image of every("img")) {
    if (!image.alt) told("image without words", image);
    if (!image.complete || !image.naturalWidth) told("image that is missing", image);
  }
  const ids = every("[id]").map((element) => element.id);
  for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) < i))) faults.push(`two of ${id}`);
  for (const link of every('a[href^="#"]')) {
    const id = decodeURIComponent(link.getAttribute("href").slice(1));
    if (id && !document.getElementById(id)) told("link to nothing", link);
  }
  for (const control of every("input:not([type='hidden']), select, textarea, button, summary")) {
    const words = control.labels?.[0]?.textContent || control.ariaLabel || control.textContent;
    if (!words.trim()) told("control without a name", control);
  }
  for (const table of every("table")) {
    if (!table.querySelector("thead th, th[scope]")) told("table without heads", table);
    if (getComputedStyle(table).display !== "table" && innerWidth > 800) told("no table", table);
  }
  for (const box of every("*").filter(seen)) {
    const style = getComputedStyle(box);
    const scrolls = /auto|scroll/.test(style.overflowX) && box.scrollWidth > box.clientWidth + 1;
    if (scrolls && box.tabIndex < 0 && !box.querySelector("a[href], button, [tabindex]")) {
      told("out of reach of the keyboard", box);
    }
  }

  const numbers = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  function luminance(colour) {
    const [r, g, b] = numbers(colour)
      .slice(0, 3)
      .map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  function behind(element) {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (numbers(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !seen(element)) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [light, dark] = [luminance(ink), luminance(behind(element))].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < (large ? 3 : 4.5)) told(`contrast ${ratio.toFixed(2)}`, element);
  }

  for (const control of every("a[href], button, input, select, summary, [tabindex='0']")) {
    if (!seen(control)) continue;
    control.focus();
    if (getComputedStyle(control).outlineStyle === "none") told("focus that is not seen", control);
  }
  document.activeElement.blur();
  scrollTo(0, 0);
  return [...new Set(faults)];
})()

// The explorer: formulas of `trueboundary.theory` for the values of the sliders, and their curves.
// Nothing here is approximate but what is called so; the browser tests hold it to the Python.
(() => {
  // --- log of the regularised incomplete beta function, as in theory/_beta.py -------------------

  const STIRLING = [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156];

  /** log Gamma(a) - [(a - 1/2) log a - a + log(2 pi)/2] */
  function stirlingRemainder(a) {
    let shift = 0;
    for (; a < 10; a += 1) shift += (a + 0.5) * Math.log1p(1 / a) - 1;
    return shift + STIRLING.reduceRight((total, c) => total / (a * a) + c, 0) / a;
  }

  /** log(ratio) - excess for ratio = 1 + excess, without cancellation near ratio 1 */
  function log1pMinus(ratio, excess) {
    if (!(excess > -0.4 && excess < 0.6)) return Math.log(ratio) - excess;
    const r = excess / (2 + excess);
    let [total, power] = [0, 1];
    for (let n = 3; power > 1e-18; n += 2, power *= r * r) total += power / n;
    return 2 * r * r * r * total - excess * r;
  }

  /** log[x^a y^b / B(a, b)] for y = 1 - x */
  function logPowerTerm(a, b, x, y) {
    const n = a + b;
    const delta = x < 0.5 ? x - a / n : b / n - y;
    const deviance =
      a * log1pMinus((x * n) / a, (delta * n) / a) + b * log1pMinus((y * n) / b, (-delta * n) / b);
    const rest = stirlingRemainder(n) - stirlingRemainder(a) - stirlingRemainder(b);
    return deviance + 0.5 * Math.log((a * b) / (2 * Math.PI * n)) + rest;
  }

  function continuedFraction(a, b, x, y, excess) {
    const ratio = 1 + 1 / a;
    let d = ratio / (1 + excess);
    let [value, c] = [d, Infinity];
    for (let n = 1; n < 100000; n += 1) {
      const t = n / a;
      const w = n * (b - n) * x;
      const s = a + 2 * n - 1;
      const before = 1 + (n - 1) / a;
      const alpha = before * (before + b / a) * (a / s) ** 2 * w * x;
      const beta = n + w / s + ((1 + t) / (ratio + 2 * t)) * (1 + excess + n * (1 + y));
      d = 1 / (beta + alpha * d);
      c = beta + alpha / c;
      value *= c * d;
      if (Math.abs(c * d - 1) < 4e-16) break;
    }
    return value;
  }

  /** log I_x(a, b) for y = 1 - x */
  function logBetainc(a, b, x, y) {
    if (x <= 0) return -Infinity;
    if (y <= 0) return 0;
    const excess = x < 0.5 ? a - (a + b) * x : (a + b) * y - b;
    if (excess >= 0) {
      const fraction = continuedFraction(a, b, x, y, excess);
      return Math.min(logPowerTerm(a, b, x, y) + Math.log(fraction), 0);
    }
    const fraction = continuedFraction(b, a, y, x, -excess);
    return Math.log1p(-Math.exp(logPowerTerm(b, a, y, x)) * fraction);
  }

  // --- log of the normal distribution function ---------------------------------------------------

  function logNormal(x) {
    if (x > 0) return Math.log1p(-Math.exp(logNormal(-x)));
    const logDensity = -0.5 * (x * x + Math.log(2 * Math.PI));
    if (x > -3) {
      let [term, total] = [x, x];
      for (let n = 3; Math.abs(term) > 1e-18; n += 2) total += term *= (x * x) / n;
      return Math.log(0.5 + Math.exp(logDensity) * total);
    }
    let tail = -x; // Mills' ratio as a continued fraction, from its far end
    for (let n = 200; n > 0; n -= 1) tail = -x + n / tail;
    return logDensity - Math.log(tail);
  }

  // --- caps, as in theory/caps.py ------------------------------------------------------------------

  /** log share of the sphere that a cap of an angle up to pi/2 covers */
  function logCap(dim, angle) {
    const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
    return logBetainc((dim - 1) / 2, 0.5, sine * sine, cosine * cosine) - Math.LN2;
  }

  function capAngle(dim, logMeasure) {
    let [low, high] = [0, Math.PI / 2];
    for (let i = 0; i < 60; i += 1) {
      const middle = (low + high) / 2;
      if (logCap(dim, middle) < logMeasure) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  }

  /** mean distance from a random point to a cap of at most half the sphere, by Simpson's rule */
  function capDistance(dim, logMeasure, radius = 1) {
    const phi = capAngle(dim, logMeasure);
    const window = 9 / Math.sqrt(Math.max(dim - 2, 1));
    const start = Math.max(phi, Math.PI / 2 - window);
    const stop = Math.min(Math.PI, Math.PI / 2 + window);
    const m = (dim - 1) / 2;
    const logBeta =
      0.5 * Math.log((2 * Math.PI) / m) - m * Math.log1p(0.5 / m) +
      stirlingRemainder(m) + stirlingRemainder(0.5) - stirlingRemainder(m + 0.5);
    const n = 600;
    let total = 0;
    for (let i = 0; i <= n; i += 1) {
      const psi = start + ((stop - start) * i) / n;
      const weight = i === 0 || i === n ? 1 : i % 2 ? 4 : 2;
      // A circle has the same density everywhere, also where the sine is 0 and has no logarithm.
      const logSine = dim > 2 ? 0.5 * Math.log1p(-(Math.cos(psi) ** 2)) : 0;
      const density = Math.exp((dim - 2) * logSine - logBeta);
      total += weight * density * 2 * Math.sin((psi - phi) / 2);
    }
    return (radius * total * (stop - start)) / (3 * n);
  }

  // --- the classifier that sees k coordinates, as in theory/truncated.py ---------------------------

  const logMean = (one, other) => {
    const most = Math.max(one, other);
    if (most === -Infinity) return most;
    return most + Math.log((Math.exp(one - most) + Math.exp(other - most)) / 2);
  };

  function logErrors(dim, k, b, radius) {
    const rest = (1 - b + (radius - 1) * (radius + 1)) / radius ** 2;
    return {
      inner: logBetainc((dim - k) / 2, k / 2, 1 - b, b),
      outer: logBetainc(k / 2, (dim - k) / 2, b / radius ** 2, rest),
    };
  }

  function logErrorsByClt(dim, k, b, radius) {
    const tail = (share, sign) => {
      const std = Math.sqrt(2 * (k * (1 - share) ** 2 + (dim - k) * share ** 2));
      return logNormal((sign * (k - share * dim)) / std);
    };
    return { inner: tail(b, 1), outer: tail(b / radius ** 2, -1) };
  }

  const thresholdAt = (dim, k, radius, place) => (k / dim) * (1 + place * (radius ** 2 - 1));

  function bestThreshold(dim, k, radius) {
    if (k > dim - 3) return 1;
    const logRho = ((-2 * k) / (dim - k - 2)) * Math.log(radius);
    return Math.expm1(logRho) / Math.expm1(logRho - 2 * Math.log(radius));
  }

  /** smallest k whose mean error rate is at most a target; null if none of 1, ..., d - 3 has */
  function requiredCoordinates(dim, logTarget, radius, place, method = "exact") {
    const errors = method === "clt" ? logErrorsByClt : logErrors;
    const reaches = (k) => {
      const b = place === "best" ? bestThreshold(dim, k, radius) : thresholdAt(dim, k, radius, place);
      const found = errors(dim, k, b, radius);
      return logMean(found.inner, found.outer) <= logTarget;
    };
    let [low, high] = [0, dim - 3];
    if (high < 1 || !reaches(high)) return null;
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (reaches(middle)) high = middle;
      else low = middle;
    }
    return high;
  }

  // --- drawing ---------------------------------------------------------------------------------------

  const [LEFT, RIGHT, TOP, BOTTOM] = [58, 416, 12, 272];

  function element(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function ticksOf([low, high]) {
    const raw = (high - low) / 5;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= raw);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i += 1) {
      ticks.push(Number((i * step).toPrecision(12)));
    }
    return ticks;
  }

  /** Draw curves of points [x, y] and marks; points without a finite y are left out. */
  function draw(id, { curves, marks, x, y, xName, yName, xWords = String }) {
    const svg = document.getElementById(id);
    const across = (value) => LEFT + ((RIGHT - LEFT) * (value - x[0])) / (x[1] - x[0]);
    const up = (value) => BOTTOM - ((BOTTOM - TOP) * (value - y[0])) / (y[1] - y[0]);
    const parts = [];
    for (const tick of ticksOf(x)) {
      const at = across(tick);
      parts.push(element("path", { class: "grid", d: `M${at} ${TOP}V${BOTTOM}` }));
      parts.push(element("text", { x: at, y: BOTTOM + 17, "text-anchor": "middle" }, xWords(tick)));
    }
    for (const tick of ticksOf(y)) {
      const at = up(tick);
      parts.push(element("path", { class: "grid", d: `M${LEFT} ${at}H${RIGHT}` }));
      parts.push(element("text", { x: LEFT - 7, y: at + 4, "text-anchor": "end" }, String(tick)));
    }
    parts.push(element("path", { class: "axis", d: `M${LEFT} ${TOP}V${BOTTOM}H${RIGHT}` }));
    const middle = (TOP + BOTTOM) / 2;
    const turned = { x: 15, y: middle, "text-anchor": "middle", transform: `rotate(-90 15 ${middle})` };
    parts.push(element("text", { x: (LEFT + RIGHT) / 2, y: 308, "text-anchor": "middle" }, xName));
    parts.push(element("text", turned, yName));
    for (const { look, points } of curves) {
      let path = "";
      let isOpen = false;
      for (const [px, py] of points) {
        const inside = py !== null && Number.isFinite(py) && py >= y[0] && py <= y[1];
        if (inside) path += `${isOpen ? "L" : "M"}${across(px).toFixed(2)} ${up(py).toFixed(2)}`;
        isOpen = inside;
      }
      parts.push(element("path", { class: `curve ${look}`, d: path }));
    }
    for (const [px, py] of marks) {
      if (py !== null && Number.isFinite(py) && py >= y[0]) {
        parts.push(element("circle", { class: "mark", cx: across(px), cy: up(py), r: 5 }));
      }
    }
    svg.replaceChildren(...parts);
  }

  /** a number that stays on one line */
  const power = (digits, exponent) => `${digits}\u00a0×\u00a010^${exponent}`;

  function words(value) {
    if (value === 0) return "0";
    const [mantissa, exponent] = value.toPrecision(4).split("e");
    const short = String(Number(mantissa));
    return exponent === undefined ? short : power(short, Number(exponent));
  }

  /** a rate from its natural logarithm, also where it is below all numbers */
  function rate(logRate) {
    if (logRate === -Infinity) return "0";
    const log10 = logRate / Math.LN10;
    if (log10 > -4) return words(Math.exp(logRate));
    const floor = Math.floor(log10);
    const mantissa = Number((10 ** (log10 - floor)).toPrecision(3));
    const [digits, whole] = mantissa < 10 ? [mantissa, floor] : [1, floor + 1];
    return power(digits, whole);
  }

  const several = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

  // --- sliders -----------------------------------------------------------------------------------------

  const find = (name) => document.getElementById(`explore-${name}`);
  const NAMES = ["dim", "radius", "error", "threshold", "share"];

  function read() {
    const [dim, gap, error, threshold, share] = NAMES.map((name) => Number(find(name).value));
    // Dimensions from 2 to 10,000 and gaps R - 1 from 0.001 to 1 go evenly on a logarithmic scale.
    const d = Math.round(Number((2 * 5000 ** (dim / 1000)).toPrecision(3)));
    const radius = 1 + Number((0.001 * 1000 ** (gap / 1000)).toPrecision(3));
    return { dim: d, radius, log10Error: error, threshold, share };
  }

  const grid = (low, high, n) => Array.from({ length: n + 1 }, (_, i) => low + ((high - low) * i) / n);

  function drawCaps({ dim, radius, log10Error }) {
    const xs = grid(-30, Math.log10(0.5), 60);
    const inner = xs.map((x) => [x, capDistance(dim, x * Math.LN10)]);
    const outer = inner.map(([x, distance]) => [x, radius * distance]);
    const here = capDistance(dim, log10Error * Math.LN10);
    const curves = [{ look: "first", points: inner }, { look: "second", points: outer }];
    const marks = [[log10Error, here], [log10Error, radius * here]];
    draw("explore-caps", {
      curves, marks, x: [-30, 0], y: [0, 1.05 * outer[0][1]],
      xName: "log10 of the error rate", yName: "mean distance (L2)",
    });
    find("caps-words").textContent =
      `At d = ${dim} and ${rate(log10Error * Math.LN10)} it is ${words(here)} on the inner sphere ` +
      `and ${words(radius * here)} on the outer one.`;
    return { inner, outer, here };
  }

  function drawShares({ dim, radius, log10Error, threshold }) {
    const target = log10Error * Math.LN10;
    const share = (d, place, method) => {
      const k = requiredCoordinates(d, target, radius, place, method);
      return k === null ? null : k / d;
    };
    const x = [Math.log10(2), 4];
    const xs = grid(...x, 60);
    const along = (place, method) =>
      xs.map((x) => {
        const d = Math.round(10 ** x);
        return [Math.log10(d), share(d, place, method)];
      });
    const exact = along(threshold);
    const clt = along(threshold, "clt");
    const best = along("best");
    const here = share(dim, threshold);
    draw("explore-shares", {
      curves: [
        { look: "third", points: best },
        { look: "second dashed", points: clt },
        { look: "first", points: exact },
      ],
      marks: [[Math.log10(dim), here]], x, y: [0, 1],
      xName: "dimension d", yName: "k/d needed", xWords: (tick) => (tick % 1 ? "" : String(10 ** tick)),
    });
    find("shares-words").textContent = here === null
      ? `At d = ${dim} no share reaches ${rate(target)} on average over the spheres.`
      : `At d = ${dim} an error rate of ${rate(target)} on average over the spheres needs ` +
        `${several(Math.round(here * dim), "coordinate")}, ${words(100 * here)} %.`;
    return { exact, clt, best, here };
  }

  function drawEllipsoid({ dim, radius, threshold, share }) {
    const k = Math.min(dim - 1, Math.max(1, Math.round(share * dim)));
    const at = (place, errors) => errors(dim, k, thresholdAt(dim, k, radius, place), radius);
    const xs = grid(0, 1, 80);
    const exact = xs.map((x) => [x, at(x, logErrors)]);
    const inner = exact.map(([x, found]) => [x, found.inner / Math.LN10]);
    const outer = exact.map(([x, found]) => [x, found.outer / Math.LN10]);
    const clt = xs.map((x) => {
      const found = at(x, logErrorsByClt);
      return [x, logMean(found.inner, found.outer) / Math.LN10];
    });
    const here = at(threshold, logErrors);
    const logs = [...inner, ...outer].map(([, y]) => y).filter(Number.isFinite);
    const lowest = Math.max(-60, Math.floor(Math.min(-1, ...logs)));
    draw("explore-ellipsoid", {
      curves: [
        { look: "third dashed", points: clt },
        { look: "first", points: inner },
        { look: "second", points: outer },
      ],
      marks: [[threshold, here.inner / Math.LN10], [threshold, here.outer / Math.LN10]],
      x: [0, 1], y: [lowest, 0], xName: "threshold", yName: "log10 of the error rate",
    });
    const b = thresholdAt(dim, k, radius, threshold);
    find("ellipsoid-words").textContent =
      `${several(k, "alpha")} of ${words(1 / b)} and ${dim - k} of 0 err on ${rate(here.inner)} of the inner ` +
      `sphere and ${rate(here.outer)} of the outer one.`;
    return { k, b, inner, outer, clt, here };
  }

  function show() {
    const chosen = read();
    const told = {
      dim: String(chosen.dim),
      radius: words(chosen.radius),
      error: rate(chosen.log10Error * Math.LN10),
      threshold: chosen.threshold.toFixed(2),
      share: `${Math.round(100 * chosen.share)} %`,
    };
    for (const name of NAMES) {
      find(`${name}-value`).textContent = told[name];
      find(name).setAttribute("aria-valuetext", told[name]); // the slider's own number says little
    }
    const [caps, shares, ellipsoid] = [drawCaps, drawShares, drawEllipsoid].map((f) => f(chosen));
    // What is drawn, for whoever wants the numbers.
    globalThis.explored = { chosen, caps, shares, ellipsoid };
  }

  for (const name of NAMES) find(name).addEventListener("input", show);
  show();
})();

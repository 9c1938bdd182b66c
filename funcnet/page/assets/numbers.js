// The embedded numbers, and how numbers and symbols are written. Nothing is computed here but digits.
const data = JSON.parse(document.getElementById("data").textContent);
const depth = data.layers.length - 1;
const opened = new Map();

function unpacked(text) {
  if (!opened.has(text)) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    opened.set(text, data.wide ? new Float64Array(bytes.buffer) : new Float32Array(bytes.buffer));
  }
  return opened.get(text);
}

// What is shown: which example, rate and step of descent, and how many steps of the tour were taken.
const state = { example: data.example, rate: 0, descent: 0, step: 0, weight: null, path: null, digits: false };

function momentAt(descent) {
  return data.moments[descent === 0 ? 0 : 1 + state.rate * data.steps + descent - 1];
}

function passAt(descent) {
  return momentAt(descent).examples[state.example];
}

// One unit's number: unit is its place among the drawn ones. Layer 0 is the input.
function unitValue(pass, what, layer, unit) {
  if (layer === 0) return unpacked(data.examples[state.example].x)[unit];
  return unpacked(pass[what][layer - 1])[unit];
}

// One weight's number in a list of matrices (from, to); the bias stands in the row after the last.
function weightValue(matrices, weight) {
  const width = data.layers[weight.layer].shown.length;
  return unpacked(matrices[weight.layer - 1])[weight.from * width + weight.to];
}

function isBias(weight) {
  return weight.from === data.layers[weight.layer - 1].shown.length;
}

function weightsOf(layer) {
  const rows = data.layers[layer - 1].shown.length + (data.layers[layer].bias ? 1 : 0);
  const weights = [];
  for (let from = 0; from < rows; from++)
    for (let to = 0; to < data.layers[layer].shown.length; to++) weights.push({ layer, from, to });
  return weights;
}

function sameWeight(a, b) {
  return Boolean(a && b) && a.layer === b.layer && a.from === b.from && a.to === b.to;
}

function targetOf(unit) {
  const target = data.examples[state.example].target;
  if (target === null) return null;
  if (typeof target === "number") return data.layers[depth].shown[unit] === target ? 1 : 0;
  return unpacked(target)[unit];
}

// Digits. A float32 is written with as many digits as tell it from its neighbours.
function full(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  let text = String(value);
  for (let digits = 1; !data.wide && digits < 10; digits++) {
    text = String(Number(value.toPrecision(digits)));
    if (Math.fround(Number(text)) === value) break;
  }
  return text
    .replace("-", "−")
    .replace("e−", "e-")
    .replace(/e[-+]?\d+$/, power);
}

function power(exponent) {
  const raised = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
  return "·10" + [...exponent.slice(1).replace("+", "")].map((c) => raised[c]).join("");
}

function short(value) {
  if (!Number.isFinite(value)) return full(value);
  const size = Math.abs(value),
    plain = size === 0 || (size >= 1e-4 && size < 9999.5);
  const exact = full(value);
  if (plain && exact.replace(/^−?0?\.?0*/, "").replace(".", "").length <= 4) return exact;
  if (plain) return value.toPrecision(4).replace("-", "−");
  const [digits, exponent] = value.toExponential(3).split("e");
  return digits.replace(/\.?0+$/, "").replace("-", "−") + power("e" + exponent);
}

function shown(value) {
  return state.digits ? full(value) : short(value);
}

// Elements. Text is only ever set as text, so that a label stays a label.
function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function mathml(tag, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/1998/Math/MathML", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined));
  return element;
}

function refilled(element, ...children) {
  element.replaceChildren();
  return filled(element, {}, children);
}

function number(value) {
  return h("span", { class: "n", title: full(value) }, shown(value));
}

// A number behind an operator: in brackets if it is negative.
function operand(value) {
  return value < 0 ? ["(", number(value), ")"] : number(value);
}

// A symbol: letter with the layer in brackets above and indices below.
function symbol(letter, layer, below) {
  const base = mathml("mi", {}, letter);
  const sup =
    layer === null || layer === undefined
      ? null
      : mathml(
          "mrow",
          {},
          mathml("mo", { stretchy: "false" }, "("),
          mathml("mn", {}, String(layer)),
          mathml("mo", { stretchy: "false" }, ")"),
        );
  const sub = below === null || below === undefined ? null : mathml("mrow", {}, mathml("mi", {}, String(below)));
  if (sup && sub) return mathml("msubsup", {}, base, sub, sup);
  if (sup) return mathml("msup", {}, base, sup);
  return sub ? mathml("msub", {}, base, sub) : base;
}

function formula(...parts) {
  return mathml("math", {}, mathml("mrow", {}, ...parts));
}

function mo(sign) {
  return mathml("mo", {}, sign);
}

function partial(of, by) {
  return mathml("mfrac", {}, mathml("mrow", {}, mo("∂"), of), mathml("mrow", {}, mo("∂"), by));
}

// Units and weights in words. Labels count from 1, array indices from 0.
function unitNumber(layer, unit) {
  return data.layers[layer].shown[unit] + 1;
}

function unitName(layer, unit) {
  const names = data.layers[layer].names;
  if (names) return names[unit];
  if (layer > 0 && layer < depth) return `unit ${unitNumber(layer, unit)} of layer ${layer}`;
  return `${layer ? "output" : "input"} ${unitNumber(layer, unit)}`;
}

function unitSymbol(letter, layer, unit) {
  if (layer === 0 && letter === "a") return symbol("x", null, unitNumber(0, unit));
  return symbol(letter, layer, unitNumber(layer, unit));
}

function weightSymbol(weight) {
  if (isBias(weight)) return symbol("b", weight.layer, unitNumber(weight.layer, weight.to));
  const indices = `${unitNumber(weight.layer, weight.to)},${unitNumber(weight.layer - 1, weight.from)}`;
  return symbol("θ", weight.layer, indices);
}

function costText() {
  return data.examples.length === 1
    ? "J"
    : "J" + [...String(state.example + 1)].map((digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]).join("");
}

function weightText(weight) {
  const to = unitNumber(weight.layer, weight.to);
  return isBias(weight)
    ? `b(${weight.layer}) ${to}`
    : `θ(${weight.layer}) ${to},${unitNumber(weight.layer - 1, weight.from)}`;
}

function weightIndex(weight) {
  const to = data.layers[weight.layer].shown[weight.to];
  return isBias(weight) ? `b[${to}]` : `w[${data.layers[weight.layer - 1].shown[weight.from]}, ${to}]`;
}

function costSymbol() {
  return data.examples.length === 1 ? mathml("mi", {}, "J") : symbol("J", null, state.example + 1);
}

// A step's formula with the numbers in it.
function named(layer, unit) {
  return data.layers[layer].names ? h("span", { class: "aside" }, " " + unitName(layer, unit)) : null;
}

// What the activation says of its value (0) or derivative (1). A short one is not broken over lines.
function formOf(layer, which) {
  const form = data.layers[layer].formula?.[which] ?? "";
  return form.length > 40 ? form : form.replaceAll(" ", "\u00a0");
}

// An expression with numbers in the place of its letters.
function inNumbers(expression, values) {
  const parts = expression.split(/\b([aypC])\b/);
  return parts.map((part, i) => {
    if (i % 2 === 0) return part;
    const before = parts[i - 1],
      value = values[part],
      times = /[\d½²³)] $/.test(before) || (i > 1 && before === " ") ? "· " : "";
    return [times, /(^|[(|]|, |where |else )$/.test(before) ? number(value) : operand(value)];
  });
}

function costAt(descent) {
  return unpacked(momentAt(descent).cost)[0];
}

function fallen(until) {
  const costs = [];
  for (let descent = 0; descent <= until; descent++) costs.push(costAt(descent));
  return h(
    "p",
    { class: "costs" },
    formula(mathml("mi", {}, "J")),
    ": ",
    costs.map((cost, i) => [i ? " → " : "", number(cost)]),
  );
}

// θ·a + θ·a + … + b. Terms of units that are not drawn are counted.
function sumInto(pass, layer, to) {
  const width = data.layers[layer - 1].shown.length,
    matrices = momentAt(state.descent).params;
  const terms = data.layers[layer - 1].shown.map((_, from) => [
    operandFirst(weightValue(matrices, { layer, from, to }), from),
    "·",
    operand(unitValue(pass, "a", layer - 1, from)),
  ]);
  const parts = withGap(terms, layer - 1);
  if (data.layers[layer].bias) parts.push([" + ", operand(weightValue(matrices, { layer, from: width, to }))]);
  return parts;
}

function errorInto(pass, layer, unit) {
  if (layer === depth) return [operandFirst(unpacked(pass.costSlope)[unit], 0)];
  const matrices = momentAt(state.descent).params;
  const terms = data.layers[layer + 1].shown.map((_, to) => [
    operandFirst(weightValue(matrices, { layer: layer + 1, from: unit, to }), to),
    "·",
    operand(unitValue(pass, "delta", layer + 1, to)),
  ]);
  return terms.length > 1 || hiddenIn(layer + 1) ? ["(", ...withGap(terms, layer + 1), ")"] : terms;
}

function operandFirst(value, place) {
  return place ? operand(value) : number(value);
}

function hiddenIn(layer) {
  return data.layers[layer].units - data.layers[layer].shown.length;
}

// Terms added; one that begins with a minus is taken off.
function withGap(terms, layer, whole = true) {
  const hidden = hiddenIn(layer),
    parts = [];
  terms.forEach((term, i) => {
    const minus = i > 0 && typeof term[0] === "string" && term[0].startsWith("−"),
      sign = minus ? " − " : " + ";
    if (i) parts.push(hidden && i === terms.length - 1 ? " + " : sign);
    if (hidden && i === terms.length - 1) parts.push(h("span", { class: "aside" }, `… ${hidden} more`), sign);
    parts.push(h("span", whole ? { class: "term" } : {}, minus ? [term[0].slice(1), ...term.slice(1)] : term));
  });
  return parts;
}

function costLines(pass) {
  const outputs = data.layers[depth].shown,
    target = data.examples[state.example].target,
    chances = pass.chances ? unpacked(pass.chances) : null,
    lines = [];
  const at = (unit) => unitValue(pass, "a", depth, unit);
  const term = (expression, unit) =>
    inNumbers(expression, { a: at(unit), y: targetOf(unit), p: chances?.[unit], C: data.layers[depth].units });
  const winner = typeof target === "number" ? outputs.indexOf(target) : null;
  let terms = null;
  if (data.loss.ofClass && winner !== null) terms = winner < 0 ? null : term(data.loss.ofClass, winner);
  else if (data.loss.cost && target !== null)
    terms = withGap(
      outputs.map((_, unit) => term(data.loss.cost, unit)),
      depth,
      data.loss.cost.length <= 30,
    );
  if (chances || !terms)
    outputs.forEach((_, unit) =>
      lines.push([
        formula(chances ? symbol("p", null, unitNumber(depth, unit)) : unitSymbol("a", depth, unit)),
        " = ",
        number(chances ? chances[unit] : at(unit)),
        targetOf(unit) === null ? null : h("span", { class: "aside" }, " target ", number(targetOf(unit))),
        chances ? named(depth, unit) : null,
      ]),
    );
  return [...lines, [formula(costSymbol()), terms ? [" = ", ...terms] : null, " = ", number(unpacked(pass.cost)[0])]];
}

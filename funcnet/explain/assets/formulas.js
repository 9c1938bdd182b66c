// A step's formula with the numbers in it.
function named(layer, unit) {
  return data.layers[layer].names ? h("span", { class: "aside" }, " " + unitName(layer, unit)) : null;
}

function formOf(layer, which) {
  const name = functionName(layer).match(/^(\w+)\(\)$/);
  return name && FUNCTIONS[name[1]] ? FUNCTIONS[name[1]][which].replaceAll(" ", "\u00a0") : "";
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

function withGap(terms, layer) {
  const hidden = hiddenIn(layer),
    parts = [];
  terms.forEach((term, i) => {
    if (i) parts.push(" + ");
    if (hidden && i === terms.length - 1) parts.push(h("span", { class: "aside" }, `… ${hidden} more`), " + ");
    parts.push(h("span", { class: "term" }, term));
  });
  return parts;
}

function costLines(pass) {
  const outputs = data.layers[depth].shown,
    target = data.examples[state.example].target;
  const value = [" = ", number(unpacked(pass.cost)[0])];
  const at = (unit) => unitValue(pass, "a", depth, unit);
  const lines = [];
  if (pass.chances) {
    const chances = unpacked(pass.chances);
    outputs.forEach((_, unit) =>
      lines.push([
        formula(symbol("p", null, unitNumber(depth, unit))),
        " = ",
        number(chances[unit]),
        targetOf(unit) === null ? null : h("span", { class: "aside" }, " target ", number(targetOf(unit))),
        named(depth, unit),
      ]),
    );
    const winner = typeof target === "number" ? outputs.indexOf(target) : -1;
    if (winner >= 0 && data.loss.code === "CrossEntropy()")
      return [...lines, [formula(costSymbol()), " = −log ", number(chances[winner]), ...value]];
  } else if (data.loss.name === "SquaredError" && target !== null) {
    const terms = outputs.map((_, unit) => ["(", number(targetOf(unit)), " − ", operand(at(unit)), ")²"]);
    return [[formula(costSymbol()), " = ½ [", ...withGap(terms, depth), "]", ...value]];
  } else {
    outputs.forEach((_, unit) =>
      lines.push([
        formula(unitSymbol("a", depth, unit)),
        " = ",
        number(at(unit)),
        targetOf(unit) === null ? null : h("span", { class: "aside" }, " target ", number(targetOf(unit))),
      ]),
    );
  }
  return [...lines, [formula(costSymbol()), ...value]];
}

// One weight's derivative: every path a product of named factors, their sum, and the same regrouped into δ.
function factorsOf(pass, weight, way) {
  const matrices = momentAt(state.descent).params,
    factors = [];
  const units = [weight.to, ...way]; // drawn places from this layer up to the output
  const output = units[units.length - 1];
  const a = (layer, unit) => unitSymbol("a", layer, unit),
    z = (layer, unit) => unitSymbol("z", layer, unit);
  factors.push({ name: partial(costSymbol(), a(depth, output)), value: unpacked(pass.costSlope)[output] });
  for (let layer = depth; layer >= weight.layer; layer--) {
    const unit = units[layer - weight.layer];
    factors.push({ name: partial(a(layer, unit), z(layer, unit)), value: unitValue(pass, "slope", layer, unit) });
    if (layer === weight.layer) break;
    const below = units[layer - weight.layer - 1];
    factors.push({
      name: partial(z(layer, unit), a(layer - 1, below)),
      value: weightValue(matrices, { layer, from: below, to: unit }),
    });
  }
  factors.push({
    name: partial(z(weight.layer, weight.to), weightSymbol(weight)),
    value: isBias(weight) ? 1 : unitValue(pass, "a", weight.layer - 1, weight.from),
  });
  return factors;
}

function pathsOf(pass, weight) {
  const of = pass.paths[weight.layer - 1],
    width = data.layers[weight.layer].shown.length;
  const products = unpacked(of.products),
    ways = of.units[weight.to],
    cell = weight.from * width + weight.to;
  const paths = ways.map((way, k) => ({
    way: way.map((unit, i) => data.layers[weight.layer + 1 + i].shown.indexOf(unit)),
    product: products[cell * ways.length + k],
  }));
  let count = 1;
  for (let layer = weight.layer + 1; layer <= depth; layer++) count *= data.layers[layer].units;
  return { paths, others: count - paths.length, count, rest: unpacked(of.rest)[cell] };
}

function route(weight, way) {
  const units = [weight.to, ...way].map((unit, i) => formula(unitSymbol("a", weight.layer + i, unit)));
  return [
    formula(costSymbol()),
    ...units.reverse().flatMap((unit) => [" ← ", unit]),
    " ← ",
    formula(weightSymbol(weight)),
  ];
}

function drawChain() {
  const box = document.getElementById("chain"),
    weight = state.weight;
  document.getElementById("panel").classList.toggle("chosen", weight !== null);
  if (!weight) {
    refilled(
      box,
      h("h2", { id: "chain-title" }, "One weight’s derivative"),
      h(
        "p",
        { class: "why" },
        "Choose a weight in the drawing or in a table to see its derivative: every path from the cost back to it, with the numbers.",
      ),
    );
    return;
  }
  const descent = Math.min(state.descent, data.steps - 1),
    pass = passAt(Math.max(descent, 0));
  const bias = isBias(weight),
    from = bias ? "the constant 1" : unitName(weight.layer - 1, weight.from);
  const head = [
    h(
      "div",
      { class: "title-row" },
      h("h2", { id: "chain-title" }, "The derivative by ", formula(weightSymbol(weight))),
      h(
        "button",
        { type: "button", class: "close", "aria-label": "Close this weight", click: () => choose(null) },
        "×",
      ),
    ),
    h(
      "p",
      { class: "why" },
      `${bias ? "Bias" : "Weight"} of layer ${weight.layer}, from ${from} to ${unitName(weight.layer, weight.to)}: `,
      number(weightValue(momentAt(state.descent).params, weight)),
      ["update", "again"].includes(tour()[state.step].kind) ? " before the update" : null,
      ". In arrays ",
      h("code", {}, weightIndex(weight)),
      ".",
    ),
  ];
  if (!pass.paths || state.descent === data.steps) {
    refilled(box, ...head, h("p", { class: "why" }, "No step follows this moment, so nothing was sent back."));
    return;
  }
  const { paths, others, count, rest } = pathsOf(pass, weight);
  const gradient = weightValue(pass.gradient, weight),
    delta = unitValue(pass, "delta", weight.layer, weight.to);
  const rows = paths.map((path, k) =>
    h(
      "li",
      {},
      h(
        "button",
        {
          type: "button",
          class: "path",
          "aria-pressed": String(state.path === k),
          click: () => {
            state.path = state.path === k ? null : k;
            draw();
            focusPath(k);
          },
        },
        h("span", { class: "route" }, route(weight, path.way)),
        h(
          "span",
          { class: "product" },
          factorsOf(pass, weight, path.way).flatMap((factor, i) => [
            h(
              "span",
              { class: "factor" },
              i ? h("span", { class: "dot" }, "·") : null,
              h("span", { class: "stack" }, h("span", {}, operand(factor.value)), formula(factor.name)),
            ),
          ]),
          h(
            "span",
            { class: "factor" },
            h("span", { class: "dot" }, "="),
            h("span", { class: "stack result" }, number(path.product)),
          ),
        ),
      ),
    ),
  );
  const many =
    count === 1
      ? "There is one path from the cost back to it."
      : others
        ? `There are ${count} paths from the cost back to it; the ${paths.length} largest${hiddenAbove(weight.layer) ? " through drawn units" : ""} are written out.`
        : `There are ${count} paths from the cost back to it; their products are summed.`;
  refilled(
    box,
    ...head,
    h("h3", {}, "Along every path"),
    h("p", { class: "why" }, many),
    h("ol", { class: "paths" }, rows),
    others ? h("p", { class: "line" }, `the other ${others} ${others === 1 ? "path" : "paths"}: `, number(rest)) : null,
    h(
      "p",
      { class: "line sum" },
      formula(partial(costSymbol(), weightSymbol(weight))),
      " = ",
      count === 1 ? null : ["Σ = "],
      number(gradient),
    ),
    h("h3", {}, "Regrouped"),
    h(
      "p",
      { class: "why" },
      bias
        ? "All factors together are the unit’s error: a bias’s derivative is δ itself."
        : "All factors but the last are the unit’s error, which every weight into it shares:",
    ),
    h(
      "p",
      { class: "line" },
      formula(
        partial(costSymbol(), weightSymbol(weight)),
        mo("="),
        unitSymbol("δ", weight.layer, weight.to),
        ...(bias ? [] : [mo("·"), unitSymbol("a", weight.layer - 1, weight.from)]),
      ),
      " = ",
      number(delta),
      bias ? null : [" · ", operand(unitValue(pass, "a", weight.layer - 1, weight.from)), " = ", number(gradient)],
    ),
    data.examples.length > 1
      ? h(
          "p",
          { class: "line aside" },
          "mean over the examples: ",
          number(weightValue(momentAt(state.descent).gradient, weight)),
        )
      : null,
    h(
      "p",
      { class: "note" },
      "Layers are counted from 1 over those with parameters. A label ",
      formula(symbol("θ", "l", "to,from")),
      " counts units from 1, an array index w[from, to] from 0.",
    ),
  );
}

function hiddenAbove(layer) {
  return data.layers.slice(layer + 1).some((of) => of.units > of.shown.length);
}

function focusPath(k) {
  document.querySelectorAll("#chain .path")[k]?.focus();
}

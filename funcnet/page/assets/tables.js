// Tables: in the panel for gradient and update, and below the drawing as its equal for those who do not see it.
function weightButton(weight, ...content) {
  return h(
    "button",
    {
      type: "button",
      class: "cell",
      "data-weight": weightKey(weight),
      "aria-pressed": String(sameWeight(weight, state.weight)),
      "aria-label": `${weightText(weight)}, ${content.map((part) => part.textContent ?? part).join(" ")}`,
      click: () => choose(weight),
    },
    ...content,
  );
}

function weightKey(weight) {
  return `${weight.layer}.${weight.from}.${weight.to}`;
}

// From (rows) × to (columns). The headers may carry a number of their unit.
function matrixTable(caption, layer, cell, rowNote, columnNote) {
  const sources = data.layers[layer - 1],
    targets = data.layers[layer];
  const header = (of, unit, note) => [
    h(
      "span",
      { class: "unit-name" },
      data.layers[of].names ? unitName(of, unit) : `${of === 0 ? "x" : "unit"} ${unitNumber(of, unit)}`,
    ),
    note ? [h("br"), note(unit)] : null,
  ];
  const rows = sources.shown.map((_, from) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, header(layer - 1, from, rowNote)),
      targets.shown.map((_, to) => h("td", {}, cell({ layer, from, to }))),
    ),
  );
  if (hiddenIn(layer - 1))
    rows.splice(
      -1,
      0,
      h("tr", {}, h("td", { class: "aside", colspan: targets.shown.length + 1 }, `… ${hiddenIn(layer - 1)} more`)),
    );
  if (targets.bias)
    rows.push(
      h(
        "tr",
        {},
        h("th", { scope: "row" }, "bias", rowNote ? [h("br"), "1"] : null),
        targets.shown.map((_, to) => h("td", {}, cell({ layer, from: sources.shown.length, to }))),
      ),
    );
  const columns = targets.shown.map((_, to) => h("th", { scope: "col" }, header(layer, to, columnNote)));
  const more = hiddenIn(layer)
    ? h("caption", { class: "below" }, `${hiddenIn(layer)} more units are not drawn.`)
    : null;
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      { class: "matrix" },
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, h("td", { class: "corner" }, "from ↓  to →"), columns)),
      h("tbody", {}, rows),
    ),
    more ? h("p", { class: "aside" }, more.textContent) : null,
  );
}

function gradientTable(pass, layer) {
  return matrixTable(
    `∂J/∂θ of layer ${layer}`,
    layer,
    (weight) => weightButton(weight, number(weightValue(pass.gradient, weight))),
    (from) => number(unitValue(pass, "a", layer - 1, from)),
    (to) => ["δ ", number(unitValue(pass, "delta", layer, to))],
  );
}

function layerTables(content) {
  const tables = [];
  for (let layer = depth; layer > 0; layer--)
    tables.push(matrixTable(`Layer ${layer}`, layer, (weight) => weightButton(weight, ...content(weight))));
  return h("div", {}, tables);
}

function updateTable() {
  const before = momentAt(state.descent),
    after = momentAt(state.descent + 1);
  const chosen = state.weight ?? { layer: depth, from: 0, to: 0 };
  const line = h(
    "p",
    { class: "line" },
    formula(weightSymbol(chosen)),
    " ← ",
    number(weightValue(before.params, chosen)),
    " − ",
    String(data.rates[state.rate]),
    " · ",
    operand(weightValue(before.gradient, chosen)),
    " = ",
    number(weightValue(after.params, chosen)),
    sameValue(before, after, chosen) ? h("span", { class: "aside" }, " (unchanged)") : null,
  );
  return h(
    "div",
    {},
    line,
    layerTables((weight) => [
      h("span", { class: "aside" }, number(weightValue(before.params, weight))),
      " ",
      h("span", { class: "new" }, "→ ", number(weightValue(after.params, weight))),
    ]),
  );
}

function sameValue(before, after, weight) {
  return weightValue(before.params, weight) === weightValue(after.params, weight);
}

function drawTables() {
  const box = document.getElementById("table-content");
  if (!document.getElementById("tables").open) return;
  const view = currentView(),
    parts = [];
  for (let layer = 0; layer <= depth; layer++) {
    const columns = layer === 0 ? ["x"] : ["z", "a", "f′(z)", "δ"];
    const rows = data.layers[layer].shown.map((_, unit) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, unitName(layer, unit)),
        columns.map((what) => h("td", {}, cellOf(view, layer, unit, what))),
      ),
    );
    const caption = layer === 0 ? "Input" : layer === depth ? `Layer ${layer}: output` : `Layer ${layer}`;
    parts.push(
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
        h(
          "table",
          {},
          h("caption", {}, caption),
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, "unit"),
              columns.map((name) => h("th", { scope: "col" }, name)),
            ),
          ),
          h("tbody", {}, rows),
        ),
        hiddenIn(layer) ? h("p", { class: "aside" }, `${hiddenIn(layer)} more units are not drawn.`) : null,
      ),
    );
    if (layer === depth) break;
    parts.push(
      matrixTable(`Weights into layer ${layer + 1}`, layer + 1, (weight) =>
        weightButton(weight, number(weightValue(view.params, weight))),
      ),
    );
    if (view.step.kind !== "again" && known().has("gradient" + (layer + 1)))
      parts.push(
        matrixTable(`∂${costText()}/∂θ of layer ${layer + 1}`, layer + 1, (weight) =>
          weightButton(weight, number(weightValue(view.pass.gradient, weight))),
        ),
      );
  }
  refilled(box, parts);
}

function cellOf(view, layer, unit, what) {
  if (layer === 0) return number(unitValue(view.pass, "a", 0, unit));
  const names = { z: "z", a: "a", "f′(z)": "slope", δ: "delta" };
  return view.has(what === "f′(z)" || what === "δ" ? "delta" : what, layer)
    ? number(unitValue(view.pass, names[what], layer, unit))
    : "–";
}

// The steps of the tour: what each is called, its formula in symbols, and the same with numbers.
function functionName(layer) {
  return data.layers[layer].function;
}

function tour() {
  const steps = [{ kind: "start", mark: "x", part: "forward" }];
  for (let layer = 1; layer <= depth; layer++) {
    steps.push({ kind: "z", layer, mark: ["z", layer], part: "forward" });
    if (functionName(layer)) steps.push({ kind: "a", layer, mark: ["a", layer], part: "forward" });
  }
  steps.push({ kind: "cost", mark: "J", part: "cost" });
  if (state.descent < data.steps) {
    for (let layer = depth; layer > 0; layer--) {
      steps.push({ kind: "delta", layer, mark: ["δ", layer], part: "backward" });
      steps.push({ kind: "gradient", layer, mark: ["∇", layer], part: "backward" });
    }
    if (data.examples.length > 1) steps.push({ kind: "mean", mark: "mean", part: "update" });
    steps.push({ kind: "update", mark: "update", part: "update" });
    steps.push({ kind: "again", mark: "J again", part: "update" });
  }
  return steps;
}

// Which quantities are known at this step, by kind and layer.
function known() {
  const names = new Set();
  for (const step of tour().slice(0, state.step + 1)) {
    names.add(step.kind + (step.layer ?? ""));
    if (step.kind === "z" && !functionName(step.layer)) names.add("a" + step.layer);
  }
  return names;
}

function titleOf(step) {
  const titles = {
    start: "The network, and one example",
    z: `Layer ${step.layer}: weighted sums`,
    a: `Layer ${step.layer}: activations`,
    cost: "The cost",
    delta: step.layer === depth ? "The output’s error" : `Layer ${step.layer}: the error, sent back`,
    gradient: `Layer ${step.layer}: the gradient`,
    mean: "The mean over the examples",
    update: "The update",
    again: "Forward again",
  };
  return titles[step.kind];
}

function describe(step) {
  const pass = passAt(state.descent),
    last = step.layer === depth;
  const lines = [];
  const text = { title: titleOf(step), why: "", general: null, lines, after: null };
  const units = step.layer === undefined ? [] : data.layers[step.layer].shown.map((_, unit) => unit);
  if (step.kind === "start") {
    text.why = "Lines are weights: colour says the sign, width the size. Click one to see its derivative written out.";
    data.layers[0].shown.forEach((_, unit) =>
      lines.push([formula(unitSymbol("a", 0, unit)), " = ", number(unitValue(pass, "a", 0, unit)), named(0, unit)]),
    );
    data.layers[depth].shown.forEach((_, unit) => {
      if (targetOf(unit) !== null)
        lines.push([
          formula(symbol("y", null, unitNumber(depth, unit))),
          " = ",
          number(targetOf(unit)),
          named(depth, unit),
        ]);
    });
  } else if (step.kind === "z") {
    text.why =
      "Every unit adds up what comes in, each times its weight" +
      (data.layers[step.layer].bias ? ", and its bias." : ".");
    if (!functionName(step.layer)) text.why += " No activation follows: a = z.";
    const bias = data.layers[step.layer].bias ? [mo("+"), symbol("b", step.layer, "j")] : [];
    const source = step.layer === 1 ? symbol("x", null, "i") : symbol("a", step.layer - 1, "i");
    text.general = formula(
      symbol("z", step.layer, "j"),
      mo("="),
      mathml("munder", {}, mo("∑"), mathml("mi", {}, "i")),
      symbol("θ", step.layer, "j,i"),
      source,
      ...bias,
    );
    for (const to of units)
      lines.push([
        formula(unitSymbol("z", step.layer, to)),
        " = ",
        ...sumInto(pass, step.layer, to),
        " = ",
        number(unitValue(pass, "z", step.layer, to)),
      ]);
  } else if (step.kind === "a") {
    text.why =
      `Each sum goes through the activation ${functionName(step.layer)}` +
      (formOf(step.layer, 0) ? `: f(z) = ${formOf(step.layer, 0)}.` : ".");
    text.general = formula(
      symbol("a", step.layer, "j"),
      mo("="),
      mathml("mi", {}, "f"),
      mo("("),
      symbol("z", step.layer, "j"),
      mo(")"),
    );
    for (const unit of units)
      lines.push([
        formula(unitSymbol("a", step.layer, unit)),
        " = ",
        h("i", {}, "f"),
        "(",
        number(unitValue(pass, "z", step.layer, unit)),
        ") = ",
        number(unitValue(pass, "a", step.layer, unit)),
        step.layer === depth ? named(depth, unit) : null,
      ]);
  } else if (step.kind === "cost") {
    text.why = `How far the output is from the target: ${data.loss.code}.`;
    text.general = h("span", {}, formula(costSymbol()), " = ", data.loss.general);
    lines.push(...costLines(pass));
    if (data.examples.length > 1)
      lines.push([
        "mean over ",
        String(data.examples.length),
        " examples: ",
        formula(mathml("mi", {}, "J")),
        " = ",
        number(costAt(state.descent)),
      ]);
    if (state.descent === data.steps && data.steps) text.after = fallen(data.steps);
  } else if (step.kind === "delta") {
    const slope = formOf(step.layer, 1);
    text.why = last
      ? "How the cost changes with each of the last sums."
      : "Each unit collects the errors of the layer above through the weights it fed, times its own slope.";
    if (slope) text.why += ` Here f′(z) = ${slope}.`;
    text.general = last
      ? formula(
          symbol("δ", step.layer, "j"),
          mo("="),
          partial(costSymbol(), symbol("a", step.layer, "j")),
          mo("·"),
          mathml("mi", {}, "f′"),
          mo("("),
          symbol("z", step.layer, "j"),
          mo(")"),
        )
      : formula(
          symbol("δ", step.layer, "j"),
          mo("="),
          mo("("),
          mathml("munder", {}, mo("∑"), mathml("mi", {}, "k")),
          symbol("θ", step.layer + 1, "k,j"),
          symbol("δ", step.layer + 1, "k"),
          mo(")"),
          mo("·"),
          mathml("mi", {}, "f′"),
          mo("("),
          symbol("z", step.layer, "j"),
          mo(")"),
        );
    if (last && data.loss.slope) text.why += ` ∂J/∂aₖ = ${data.loss.slope}.`;
    for (const unit of units)
      lines.push([
        formula(unitSymbol("δ", step.layer, unit)),
        " = ",
        ...errorInto(pass, step.layer, unit),
        " · ",
        operand(unitValue(pass, "slope", step.layer, unit)),
        " = ",
        number(unitValue(pass, "delta", step.layer, unit)),
      ]);
  } else if (step.kind === "gradient") {
    text.why =
      "Each weight’s derivative is what came in times the error that came back: a cell is its row times its column.";
    text.general = formula(
      partial(costSymbol(), symbol("θ", step.layer, "j,i")),
      mo("="),
      symbol("δ", step.layer, "j"),
      step.layer === 1 ? symbol("x", null, "i") : symbol("a", step.layer - 1, "i"),
    );
    text.after = gradientTable(pass, step.layer);
  } else if (step.kind === "mean") {
    text.why = `The cost that is made smaller is the mean of all ${data.examples.length} examples, so their gradients are averaged. Above stood one example’s part.`;
    text.general = formula(
      partial(mathml("mi", {}, "J"), mathml("mi", {}, "θ")),
      mo("="),
      mathml("mfrac", {}, mathml("mn", {}, "1"), mathml("mn", {}, String(data.examples.length))),
      mathml("munder", {}, mo("∑"), mathml("mi", {}, "n")),
      partial(symbol("J", null, "n"), mathml("mi", {}, "θ")),
    );
    text.after = layerTables((weight) => [number(weightValue(momentAt(state.descent).gradient, weight))]);
  } else if (step.kind === "update") {
    text.why = `Every parameter goes a little against its gradient, all at once, with η = ${data.rates[state.rate]}.`;
    text.general = formula(
      mathml("mi", {}, "θ"),
      mo("←"),
      mathml("mi", {}, "θ"),
      mo("−"),
      mathml("mi", {}, "η"),
      partial(mathml("mi", {}, "J"), mathml("mi", {}, "θ")),
    );
    text.after = updateTable();
  } else {
    const before = costAt(state.descent),
      after = costAt(state.descent + 1);
    text.why =
      after < before
        ? "With the new parameters the cost is lower."
        : after > before
          ? "With the new parameters the cost is higher: this learning rate is too large here. Choose a smaller one above."
          : "The cost is what it was.";
    if (Number.isNaN(after))
      text.why = "With the new parameters the cost is not a number any more: the learning rate is far too large.";
    const letter = pass.chances ? "p" : "a",
      outputs = (from) => unpacked(pass.chances ? from.chances : from.a[depth - 1]);
    data.layers[depth].shown.forEach((_, unit) =>
      lines.push([
        formula(symbol(letter, pass.chances ? null : depth, unitNumber(depth, unit))),
        ": ",
        number(outputs(pass)[unit]),
        " → ",
        number(outputs(passAt(state.descent + 1))[unit]),
        named(depth, unit),
        targetOf(unit) === null ? null : h("span", { class: "aside" }, " target ", number(targetOf(unit))),
      ]),
    );
    if (data.examples.length > 1)
      lines.push([
        formula(costSymbol()),
        ": ",
        number(unpacked(pass.cost)[0]),
        " → ",
        number(unpacked(passAt(state.descent + 1).cost)[0]),
        h("span", { class: "aside" }, " this example"),
      ]);
    text.after = fallen(state.descent + 1);
  }
  return text;
}

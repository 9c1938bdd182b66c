// The network as SVG: units in columns, weights as lines coloured by sign and as wide as they are large.
function currentView() {
  const step = tour()[state.step],
    now = known(),
    next = step.kind === "again" || step.kind === "update";
  const forward = (what, layer) => layer === 0 || what !== "delta";
  return {
    step,
    params: momentAt(state.descent + (next ? 1 : 0)).params,
    pass: passAt(state.descent + (step.kind === "again" ? 1 : 0)),
    cost: now.has("cost"),
    has: step.kind === "again" ? forward : (what, layer) => (layer === 0 ? what === "a" : now.has(what + layer)),
  };
}

function drawPicture(fresh) {
  const box = document.getElementById("drawing"),
    at = layout(box),
    view = currentView(),
    lit = litBy(state.weight);
  const picture = svg("svg", {
    width: at.width,
    height: at.height,
    viewBox: `0 0 ${at.width} ${at.height}`,
    role: "group",
    "font-size": at.font,
    "aria-label": "Drawing of the network. Arrow up and down move between weights, Enter opens one.",
    class: (lit ? "lit " : "") + (fresh ? "fresh" : ""),
  });
  const lines = svg("g", {}),
    labels = svg("g", { class: "labels" }),
    units = svg("g", {});
  const all = data.layers.flatMap((_, layer) => (layer ? weightsOf(layer) : []));
  const sizes = all.map((weight) => Math.abs(weightValue(view.params, weight))).filter(Number.isFinite);
  const largest = Math.max(...sizes, 1e-300),
    stop = state.weight ?? all[0];
  const costUnits = data.layers[depth].shown.map((_, unit) => unit);
  for (const unit of costUnits) {
    const [x, y] = at.place(depth, unit),
      on = lit?.outputs.includes(unit);
    if (at.wide)
      lines.append(
        svg("line", {
          class: "to-cost" + (on ? " on" : ""),
          x1: x + at.radius,
          y1: y,
          x2: at.cost[0] - Math.min(at.radius * 1.3, at.margin - 2),
          y2: at.cost[1],
        }),
      );
  }
  for (const weight of all) lines.append(drawWeight(weight, at, view, lit, largest, sameWeight(weight, stop), labels));
  data.layers.forEach((of, layer) => {
    of.shown.forEach((_, unit) => units.append(drawUnit(layer, unit, at, view, lit)));
    if (hiddenIn(layer)) {
      const [x, y] = at.place(layer, of.shown.length - 1);
      units.append(
        svg(
          "text",
          { class: "more", x, y: y - at.radius - 1.75 * at.font - at.row * 0.12 },
          `… ${hiddenIn(layer)} more`,
        ),
      );
    }
  });
  data.layers.forEach((of, layer) => {
    const kind = layer === 0 ? "input" : `layer ${layer}`;
    labels.append(svg("text", { class: "head", x: at.margin + layer * at.gap, y: at.font * 1.1 }, kind));
  });
  units.append(drawCost(at, view));
  picture.append(lines, labels, units);
  document.getElementById("picture").classList.toggle("tall", at.height > window.innerHeight - 180);
  box.replaceChildren(picture);
}

function drawWeight(weight, at, view, lit, largest, stop, labels) {
  const value = weightValue(view.params, weight),
    [x1, y1, x2, y2] = endsOf(weight, at),
    step = view.step;
  const on = lit?.keys.has(weightKey(weight)),
    active = isActiveWeight(weight, step);
  const width = Number.isFinite(value) ? 1 + ((at.radius / 6) * Math.abs(value)) / largest : 2;
  const sign = Number.isNaN(value) ? "odd" : value < 0 ? "negative" : value > 0 ? "positive" : "zero";
  const ends = { x1, y1, x2, y2 },
    chosen = sameWeight(weight, state.weight);
  const read = () => tell(weight);
  const between = isBias(weight)
    ? `bias of ${unitName(weight.layer, weight.to)}`
    : `from ${unitName(weight.layer - 1, weight.from)} to ${unitName(weight.layer, weight.to)}`;
  const group = svg(
    "g",
    {
      class: [
        "weight",
        sign,
        on ? "on" : "",
        active ? "active" : "",
        chosen ? "chosen" : "",
        Number.isFinite(value) ? "" : "odd",
      ].join(" "),
      role: "button",
      tabindex: stop ? "0" : "-1",
      "data-weight": weightKey(weight),
      "aria-pressed": String(chosen),
      "aria-label": `${weightText(weight)}, ${between}: ${short(value)}`,
      click: () => choose(weight),
      pointerenter: read,
      focus: read,
    },
    svg("title", {}, `${weightText(weight)} = ${full(value)}`),
    svg("line", { class: "hit", ...ends }),
    svg("line", { class: "halo", ...ends, "stroke-width": width + 7 }),
    svg("line", { class: "line", ...ends, "stroke-width": width }),
  );
  if (isBias(weight)) {
    const s = at.font * 0.52;
    group.append(
      svg("rect", { class: "bias", x: x1 - s, y: y1 - s, width: 2 * s, height: 2 * s, rx: s * 0.4 }),
      svg("text", { class: "one", x: x1, y: y1 + at.font * 0.27, "font-size": at.font * 0.78 }, "1"),
      svg("circle", { class: "hit", cx: x1, cy: y1, r: 12 }),
    );
  } else if (labelled(weight.layer, at)) {
    const t = 0.27,
      shownValue =
        step.kind === "gradient" && step.layer === weight.layer ? weightValue(view.pass.gradient, weight) : value;
    labels.append(
      svg(
        "text",
        { class: "on-line" + (lit && !on ? " dim" : ""), x: x1 + (x2 - x1) * t, y: y1 + (y2 - y1) * t + at.font * 0.1 },
        (shownValue === value ? "" : "∂ ") + short(shownValue),
      ),
    );
  }
  return group;
}

function drawUnit(layer, unit, at, view, lit) {
  const [x, y] = at.place(layer, unit),
    { radius: r, font } = at,
    has = (what) => view.has(what, layer);
  const active =
    (view.step.layer === layer && view.step.kind !== "gradient") ||
    (view.step.kind === "start" && layer === 0) ||
    (view.step.kind === "again" && layer > 0);
  const target = layer === depth ? targetOf(unit) : null,
    spoken = [unitName(layer, unit)];
  const group = svg(
    "g",
    {
      class: [
        "unit",
        layer ? "" : "input",
        active ? "active" : "",
        lit?.units.has(`${layer}.${unit}`) ? "on" : "",
      ].join(" "),
      role: "img",
    },
    svg("circle", { cx: x, cy: y, r }),
  );
  const label = data.layers[layer].names
    ? unitName(layer, unit)
    : `${layer === 0 ? "x" : layer === depth ? "output " : "unit "}${unitNumber(layer, unit)}`;
  const room = Math.floor((at.gap * 0.98) / (font * 0.52)),
    name = label.length > room ? label.slice(0, room - 1) + "…" : label;
  const half = Math.min(name.length * font * 0.27, at.width / 2);
  group.append(
    svg(
      "text",
      { class: "name", x: clamp(x, half, at.width - half), y: y - r - font * 0.45 },
      svg("title", {}, label),
      name,
    ),
  );
  if (has("a")) {
    const a = unitValue(view.pass, "a", layer, unit),
      text = short(a);
    spoken.push(`${layer ? "a" : "x"} ${text}`);
    group.append(
      svg("text", { class: "value", x, y: y + font * 0.36, "font-size": fitting(text, 1.84 * r, font * 1.1) }, text),
    );
  }
  const below = [];
  const chance = layer === depth && view.cost && view.pass.chances;
  if (chance) below.push(["p", unpacked(view.pass.chances)[unit], "z"]);
  else if (layer && has("z")) below.push(["z", unitValue(view.pass, "z", layer, unit), "z"]);
  if (layer && has("delta")) below.push(["δ", unitValue(view.pass, "delta", layer, unit), "delta"]);
  else if (target !== null) below.push(["y", target, "target"]);
  below.forEach(([name, value, kind], i) => {
    const text = short(value),
      wide = (text.length + 2) * font * 0.33;
    spoken.push(`${name} ${text}`);
    const where = { x: clamp(x + (data.layers[layer].bias ? font * 0.45 : 0), wide, at.width - wide) };
    group.append(
      svg(
        "text",
        { class: `below ${kind}`, ...where, y: y + r + font * (1.15 + 1.12 * i) },
        svg("tspan", { class: "italic" }, name),
        ` ${text}`,
      ),
    );
  });
  const quantities =
    layer && has("z")
      ? [
          ["z", "z"],
          ["a", "a"],
          ["f′(z)", "slope"],
          ["δ", "delta"],
        ]
      : [["x", "a"]];
  const digits = () =>
    readout(
      unitName(layer, unit),
      quantities
        .filter(([, what]) => (what === "slope" ? has("delta") : layer === 0 || has(what)))
        .map(([name, what]) => `${name} = ${full(unitValue(view.pass, what, layer, unit))}`)
        .concat(target === null ? [] : [`y = ${full(target)}`]),
    );
  group.setAttribute("aria-label", spoken.join(", "));
  group.addEventListener("pointerenter", digits);
  return group;
}

function drawCost(at, view) {
  const [x, y] = at.cost,
    w = Math.min(at.radius * 2.6, 2 * at.margin - 4),
    tall = at.font * 3.3,
    again = view.step.kind === "again";
  const value = unpacked(view.pass.cost)[0],
    group = svg("g", { class: "cost" + (view.step.kind === "cost" || again ? " active" : ""), role: "img" });
  const name = costText();
  group.append(
    svg("rect", { x: x - w / 2, y: y - tall / 2, width: w, height: tall, rx: at.font * 0.5 }),
    svg("text", { class: "name", x, y: y - at.font * 0.35 }, "cost ", svg("tspan", { class: "italic" }, name)),
  );
  const text = view.cost || again ? short(value) : "";
  group.append(
    svg(
      "text",
      { class: "value", x, y: y + at.font * 1.05, "font-size": fitting(text, 0.88 * w, at.font * 1.1) },
      text,
    ),
  );
  group.setAttribute("aria-label", text ? `cost ${text}` : "cost, not yet known");
  if (text) group.addEventListener("pointerenter", () => readout(`cost ${name}`, [full(value)]));
  return group;
}

function tell(weight) {
  const view = currentView(),
    parts = [`${isBias(weight) ? "b" : "θ"} = ${full(weightValue(view.params, weight))}`];
  if (view.step.kind !== "again" && known().has("gradient" + weight.layer))
    parts.push(`∂${costText()}/∂${isBias(weight) ? "b" : "θ"} = ${full(weightValue(view.pass.gradient, weight))}`);
  readout(`${weightText(weight)}  ${weightIndex(weight)}`, parts);
}

function readout(name, parts) {
  document
    .getElementById("readout")
    .replaceChildren(h("b", {}, name), ...parts.flatMap((part) => [" ", h("span", { class: "n" }, part)]));
}

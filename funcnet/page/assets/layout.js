// Where everything of the drawing stands, and what of it is lit.
function clamp(value, least, most) {
  return Math.max(least, Math.min(most, value));
}

function rowsOf(layer) {
  return data.layers[layer].shown.length + (hiddenIn(layer) ? 0.7 : 0);
}

// Sizes in CSS pixels for the width at hand, so that text stays readable on a phone and fills a projector.
function layout(box) {
  const wide = box.clientWidth >= 600,
    rows = Math.max(...data.layers.map((_, layer) => rowsOf(layer)));
  const columns = depth + (wide ? 1 : 0),
    margin = wide ? clamp(box.clientWidth * 0.07, 44, 90) : 36;
  const gap = Math.max((box.clientWidth - 2 * margin) / columns, wide ? 92 : 76);
  const room = clamp(window.innerHeight - 310, 370, 900) / rows;
  const radius = clamp(Math.min(gap * 0.21, room / 3.9), 20, 58);
  const font = clamp(radius * 0.46, 11, 24),
    least = 2 * radius + 3.6 * font + 6,
    row = clamp(room, least, least * (wide ? 1.5 : 1));
  const width = gap * columns + 2 * margin,
    head = 2.1 * font,
    tall = head + rows * row;
  const place = (layer, unit) => {
    const last = hiddenIn(layer) && unit === data.layers[layer].shown.length - 1;
    const top = head + (tall - head - rowsOf(layer) * row) / 2 + (row - least) / 2;
    return [margin + layer * gap, top + (unit + (last ? 0.7 : 0)) * row + radius + 1.4 * font];
  };
  const cost = wide ? [margin + (depth + 1) * gap, (tall + head) / 2] : [margin + depth * gap, tall + 1.8 * font];
  return { wide, margin, gap, radius, font, row, width, height: wide ? tall : tall + 3.8 * font, place, cost };
}

function endsOf(weight, at) {
  const [x2, y2] = at.place(weight.layer, weight.to),
    r = at.radius;
  if (isBias(weight)) return [x2 - r * 1.12, y2 + r * 1.02, x2 - r * 0.72, y2 + r * 0.7];
  const [x1, y1] = at.place(weight.layer - 1, weight.from);
  const length = Math.hypot(x2 - x1, y2 - y1),
    dx = ((x2 - x1) / length) * r,
    dy = ((y2 - y1) / length) * r;
  return [x1 + dx, y1 + dy, x2 - dx, y2 - dy];
}

// The weights and units of the chosen weight's paths, or of its one chosen path.
function litBy(weight) {
  if (!weight) return null;
  const keys = new Set([weightKey(weight)]),
    units = new Set([`${weight.layer}.${weight.to}`]);
  if (!isBias(weight)) units.add(`${weight.layer - 1}.${weight.from}`);
  const pass = passAt(Math.max(Math.min(state.descent, data.steps - 1), 0));
  const one = state.path !== null && pass.paths ? pathsOf(pass, weight).paths[state.path] : null;
  let sources = [weight.to];
  for (let layer = weight.layer + 1; layer <= depth; layer++) {
    const targets = one ? [one.way[layer - weight.layer - 1]] : data.layers[layer].shown.map((_, unit) => unit);
    for (const from of sources) for (const to of targets) keys.add(weightKey({ layer, from, to }));
    targets.forEach((unit) => units.add(`${layer}.${unit}`));
    sources = targets;
  }
  return { keys, units, outputs: sources };
}

function labelled(layer, at) {
  return at.gap >= 150 && data.layers[layer - 1].shown.length * data.layers[layer].shown.length <= 6;
}

function isActiveWeight(weight, step) {
  if (step.kind === "update" || step.kind === "mean") return true;
  if (step.kind === "delta") return weight.layer === step.layer + 1 && !isBias(weight);
  return (step.kind === "z" || step.kind === "gradient") && weight.layer === step.layer;
}

// A size at which bold digits of this many characters fit, but not one too small to read.
function fitting(text, room, most) {
  return clamp(room / (0.64 * Math.max(text.length, 1)), 8.5, most);
}

// State, events and what is announced.
const byId = (id) => document.getElementById(id);

function draw(fresh) {
  keepingFocus(() => {
    drawControls();
    drawPicture(fresh);
    drawNow();
    drawChain();
    drawTables();
  });
  remember();
}

// Redrawing replaces elements; the one that had the focus is found again by what it stands for.
function keepingFocus(redraw) {
  const active = document.activeElement,
    key = active?.dataset?.weight,
    place = active?.closest("#drawing, #now, #chain, #tables")?.id;
  redraw();
  if (key && place) document.querySelector(`#${place} [data-weight="${key}"]`)?.focus({ preventScroll: true });
}

function drawControls() {
  const steps = tour();
  const marks = steps.map((step, i) => {
    const mark =
      typeof step.mark === "string"
        ? step.mark
        : [h(step.mark[0] === "∇" ? "span" : "i", {}, step.mark[0]), h("sup", {}, String(step.mark[1]))];
    return h(
      "li",
      { class: step.part },
      h(
        "button",
        {
          type: "button",
          class: i < state.step ? "past" : "",
          "aria-current": i === state.step ? "step" : null,
          "aria-label": `${i + 1}: ${titleOf(step)}`,
          title: titleOf(step),
          click: () => goTo(state.descent, i),
        },
        mark,
      ),
    );
  });
  const timeline = byId("timeline"),
    had = timeline.contains(document.activeElement);
  timeline.replaceChildren(...marks);
  const current = marks[state.step].firstChild;
  timeline.scrollLeft = current.offsetLeft - timeline.offsetLeft - timeline.clientWidth / 2 + current.offsetWidth / 2;
  if (had) current.focus({ preventScroll: true });
  byId("back").setAttribute("aria-disabled", String(state.descent === 0 && state.step === 0));
  byId("next").setAttribute("aria-disabled", String(atEnd()));
  byId("example").value = state.example;
  byId("rate").value = state.rate;
  byId("descent").replaceChildren(
    ...Array.from({ length: data.steps + 1 }, (_, i) =>
      h(
        "option",
        { value: i, selected: i === state.descent ? "" : null },
        `${i < data.steps ? `${i + 1} of ${data.steps}` : "after the last"} · J = ${short(costAt(i))}`,
      ),
    ),
  );
  byId("descent").value = state.descent;
}

function drawNow() {
  const steps = tour(),
    step = steps[state.step],
    text = describe(step);
  Object.assign(byId("now").dataset, { kind: step.kind, layer: step.layer ?? "" });
  refilled(
    byId("now"),
    h(
      "p",
      { class: "eyebrow" },
      `${state.step + 1} of ${steps.length}` +
        (data.steps
          ? ` · ${state.descent < data.steps ? `step of descent ${state.descent + 1}` : `after ${data.steps} steps of descent`}`
          : ""),
    ),
    h("h2", { id: "now-title" }, text.title),
    h("p", { class: "why" }, text.why),
    text.general ? h("p", { class: "general" }, text.general) : null,
    text.lines.length
      ? h(
          "div",
          { class: "lines" },
          text.lines.map((line) => h("p", { class: "line" }, line)),
        )
      : null,
    text.after,
  );
}

function atEnd() {
  return state.descent === data.steps && state.step === tour().length - 1;
}

function goTo(descent, step) {
  state.descent = descent;
  state.step = Math.max(0, Math.min(step, tour().length - 1));
  draw(true);
  announce();
}

function forward() {
  if (state.step < tour().length - 1) goTo(state.descent, state.step + 1);
  else if (state.descent < data.steps) goTo(state.descent + 1, 0);
}

function backward() {
  if (state.step > 0) goTo(state.descent, state.step - 1);
  else if (state.descent > 0) goTo(state.descent - 1, Infinity);
}

function choose(weight) {
  state.path = null;
  state.weight = sameWeight(weight, state.weight) ? null : weight;
  draw(false);
  if (!state.weight) return;
  tell(weight);
  byId("announcement").textContent = `The derivative by ${weightText(state.weight)} is written out after the drawing.`;
  if (window.innerWidth > 960) byId("chain").scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
}

function calm() {
  return window.matchMedia("(prefers-reduced-motion: reduce)").matches;
}

function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
}

function drawTheme() {
  byId("theme").textContent = isDark() ? "Light" : "Dark";
}

function legend() {
  const sample = (kind) =>
    svg(
      "svg",
      { width: 26, height: 10, "aria-hidden": "true" },
      svg("line", { class: `sample ${kind}`, x1: 1, y1: 5, x2: 25, y2: 5 }),
    );
  byId("legend").append(
    h("span", {}, sample("positive"), " positive"),
    h("span", {}, sample("negative"), " negative"),
    h("span", {}, "width: size of the weight"),
    h("span", {}, h("span", { class: "box" }, "1"), " bias"),
    h("span", { class: "keys" }, h("kbd", {}, "←"), h("kbd", {}, "→"), " step"),
  );
}

function start() {
  byId("network").textContent = `${data.network}, ${data.loss.code}`;
  byId("example").append(...data.examples.map((example, i) => h("option", { value: i }, example.name)));
  byId("rate").append(...data.rates.map((rate, i) => h("option", { value: i }, String(rate))));
  for (const name of ["example", "rate", "descent"]) {
    byId(name).addEventListener("change", (event) => {
      state[name] = Number(event.target.value);
      state.path = null;
      goTo(state.descent, state.step);
    });
  }
  byId("example").closest("label").hidden = data.examples.length === 1;
  byId("choices").addEventListener("submit", (event) => event.preventDefault());
  byId("back").addEventListener("click", backward);
  byId("next").addEventListener("click", forward);
  byId("tables").addEventListener("toggle", drawTables);
  byId("digits").addEventListener("click", () => {
    state.digits = !state.digits;
    byId("digits").setAttribute("aria-pressed", String(state.digits));
    draw(false);
  });
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    drawTheme();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTheme);
  document.addEventListener("keydown", onKey);
  document.addEventListener("focusin", (event) => {
    const key = event.target.dataset?.weight;
    if (key) tell(keyed(key));
  });
  window.addEventListener("hashchange", () => {
    recall();
    draw(false);
  });
  new ResizeObserver(() => keepingFocus(() => drawPicture(false))).observe(byId("drawing"));
  legend();
  recall();
  drawTheme();
  readout("", ["Point at a line or a unit for all digits."]);
  draw(false);
}

start();

// The keyboard, what is announced, and the address that leads back to a place.
function announce() {
  const view = currentView(),
    step = view.step,
    parts = [titleOf(step)];
  const what = { z: "z", a: "a", delta: "delta" }[step.kind];
  if (what)
    data.layers[step.layer].shown.forEach((_, unit) =>
      parts.push(`${unitName(step.layer, unit)} ${short(unitValue(view.pass, what, step.layer, unit))}`),
    );
  if (step.kind === "cost" || step.kind === "again") parts.push(`cost ${short(unpacked(view.pass.cost)[0])}`);
  byId("announcement").textContent = parts.join(", ") + ".";
}

// The place is kept in the address, so that a link or a bookmark leads back to it.
function remember() {
  const weight = state.weight
    ? `&weight=${weightKey(state.weight)}` + (state.path === null ? "" : `&path=${state.path}`)
    : "";
  try {
    history.replaceState(
      null,
      "",
      `#example=${state.example}&rate=${state.rate}&descent=${state.descent}&step=${state.step}${weight}`,
    );
  } catch {
    // Some viewers that embed pages forbid it; nothing else depends on it.
  }
}

function recall() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const whole = (name, most, otherwise) => {
    const value = Number(asked.get(name) ?? otherwise);
    return Number.isInteger(value) && value >= 0 ? Math.min(value, most) : otherwise;
  };
  state.example = whole("example", data.examples.length - 1, data.example);
  state.rate = whole("rate", data.rates.length - 1, 0);
  state.descent = whole("descent", data.steps, 0);
  state.step = whole("step", tour().length - 1, 0);
  state.weight = keyed(asked.get("weight"));
  state.path = state.weight && asked.has("path") ? whole("path", data.largest - 1, null) : null;
  if (["light", "dark"].includes(asked.get("theme"))) document.documentElement.dataset.theme = asked.get("theme");
}

function keyed(key) {
  return (
    data.layers
      .slice(1)
      .flatMap((_, i) => weightsOf(i + 1))
      .find((weight) => weightKey(weight) === key) ?? null
  );
}

function onKey(event) {
  if (
    event.altKey ||
    event.ctrlKey ||
    event.metaKey ||
    event.shiftKey ||
    event.target.closest("select, input, .scroll:focus")
  )
    return;
  const weight = event.target.closest?.("#drawing .weight");
  const moves = {
    ArrowRight: forward,
    ArrowLeft: backward,
    Home: () => goTo(state.descent, 0),
    End: () => goTo(state.descent, Infinity),
    Escape: () => state.weight && choose(null),
  };
  if (weight) {
    const all = [...document.querySelectorAll("#drawing .weight")],
      to = (by) => () => rove(all, all[(all.indexOf(weight) + by + all.length) % all.length]);
    Object.assign(moves, {
      ArrowDown: to(1),
      ArrowUp: to(-1),
      Enter: () => weight.dispatchEvent(new MouseEvent("click")),
      " ": () => weight.dispatchEvent(new MouseEvent("click")),
    });
  }
  if (!moves[event.key]) return;
  event.preventDefault();
  moves[event.key]();
}

function rove(all, weight) {
  all.forEach((other) => other.setAttribute("tabindex", other === weight ? "0" : "-1"));
  weight.focus();
}

// Starts the explorer: options of the filters, keys, and the view that the address asks for.

function fillSelects() {
  const option = (value, text) => el("option", { value, text });
  const fill = (key, options) => $(`x-${key}`).replaceChildren(...options.map(([value, text]) => option(value, text)));
  const names = index.constructs.map(([name]) => name);
  const several = names.filter((name) => index.measures.filter(([, construct]) => construct === name).length > 1);
  fill("decoding", index.decodings.map((name) => [name, name]));
  fill("measure", index.measures.map((m) => [m.join("/"), m.join(" · ")]));
  fill("task", [["", "all"], ...index.tasks.map(([name]) => [name, name])]);
  fill("category", [["", "all"], ...index.categories.filter(Boolean).map((name) => [name, name])]);
  fill("recipe", [["", "any"], ...index.models.filter((_, m) => m !== index.base).map((name) => [name, name])]);
  fill("seeds", [["", "at least one"], ["half", "at least half"], ["all", "all"]]);
  fill("split", [["", "all"], ["any", "judges split"], ...several.map((name) => [name, `split on ${name}`])]);
  fill("status", [["", "all"], ...Object.entries(STATUS)]);
  for (const key of ["flips", "recipe", "seeds"]) $(`x-${key}`).closest("label").hidden = index.base === null;
  $("x-split").closest("label").hidden = several.length === 0;
}

function nameFlips() {
  const construct = index.measures[measure()][1];
  const [, to, from] = index.constructs.find(([name]) => name === construct);
  const options = [["", "all items"], ["any", "changed, either way"], ["to", `↑ ${to}`], ["from", `↓ ${from}`]];
  $("x-flips").replaceChildren(...options.map(([value, text]) => el("option", { value, text })));
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const typing = event.target.matches("input, select, textarea");
  const inside = $("explorer").contains(event.target);
  if (event.key === "Escape" && opened() >= 0) return void closeItem();
  if (event.key === "Escape" && event.target === $("x-q")) return void $("x-q").blur();
  if (typing) return;
  if (event.key === "/") {
    event.preventDefault();
    $("x-q").focus();
  }
  if ((event.key === "j" || event.key === "k") && (inside || opened() >= 0)) step(event.key === "j" ? 1 : -1);
}

function listen() {
  let waiting;
  $("x-q").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => go({ q: $("x-q").value, item: "" }), 250);
  });
  $("x-filters").addEventListener("submit", (event) => event.preventDefault());
  $("x-filters").addEventListener("change", (event) => {
    const key = event.target.id.slice(2);
    if (key === "q") return;
    rows = MORE;
    const keeps = ["decoding", "measure"].includes(key); // an open item stays open under another decoding
    const change = go({ [key]: event.target.value, ...(keeps ? {} : { item: "" }) });
    if (key === "measure") change.then(nameFlips).then(() => ($("x-flips").value = state.flips));
  });
  $("x-clear").addEventListener("click", () => {
    hits = null;
    go({ ...NOTHING, decoding: state.decoding, measure: state.measure });
  });
  $("x-reveal").addEventListener("click", () => {
    setConsent(!consent);
  });
  $("x-more").addEventListener("click", more);
  document.addEventListener("keydown", keys);
  addEventListener("popstate", () => {
    const before = state;
    if (!location.hash.includes("=") && !["", "#examples"].includes(location.hash)) return; // to another section
    state = fromHash();
    show(before.q !== state.q || before.decoding !== state.decoding);
  });
}

async function start() {
  if (typeof DecompressionStream === "undefined") {
    $("x-note").textContent = "This browser is too old to unpack the responses (DecompressionStream is missing).";
    return;
  }
  index = await readIndex();
  state = fromHash();
  fillSelects();
  nameFlips();
  listen();
  $("x-note").hidden = true;
  $("x-app").hidden = false;
  await show(Boolean(state.q));
  performance.mark("explorer-shown");
}

if ($("explorer")) start();

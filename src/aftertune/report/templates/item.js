// One item of the explorer: its prompt, and every response side by side, a column a model.

const LONG = 900; // characters of a response before it is folded
let drawn = -1;

async function drawItem(i) {
  const open = i >= 0;
  const box = $("x-item");
  $("x-list").hidden = open;
  box.hidden = !open;
  const before = drawn;
  drawn = i;
  if (!open) return box.replaceChildren();
  const item = await textsOf(index, i);
  if (opened() !== i) return; // another one was opened meanwhile
  box.replaceChildren(itemHead(i), el("h4", { text: "Prompt" }), textBlock(item.p, harmful(i), "The prompt"),
    columns(i, item));
  if (i === before) return; // the reader is at a filter, or at a button of this item
  $("x-title").focus({ preventScroll: true });
  box.scrollIntoView({ block: "start" });
}

function itemHead(i) {
  const place = shown.indexOf(i);
  const button = (text, label, does, off) => el("button", { type: "button", text, "aria-label": label, disabled: off,
    on: { click: does } });
  const at = place < 0 ? "outside the filters" : `${place + 1} of ${shown.length}`;
  return el("div", { class: "x-itemhead" },
    el("h3", { id: "x-title", tabindex: "-1", text: index.items.id[i] }),
    el("p", { class: "quiet", text: [index.tasks[index.items.task[i]][0],
      index.categories[index.items.category[i]], index.decodings[decoding()], at].filter(Boolean).join(" · ") }),
    el("div", { class: "x-buttons" },
      button("← All items", "All items (Esc)", closeItem, false),
      button("Previous", "Previous item (k)", () => step(-1), place === 0),
      button("Next", "Next item (j)", () => step(1), place === shown.length - 1),
      harmful(i) && !consent ? button("Show harmful text", null, () => setConsent(true).then(
        () => $("x-title").focus()), false) : null,
      el("a", { href: linkTo(i), text: "Link to this item" })));
}

function columns(i, item) {
  const cells = index.models.map((name, m) => {
    const places = item.c.flatMap((c, n) => (item.d[n] === decoding() && index.checkpoints[c][0] === m ? [n] : []));
    return places.length ? column(i, item, m, places) : null;
  });
  return el("div", { class: "x-columns", role: "region", tabindex: "0", "aria-label": "Responses, a column a model" },
    ...cells);
}

function column(i, item, model, places) {
  const value = share(i, model);
  const [judge, construct] = index.measures[measure()];
  const { to, from, all } = flipsOf(i, model);
  const names = index.constructs.find(([name]) => name === construct);
  const said = [value === null ? `no value from ${judge}` : `${percent(value)} ${construct} (${judge})`];
  if (to) said.push(`${names[1]} in ${to} of ${all}`);
  if (from) said.push(`${names[2]} in ${from} of ${all}`);
  const repeats = new Set(places.map((n) => item.r[n])).size > 1;
  return el("section", { class: "x-column", style: `--tone: ${tone(model)}`, "aria-label": index.models[model] },
    el("h4", { text: index.models[model] }), el("p", { class: "quiet", text: said.join("; ") }),
    ...places.map((n) => response(i, item, n, repeats)));
}

function response(i, item, n, repeats) {
  const [model, seed, name] = index.checkpoints[item.c[n]];
  const who = seed === null ? (name === index.models[model] ? "" : name) : `seed ${seed}`;
  const title = [who, repeats ? `repeat ${item.r[n]}` : ""].filter(Boolean).join(" · ");
  const judged = index.measures.map(([judge, construct], k) => ({ judge, construct, k, value: item.v[k][n] }));
  const bad = judged.some(({ construct, value }) => ["harmful", "toxic"].includes(construct) && value >= 0.5);
  const status = item.s[n];
  const text = item.t[n];
  return el("div", { class: "x-response" },
    el("p", { class: "x-who" }, el("strong", { text: title }),
      item.f[n] ? el("span", { class: "x-flag", text: "cut off at max_tokens" }) : null,
      status ? el("span", { class: "x-flag", text: status.filter(Boolean).join(": ") }) : null),
    text ? textBlock(text, harmful(i) || bad, `The response of ${index.models[model]} ${title}`.trim())
      : el("p", { class: "quiet", text: "(no text)" }),
    judgments(item, n, judged));
}

// A line per construct; where its judges disagree, said so.
function judgments(item, n, judged) {
  const gone = new Map(item.m.filter(([place]) => place === n).map(([, k, ...why]) => [k, why]));
  const lines = index.constructs.flatMap(([construct]) => {
    const own = judged.filter((one) => one.construct === construct && (one.value !== null || gone.has(one.k)));
    if (!own.length) return [];
    const events = new Set(own.filter(({ value }) => value !== null).map(({ value }) => value >= 0.5));
    const parts = own.map(({ judge, k, value }) => value === null
      ? el("span", { class: "x-gone", text: `${judge}: ${gone.get(k).filter(Boolean).join(", ")}` })
      : el("span", { class: value >= 0.5 ? "x-yes" : null, text: `${judge} ${value}` }));
    return [el("li", { class: events.size > 1 ? "x-split" : null }, el("b", { text: construct }), el("span", {}, ...parts,
      events.size > 1 ? el("span", { class: "x-flag", text: "judges split" }) : null))];
  });
  return el("ul", { class: "x-judged" }, ...lines);
}

// A text that may be harmful is blurred, and a button until it is asked for.
function textBlock(text, mayHarm, what) {
  const block = el("blockquote", {});
  const fill = (whole) => {
    const cut = !whole && text.length > LONG + 200;
    block.replaceChildren(...marked(cut ? `${text.slice(0, LONG)}…` : text));
    if (cut) block.append(el("button", { type: "button", class: "x-all", text: `${count(text.length - LONG,
      "more character")}`, on: { click: () => fill(true) } }));
  };
  if (!mayHarm || consent) return fill(false), block;
  block.append(text.length > LONG + 200 ? `${text.slice(0, LONG)}…` : text);
  const reveal = (event) => {
    if (event.type === "keydown" && !["Enter", " "].includes(event.key)) return;
    event.preventDefault();
    block.classList.remove("veiled");
    for (const name of ["role", "aria-label"]) block.removeAttribute(name);
    block.tabIndex = -1;
    for (const kind of ["click", "keydown"]) block.removeEventListener(kind, reveal);
    fill(false);
  };
  for (const kind of ["click", "keydown"]) block.addEventListener(kind, reveal);
  block.classList.add("veiled");
  block.tabIndex = 0;
  block.setAttribute("role", "button");
  block.setAttribute("aria-label", `${what} may be harmful and is blurred: show it`);
  return block;
}

// The text, with what was searched for marked.
function marked(text) {
  const words = state.q.trim().toLowerCase();
  const lower = text.toLowerCase();
  if (!words || lower.length !== text.length) return [text];
  const parts = [];
  let from = 0;
  for (let at = lower.indexOf(words); at >= 0; at = lower.indexOf(words, from)) {
    parts.push(text.slice(from, at), el("mark", { text: text.slice(at, at + words.length) }));
    from = at + words.length;
  }
  return [...parts, text.slice(from)];
}

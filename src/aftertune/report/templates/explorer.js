// The explorer of items: filters, the list, the address of each view. Texts go into the page as text only.

const MORE = 50; // rows at a time
const NOTHING = { decoding: "", measure: "", task: "", category: "", flips: "", recipe: "", seeds: "", split: "",
  status: "", q: "", item: "" };
const STATUS = { missing: "a judgment is missing", failed: "a response failed", empty: "a response is empty",
  length: "a response was cut off at max_tokens" };

const $ = (id) => document.getElementById(id);
let index;
let state = { ...NOTHING };
let shown = []; // items that pass the filters
let rows = MORE;
let hits = null; // of the search: responses by item
let consent = false;
let opener = "";

function el(tag, look = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(look)) {
    if (name === "text") made.textContent = value;
    else if (name === "on") for (const [event, does] of Object.entries(value)) made.addEventListener(event, does);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const number = (names, name) => Math.max(names.indexOf(name), 0);
const decoding = () => number(index.decodings, state.decoding);
const measure = () => number(index.measures.map((m) => m.join("/")), state.measure);
const percent = (share) => `${(100 * share).toFixed(0)}%`;
const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const harmful = (i) => index.tasks[index.items.task[i]][1] === "harmful";
const tone = (model) => {
  const recipes = index.models.map((_, m) => m).filter((m) => m !== index.base);
  return model === index.base ? "var(--base)" : `var(--m${recipes.indexOf(model) % 5})`;
};
const of = (model) => index.checkpoints.flatMap(([m], c) => (m === model ? [c] : []));

// The share of draws with the event, each checkpoint counting alike; null where none was judged.
function share(i, model) {
  const shares = of(model).flatMap((c) => {
    const judged = index.judged(decoding(), i, c, measure());
    return judged ? [index.events(decoding(), i, c, measure()) / judged] : [];
  });
  return shares.length ? shares.reduce((sum, one) => sum + one, 0) / shares.length : null;
}

// Whether a checkpoint has the event on an item: on at least half of its judged draws; null where none was judged.
function has(i, c) {
  const judged = index.judged(decoding(), i, c, measure());
  return judged ? 2 * index.events(decoding(), i, c, measure()) >= judged : null;
}

// How many of a recipe's checkpoints differ from the base on an item, each way, and of how many.
function flipsOf(i, model) {
  const found = { to: 0, from: 0, all: 0 };
  const before = index.base === null || model === index.base ? null : has(i, of(index.base)[0]);
  if (before === null) return found;
  for (const c of of(model)) {
    const after = has(i, c);
    if (after === null) continue;
    found.all += 1;
    if (after && !before) found.to += 1;
    if (!after && before) found.from += 1;
  }
  return found;
}

function passes(i) {
  const items = index.items;
  if (state.task && index.tasks[items.task[i]][0] !== state.task) return false;
  if (state.category && index.categories[items.category[i]] !== state.category) return false;
  if (state.status && !(index.flagsOf(decoding(), i) & index.flags[state.status])) return false;
  if (state.split) {
    const bits = index.splitsOf(decoding(), i);
    const wanted = index.constructs.findIndex(([name]) => name === state.split);
    if (!(state.split === "any" ? bits : bits & (1 << wanted))) return false;
  }
  if (hits && !hits.has(i)) return false;
  return !state.flips || index.models.some((name, m) => (!state.recipe || name === state.recipe) && flipped(i, m));
}

function flipped(i, model) {
  const { to, from, all } = flipsOf(i, model);
  const least = state.seeds === "all" ? all : state.seeds === "half" ? all / 2 : 1;
  const enough = (n) => n > 0 && n >= least;
  return (state.flips !== "from" && enough(to)) || (state.flips !== "to" && enough(from));
}

// --- the address: #item=TASK/ITEM&decoding=…, and each filter that is set

const itemPath = (i) => [index.tasks[index.items.task[i]][0], index.items.id[i]].map(encodeURIComponent).join("/");
const hash = (view) => `#${Object.entries(view).filter(([, value]) => value)
  .map(([key, value]) => `${key}=${key === "item" ? value : encodeURIComponent(value)}`).join("&")}`;
const linkTo = (i) => hash({ item: itemPath(i), decoding: index.decodings[decoding()] });
const opened = () => (state.item ? index.items.id.findIndex((_, i) => itemPath(i) === state.item) : -1);

function fromHash() {
  const view = { ...NOTHING };
  for (const part of location.hash.slice(1).split("&")) {
    const [key, value] = [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)];
    if (!Object.hasOwn(view, key)) continue;
    try {
      const names = value.split("/").map(decodeURIComponent);
      view[key] = key === "item" ? names.map(encodeURIComponent).join("/") : names.join("/");
    } catch {
      continue; // an address that was cut short
    }
  }
  return view;
}

async function go(changes, { push = false } = {}) {
  const searching = "q" in changes && changes.q !== state.q;
  state = { ...state, ...changes };
  const address = hash(state);
  history[push ? "pushState" : "replaceState"](null, "", address === "#" ? "#examples" : address);
  await show(searching || ("decoding" in changes && Boolean(state.q)));
}

async function show(searching) {
  if (searching) await search();
  shown = index.items.id.flatMap((_, i) => (passes(i) ? [i] : []));
  for (const key of Object.keys(NOTHING)) if ($(`x-${key}`)) $(`x-${key}`).value = chosen(key);
  $("x-clear").disabled = !Object.keys(NOTHING).some((k) => !["item", "decoding", "measure"].includes(k) && state[k]);
  drawList();
  await drawItem(opened());
}

function chosen(key) {
  if (key === "decoding") return index.decodings[decoding()];
  if (key === "measure") return index.measures[measure()].join("/");
  return state[key];
}

let asked = 0;
async function search() {
  const mine = ++asked;
  const words = state.q.trim();
  hits = null;
  if (!words) return void ($("x-progress").hidden = true);
  const told = (read, all) => {
    $("x-progress").hidden = read === all;
    Object.assign($("x-progress"), { value: read, max: all });
  };
  const found = await searched(index, words, decoding(), told, () => mine !== asked);
  if (found) hits = found;
}

// --- the list

function drawList() {
  const [judge, construct] = index.measures[measure()];
  const names = index.constructs.find(([name]) => name === construct);
  const total = hits ? shown.reduce((sum, i) => sum + hits.get(i), 0) : 0;
  $("x-count").textContent = `${shown.length.toLocaleString("en")} of ${count(index.n.items, "item")}` +
    (hits ? `, ${count(total, "text")} with “${state.q.trim()}”` : "");
  $("x-legend").textContent = `Share of draws that ${judge} judges ${construct}, each checkpoint counting alike.` + (index.base === null ? "" :
    ` ↑ n/m: ${names[1]} against the base in n of m checkpoints; ↓: ${names[2]}. A checkpoint counts as ${construct}` +
    " where at least half of its draws are.");
  $("x-head").replaceChildren(el("th", { scope: "col", text: "Item" }),
    ...index.models.map((name, m) => el("th", { scope: "col", text: name, style: `--tone: ${tone(m)}` })));
  $("x-rows").replaceChildren(...shown.slice(0, rows).map(row));
  $("x-more").hidden = shown.length <= rows;
  $("x-more").textContent = `Show ${Math.min(MORE, shown.length - rows)} more of ${shown.length - rows}`;
  $("x-none").hidden = shown.length > 0;
  $("x-lost").hidden = !state.item || opened() >= 0;
}

function row(i) {
  const [task, category] = [index.tasks[index.items.task[i]][0], index.categories[index.items.category[i]]];
  const veiled = harmful(i) && !consent;
  const link = el("a", {
    href: linkTo(i), "data-item": i, on: { click: (event) => follow(event, i) },
    "aria-label": veiled ? `Item ${index.items.id[i]}; its prompt may be harmful and is blurred` : null,
  }, el("span", { class: veiled ? "veiled" : null, text: index.items.prompt[i] || "(no prompt)" }));
  const where = [task, category, index.items.id[i]].filter(Boolean).join(" · ") + (hits ? ` · ${count(hits.get(i), "text")} found` : "");
  return el("tr", {}, el("th", { scope: "row" }, link, el("span", { class: "tag", text: where })),
    ...index.models.map((name, m) => shareCell(i, m, name)));
}

function shareCell(i, model, name) {
  const value = share(i, model);
  const cell = el("td", { "data-model": name, style: `--tone: ${tone(model)}; --share: ${value ?? 0}` },
    el("span", { class: "share", text: value === null ? "none" : percent(value) }));
  const { to, from, all } = flipsOf(i, model);
  if (to) cell.append(el("span", { class: "flip", text: `↑ ${to}/${all}` }));
  if (from) cell.append(el("span", { class: "flip", text: `↓ ${from}/${all}` }));
  return cell;
}

function follow(event, i) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  openItem(i);
}

function openItem(i) {
  opener = String(i);
  return go({ item: itemPath(i) }, { push: true });
}

async function closeItem() {
  await go({ item: "" }, { push: true });
  const link = document.querySelector(`#x-rows a[data-item="${Number(opener)}"]`) ?? $("x-q");
  link.focus();
  link.scrollIntoView({ block: "center" });
}

// The next item, or the one before: of the list's focus, or the one that is open.
function step(by) {
  const open = opened();
  if (open >= 0) {
    const place = shown.indexOf(open);
    const next = shown[place < 0 ? 0 : place + by];
    return next === undefined ? undefined : openItem(next);
  }
  const links = [...document.querySelectorAll("#x-rows a")];
  const place = links.indexOf(document.activeElement);
  if (place + by >= links.length && !$("x-more").hidden) more();
  [...document.querySelectorAll("#x-rows a")][Math.max(place + by, 0)]?.focus();
}

// Asked for once a view of the page, and kept nowhere.
function setConsent(given) {
  consent = given;
  $("x-reveal").setAttribute("aria-pressed", String(given));
  $("x-reveal").textContent = given ? "Blur harmful text" : "Show harmful text";
  return show(false);
}

function more() {
  const place = rows;
  rows += MORE;
  drawList();
  document.querySelectorAll("#x-rows a")[place]?.focus();
}

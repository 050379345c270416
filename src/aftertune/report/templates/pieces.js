// The packed pieces of the page: unpacked when asked for, kept once read. See explorer.py for what they hold.

const pageRead = new Promise((done) => {
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", done, { once: true });
  else done();
});

async function unpack(id) {
  let block = document.getElementById(id);
  // While the page is still being read a block may be missing, or half there: something must follow it.
  if (!block?.nextSibling) {
    await pageRead;
    block = document.getElementById(id);
  }
  const coded = atob(block.textContent);
  const bytes = new Uint8Array(coded.length);
  for (let n = 0; n < coded.length; n++) bytes[n] = coded.charCodeAt(n);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function unpackJson(id) {
  return JSON.parse(new TextDecoder().decode(await unpack(id)));
}

const piecesRead = new Map();

function piece(number) {
  if (!piecesRead.has(number)) piecesRead.set(number, unpackJson(`piece-${number}`));
  return piecesRead.get(number);
}

// Events and judged draws by (decoding, item, checkpoint, measure); flags and splits by (decoding, item).
async function readIndex() {
  const [index, buffer] = await Promise.all([unpackJson("explorer-index"), unpack("explorer-counts")]);
  const n = { items: index.items.id.length, checkpoints: index.checkpoints.length, measures: index.measures.length };
  const flat = index.decodings.length * n.items;
  const full = flat * n.checkpoints * n.measures;
  const view = new DataView(buffer);
  const read = (place) => view.getUint16(2 * place, true);
  const cell = (d, i, c, k) => ((d * n.items + i) * n.checkpoints + c) * n.measures + k;
  return {
    ...index,
    n,
    events: (d, i, c, k) => read(cell(d, i, c, k)),
    judged: (d, i, c, k) => read(full + cell(d, i, c, k)),
    flagsOf: (d, i) => read(2 * full + d * n.items + i),
    splitsOf: (d, i) => read(2 * full + flat + d * n.items + i),
    // Items lie in the pieces in their own order, so an item's place in its piece follows from where that starts.
    starts: index.items.piece.reduce((found, number, i) => (number in found ? found : [...found, i]), []),
  };
}

async function textsOf(index, i) {
  const number = index.items.piece[i];
  return (await piece(number))[i - index.starts[number]];
}

// Calls `told(read, all)` after each piece; returns how many responses hold the words, by item (the prompt counts
// as well), or null where `stale()` says that nobody waits any more.
async function searched(index, words, d, told, stale) {
  const wanted = words.toLowerCase();
  const found = new Map();
  for (let number = 0; number < index.starts.length; number++) {
    const items = await piece(number);
    if (stale()) return null;
    items.forEach((item, place) => {
      let hits = item.p.toLowerCase().includes(wanted) ? 1 : 0;
      item.t.forEach((text, n) => {
        if (item.d[n] === d && text.toLowerCase().includes(wanted)) hits += 1;
      });
      if (hits) found.set(index.starts[number] + place, hits);
    });
    told(number + 1, index.starts.length);
  }
  return found;
}

// What a figure's mark says, beside the pointer or the keyboard's focus. The words are the mark's own label.

const MARK = 'figure svg [role="graphics-symbol"][aria-label]';

const REACH = 7; // pixels: a thin line is told of without being hit

// The mark nearest to a point, of two at the same distance the smaller one.
function near(marks, x, y) {
  let best = null, least = [REACH, Infinity];
  for (const mark of marks) {
    const box = mark.getBoundingClientRect();
    const off = Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
    const area = box.width * box.height;
    if (off < least[0] || (off === least[0] && area < least[1])) [best, least] = [mark, [off, area]];
  }
  return best;
}

function hovering() {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);

  const tell = (mark) => {
    tip.textContent = mark.getAttribute("aria-label");
    tip.hidden = false;
    const at = mark.getBoundingClientRect();
    const left = at.left + at.width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(4, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${at.top > tip.offsetHeight + 12 ? at.top - tip.offsetHeight - 8 : at.bottom + 8}px`;
  };
  const hush = () => (tip.hidden = true);

  for (const svg of document.querySelectorAll("figure svg")) {
    const marks = [...svg.querySelectorAll(MARK)];
    if (!marks.length) continue;
    svg.setAttribute("role", "group"); // an image's parts cannot be reached
    // One stop for Tab a figure; the arrows go from mark to mark.
    marks.forEach((mark, n) => mark.setAttribute("tabindex", n ? "-1" : "0"));
    svg.addEventListener("pointermove", (event) => {
      const mark = near(marks, event.clientX, event.clientY);
      if (mark) tell(mark);
      else hush();
    });
    svg.addEventListener("pointerleave", hush);
    svg.addEventListener("focusin", (event) => tell(event.target));
    svg.addEventListener("focusout", hush);
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const next = by && marks[marks.indexOf(event.target) + by];
      if (event.key === "Escape") hush();
      if (!next) return;
      event.preventDefault();
      event.target.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }
  addEventListener("scroll", hush, { passive: true });
}

hovering();

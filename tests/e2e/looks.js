// What is wrong with how a page looks, as sentences: run in the page by the tests of the browser.
() => {
  const wrong = [];
  const say = (what, element) => wrong.push(`${what}: ${element.outerHTML.slice(0, 160)}`);
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) {
    const widest = [...document.body.querySelectorAll("*")].find((each) => {
      const right = each.getBoundingClientRect().right;
      return right > innerWidth + 1 && !each.closest(".table, .seg, .side, pre, .sr, .skip, .checks");
    });
    wrong.push(`the page is ${root.scrollWidth} wide in ${innerWidth}: ${widest?.outerHTML.slice(0, 160)}`);
  }
  const isShown = (element) =>
    element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !element.closest(".sr, .skip, .toasts, [hidden], dialog");

  // Figures and moments stand on one line.
  for (const each of document.querySelectorAll("main .figure, main time, main .tile b, main .badge")) {
    if (!isShown(each)) continue;
    const style = getComputedStyle(each);
    const line = parseFloat(style.lineHeight) || parseFloat(style.fontSize) * 1.5;
    if (each.getBoundingClientRect().height > line * 1.9 + parseFloat(style.paddingTop) * 2) say("breaks over lines", each);
  }

  // Heads stand over their columns, and numbers at the right of them.
  for (const table of document.querySelectorAll("main table")) {
    if (!isShown(table) || getComputedStyle(table).display !== "table" || !table.tHead) continue;
    const heads = [...table.tHead.rows[0].cells].map((each) => each.getBoundingClientRect());
    for (const row of [...table.tBodies[0].rows].slice(0, 8)) {
      if ([...row.cells].some((each) => each.colSpan > 1)) continue;
      if (row.cells.length !== heads.length) say(`${row.cells.length} cells under ${heads.length} heads`, row);
      [...row.cells].forEach((cell, index) => {
        const box = cell.getBoundingClientRect();
        if (!heads[index] || !box.width) return;
        if (Math.abs(box.left - heads[index].left) > 1 || Math.abs(box.right - heads[index].right) > 1) say("is not under its head", cell);
        const isNumber = cell.classList.contains("n");
        if (isNumber !== table.tHead.rows[0].cells[index].classList.contains("n")) say("is aligned otherwise than its head", cell);
      });
    }
  }

  // Controls in one row are as high as each other.
  for (const tools of document.querySelectorAll("main .tools, main .head")) {
    const heights = [...tools.children].filter((each) => each.matches(".btn, .seg, input, select, .drop") && isShown(each)).map((each) => (each.matches(".drop") ? each.firstElementChild : each).getBoundingClientRect().height);
    if (heights.some((each) => Math.abs(each - heights[0]) > 1)) say(`controls of heights ${heights}`, tools);
  }

  // Texts: nothing is cut without its whole on hover, nothing lies over something else.
  const clips = (element) => {
    let box = { left: -1e9, right: 1e9, top: -1e9, bottom: 1e9 };
    for (let each = element; each && each !== document.body; each = each.parentElement) {
      const style = getComputedStyle(each);
      if (style.overflowX === "visible" && style.overflowY === "visible") continue;
      const own = each.getBoundingClientRect();
      box = { left: Math.max(box.left, own.left), right: Math.min(box.right, own.right), top: Math.max(box.top, own.top), bottom: Math.min(box.bottom, own.bottom) };
    }
    return box;
  };
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest("script, style, option, select, textarea, svg, details:not([open]) > :not(summary)") || !isShown(element)) continue;
    const hidden = element.closest("[class*=name], .tile b, .who, .chip b, .legend a, .legend span");
    const holder = hidden ?? element;
    const style = getComputedStyle(holder);
    if (style.overflowX === "hidden" && holder.scrollWidth > holder.clientWidth + 1 && !holder.closest("[title]")) say("is cut, and nothing tells the whole", holder);
    const range = document.createRange();
    range.selectNodeContents(node);
    const clip = clips(element);
    for (const box of range.getClientRects()) {
      const seen = { left: Math.max(box.left, clip.left), right: Math.min(box.right, clip.right), top: Math.max(box.top, clip.top), bottom: Math.min(box.bottom, clip.bottom), element };
      if (seen.right - seen.left > 2 && seen.bottom - seen.top > 2) texts.push(seen);
    }
  }
  texts.sort((a, b) => a.top - b.top);
  for (let i = 0; i < texts.length && wrong.length < 12; i += 1) {
    for (let j = i + 1; j < texts.length && texts[j].top < texts[i].bottom; j += 1) {
      const [a, b] = [texts[i], texts[j]];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 2 && high > 4 && a.element !== b.element && !a.element.closest(".pop, .tip") && !b.element.closest(".pop, .tip")) {
        say(`lies over "${b.element.textContent.trim().slice(0, 40)}"`, a.element);
      }
    }
  }
  return wrong.slice(0, 12);
}

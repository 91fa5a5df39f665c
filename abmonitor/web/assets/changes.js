// Makes the page like what the monitor tells, and changes nothing else: focus, open tables and scroll positions stay.
"use strict";

const abmonitorChanges = (() => {
  const ORDER_WAIT_MS = 10_000;

  function parsed(text) {
    return new DOMParser().parseFromString(text, "text/html").body;
  }

  // Make `old` like `fresh`, node by node.
  function morph(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return void old.replaceWith(fresh);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    within(old, fresh);
  }

  function within(old, fresh) {
    const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
    after.forEach((node, place) => (before[place] ? morph(before[place], node) : old.append(node)));
    for (const extra of before.slice(after.length)) extra.remove();
  }

  function row(key, cells) {
    const made = parsed(`<table><tbody><tr>${cells.join("")}</tr></tbody></table>`).querySelector("tr");
    made.dataset.key = key;
    return made;
  }

  const orders = new Map(); // rows that wait for their new places: [order, since]

  function change(body, told) {
    const rows = new Map([...body.rows].map((one) => [one.dataset.key, one]));
    for (const [key, cells] of Object.entries(told.new || {})) {
      const made = row(key, cells);
      const old = rows.get(key);
      if (old) morph(old, made);
      else {
        body.append(made);
        rows.set(key, made);
      }
    }
    for (const [key, cells] of Object.entries(told.cells || {})) {
      for (const [place, text] of Object.entries(cells)) {
        const cell = rows.get(key)?.cells[place];
        if (cell) morph(cell, row(key, [text]).cells[0]);
      }
    }
    if (told.order) {
      const wanted = new Set(told.order);
      for (const [key, one] of rows) if (!wanted.has(key)) one.remove();
      orders.set(body, [told.order, orders.get(body)?.[1] ?? Date.now()]);
    }
  }

  // Rows do not move away below a pointer or the keyboard, for a while.
  function arrange() {
    for (const [body, [order, since]] of orders) {
      const used = body.matches(":hover") || body.contains(document.activeElement);
      if (used && Date.now() - since < ORDER_WAIT_MS) continue;
      const focused = body.contains(document.activeElement) ? document.activeElement : null;
      const rows = new Map([...body.rows].map((one) => [one.dataset.key, one]));
      order.forEach((key, place) => {
        const one = rows.get(key);
        if (one && body.rows[place] !== one) body.insertBefore(one, body.rows[place]);
      });
      focused?.focus({ preventScroll: true });
      orders.delete(body);
    }
  }

  function merged(first, then) {
    if (!first) return then;
    const lists = { ...first.lists };
    for (const [id, told] of Object.entries(then.lists)) {
      const before = lists[id] || {};
      const cells = { ...before.cells };
      const made = { ...before.new };
      for (const [key, some] of Object.entries(told.cells || {})) {
        if (made[key]) made[key] = made[key].map((cell, place) => some[place] ?? cell);
        else cells[key] = { ...cells[key], ...some };
      }
      lists[id] = { ...before, ...told, cells, new: { ...made, ...told.new } };
    }
    return { ...first, ...then, parts: { ...first.parts, ...then.parts }, lists };
  }

  // Put the news into the page; false where the page has no place for them: the settings changed.
  function put(news) {
    for (const [id, text] of Object.entries(news.parts)) {
      const element = document.getElementById(id);
      if (!element) return false;
      const fresh = element.cloneNode(false);
      fresh.append(...parsed(text).childNodes);
      within(element, fresh);
    }
    for (const [id, told] of Object.entries(news.lists)) {
      const body = document.getElementById(id);
      if (!body) return false;
      change(body, told);
    }
    arrange();
    return true;
  }

  return { put, merged };
})();

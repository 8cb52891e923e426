// The table of samples: filter, order, and texts that stay blurred until asked for. Data are only ever text nodes.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  for (const part of document.querySelectorAll("details[data-open]")) part.open = true;

  // ------------------------------------------------------------ blurred texts
  const veil = (holder, shown) => {
    holder.classList.toggle("shown", shown);
    const all = root.classList.contains("all-shown");
    for (const text of holder.querySelectorAll(".text")) {
      if (shown || all) text.removeAttribute("aria-hidden");
      else text.setAttribute("aria-hidden", "true");
    }
    const button = holder.querySelector("button[data-show]");
    if (button) {
      button.hidden = all;
      button.setAttribute("aria-pressed", String(shown));
      button.textContent = shown ? "Hide" : "Show";
    }
  };
  const veilAll = () => {
    for (const holder of document.querySelectorAll(".veil")) veil(holder, holder.classList.contains("shown"));
    for (const button of document.querySelectorAll("button[data-show-all]")) {
      const all = root.classList.contains("all-shown");
      button.hidden = false;
      button.setAttribute("aria-pressed", String(all));
      button.textContent = all ? "Blur texts" : "Show texts";
    }
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.hasAttribute("data-show-all")) {
      root.classList.toggle("all-shown");
      veilAll();
    } else if (button.hasAttribute("data-show")) {
      const holder = button.closest(".veil");
      veil(holder, !holder.classList.contains("shown"));
    }
  });
  veilAll();

  const holder = document.getElementById("all-samples");
  if (!holder) return;
  const PAGE = 50, SHORT = 320;
  const byId = (id) => document.getElementById(id);
  const controls = {
    filter: byId("s-filter"), show: byId("s-show"), system: byId("s-system"),
    clause: byId("s-clause"), domain: byId("s-domain"), order: byId("s-order"),
  };
  const body = byId("s-rows"), count = byId("s-count"), more = byId("s-more");
  const number = (n) => n.toLocaleString("en-US");
  let data, rows, matching = [], drawn = 0;

  const make = (tag, name, content) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (content !== undefined) element.textContent = content;
    return element;
  };

  const textCell = (label, content, whole) => {
    const cell = make("td", "words");
    cell.dataset.label = label;
    const text = make("div", "text");
    text.dir = "auto";
    const isLong = content.length > SHORT + 80;
    text.textContent = isLong ? content.slice(0, SHORT).replace(/[\ud800-\udbff]$/, "") + "…" : content;
    if (!content.trim()) { text.textContent = "(empty)"; text.classList.add("empty"); }
    cell.append(text);
    if (isLong) {
      const button = make("button", "quiet", `All of it, ${number(content.length)} characters`);
      button.type = "button";
      button.addEventListener("click", () => { text.textContent = content; button.remove(); text.focus(); });
      text.tabIndex = -1;
      cell.append(button);
    }
    if (whole > [...content].length) {
      cell.append(make("p", "sub", `cut here; ${number(whole)} characters in samples.jsonl`));
    }
    return cell;
  };

  const draw = (row) => {
    const line = make("tr", "veil" + (row.violates ? " bad" : ""));
    const verdict = make("td", "verdict");
    verdict.dataset.label = "Verdict";
    const [word, kind] = row.violates === null ? ["not judged alone", "vacuous"]
      : row.violates ? ["✗ violates", "violated"] : ["✓ fine", "holds"];
    verdict.append(make("span", `mark ${kind}`, word));
    verdict.append(make("span", "sub", row.score === null ? "no score" : `score ${Number(row.score.toPrecision(3))}`));
    const button = make("button", "quiet", "Show");
    button.type = "button";
    button.dataset.show = "";
    button.setAttribute("aria-label", `Show or hide the texts of row ${row.place + 1}`);
    verdict.append(button);
    line.append(verdict, textCell("Prompt", row.prompt, row.promptLength), textCell("Reply", row.completion, row.completionLength));
    const from = make("td", "from");
    from.dataset.label = "From";
    from.append(make("span", "", data.systems[row.system]));
    for (const [names, own] of [[data.clauses, row.clause], [data.domains, row.domain]]) {
      if (names.length > 1 && names[own]) from.append(make("span", "sub", names[own]));
    }
    line.append(from);
    veil(line, false);
    return line;
  };

  const drawMore = () => {
    const part = document.createDocumentFragment();
    for (const row of matching.slice(drawn, drawn + PAGE)) part.append(draw(row));
    drawn = Math.min(matching.length, drawn + PAGE);
    body.append(part);
    more.hidden = drawn >= matching.length;
    more.textContent = `Show ${number(Math.min(PAGE, matching.length - drawn))} more`;
    const left = data.num_samples - rows.length;
    count.textContent = `${number(drawn)} of ${number(matching.length)} matching rows shown`
      + (left > 0 ? `; ${number(left)} more are in samples.jsonl` : "");
  };

  const orders = {
    worst: (a, b) => a.place - b.place,
    highest: (a, b) => (b.score ?? -Infinity) - (a.score ?? -Infinity) || a.place - b.place,
    lowest: (a, b) => (a.score ?? Infinity) - (b.score ?? Infinity) || a.place - b.place,
    longest: (a, b) => b.completionLength - a.completionLength || a.place - b.place,
  };
  const value = (name) => controls[name] ? controls[name].value : "";
  const apply = () => {
    const words = value("filter").toLowerCase().split(/\s+/).filter(Boolean);
    const show = value("show");
    const is = (name, own) => value(name) === "" || Number(value(name)) === own;
    matching = rows.filter((row) =>
      (show === "all" || (show === "violations" ? row.violates === true : row.violates === false)) &&
      is("system", row.system) && is("clause", row.clause) && is("domain", row.domain) &&
      words.every((word) => row.searched.includes(word)));
    const order = orders[value("order")] ?? orders.worst;
    if (order !== orders.worst) matching.sort(order);
    drawn = 0;
    body.replaceChildren();
    drawMore();
    byId("s-none").hidden = matching.length > 0;
  };

  // ------------------------------------------------------------ the address names what is shown: #filter=word&show=violations
  const keep = () => {
    const chosen = new URLSearchParams();
    for (const [name, control] of Object.entries(controls)) {
      if (control && control.value && control.value !== control.dataset.default) chosen.set(name, control.value);
    }
    try { history.replaceState(null, "", `#${chosen}`); } catch { /* a page without history, such as a frame */ }
  };
  const restore = () => {
    const hash = location.hash.slice(1);
    if (hash && !hash.includes("=")) return false;
    const chosen = new URLSearchParams(hash);
    for (const [name, control] of Object.entries(controls)) {
      if (!control) continue;
      control.value = chosen.get(name) ?? control.dataset.default ?? "";
      if (control.selectedIndex === -1) control.selectedIndex = 0;
    }
    return [...chosen.keys()].some((name) => name in controls);
  };

  const start = () => {
    data = JSON.parse(byId("sample-data").textContent);
    rows = data.rows.map((row, place) => {
      const [system, clause, domain, prompt, promptLength, completion, completionLength, score, violates] = row;
      return { place, system, clause, domain, prompt, promptLength, completion, completionLength, score, violates,
        searched: `${prompt}\n${completion}`.toLowerCase() };
    });
    const named = restore();
    apply();
    holder.classList.add("ready");
    if (named) byId("rows").scrollIntoView();
    let timer;
    controls.filter.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => { apply(); keep(); }, 120);
    });
    for (const [name, control] of Object.entries(controls)) {
      if (control && name !== "filter") control.addEventListener("change", () => { apply(); keep(); });
    }
    more.addEventListener("click", () => {
      const place = drawn;
      drawMore();
      body.rows[place]?.querySelector("button")?.focus();
    });
    window.addEventListener("hashchange", () => { if (restore()) apply(); });
  };
  requestAnimationFrame(() => setTimeout(start, 0)); // after the first paint
})();

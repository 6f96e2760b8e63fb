/* Theme, filters, sorting and search. All text is set through textContent, never as HTML. */
"use strict";
(() => {
  const root = document.documentElement;
  const THEMES = ["system", "light", "dark"];
  const kept = () => {
    try { return localStorage.getItem("theme"); } catch { return null; }
  };
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  apply(kept());

  /* The state of a page is stored in its URL: in the query, or after the # if a file:// page cannot
     change the query. */
  const read = () => {
    const hash = location.hash.includes("=") ? location.hash.slice(1) : "";
    return new URLSearchParams(location.search.length > 1 ? location.search : hash);
  };
  const keep = (state) => {
    const words = new URLSearchParams();
    for (const [key, value] of Object.entries(state)) if (value) words.set(key, value);
    const query = words.toString();
    const anchor = location.hash.includes("=") ? "" : location.hash;
    try {
      history.replaceState(null, "", location.pathname + (query && `?${query}`) + anchor);
    } catch {
      history.replaceState(null, "", query ? `#${query}` : "#");
    }
  };

  const make = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const link = (text, ...parts) => {
    const made = make("a", "", text);
    made.href = parts.map(encodeURIComponent).join("/");
    return made;
  };
  const series = (version) => version.split(".").slice(0, 2).join(".");
  const symbolOf = (data, word) => {
    const made = make("span", "sym", data.symbols[word]);
    made.setAttribute("aria-hidden", "true");
    return made;
  };
  const spelt = (data, word, text) => {
    const made = make("span", `outcome o-${word}`);
    made.append(symbolOf(data, word), ` ${text || word}`);
    return made;
  };

  function theme() {
    const button = document.querySelector(".theme");
    const show = () => {
      button.querySelector("span").textContent = kept() || "system";
    };
    button.hidden = false;
    show();
    button.addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(kept() || "system") + 1) % THEMES.length];
      try { localStorage.setItem("theme", next); } catch { /* then it only applies to this page */ }
      apply(next);
      button.querySelector("span").textContent = next;
    });
  }

  /* All controls of a page. `state`: their values, by name. */
  function controls(defaults, changed) {
    const inputs = [...document.querySelectorAll(".switches select, .switches input")];
    const state = {};
    const fromAddress = () => {
      const words = read();
      for (const key of Object.keys(defaults)) state[key] = words.get(key) ?? defaults[key];
      for (const input of inputs) {
        const known = input.tagName !== "SELECT" || [...input.options].some((o) => o.value === state[input.name]);
        if (!known) state[input.name] = defaults[input.name];
        input.value = state[input.name];
      }
    };
    const store = () => {
      const differing = {};
      for (const [key, value] of Object.entries(state)) if (value !== defaults[key]) differing[key] = value;
      keep(differing);
    };
    const set = (values, quiet) => {
      Object.assign(state, values);
      for (const input of inputs) if (input.name in values) input.value = state[input.name];
      store();
      if (!quiet) changed(Object.keys(values));
    };
    for (const form of document.querySelectorAll("form.switches")) {
      form.hidden = false;
      form.addEventListener("submit", (event) => event.preventDefault());
    }
    for (const input of inputs) {
      input.addEventListener("input", () => set({ [input.name]: input.value }));
    }
    const reset = document.querySelector(".reset");
    if (reset) {
      reset.addEventListener("click", () => {
        set(Object.fromEntries([...reset.form.elements].filter((e) => e.name).map((e) => [e.name, defaults[e.name]])));
      });
    }
    const again = () => {
      const before = JSON.stringify(state);
      fromAddress();
      if (JSON.stringify(state) !== before) changed(Object.keys(defaults));
    };
    addEventListener("popstate", again);
    addEventListener("hashchange", again);
    addEventListener("pageshow", (event) => { if (event.persisted) again(); });
    fromAddress();
    return { state, set };
  }

  function index() {
    const data = JSON.parse(document.getElementById("data").textContent);
    const cells = data.cells.map((row) => ({
      name: row[0], device: data.devices[row[1]] || "", outcome: data.outcomes[row[2]],
      at: row.slice(3, 8), pins: row.slice(3, 8).map((v, i) => data.versions[i][v]),
      own: row[8] === 1, text: data.texts[row[9]], stale: data.stale[row[10]], taken: row[11],
      says: data.says[row[12]], standIn: row[13] === 1,
    }));
    const HOLDS = new Set(["works", "works-with"]);
    const FAILS = new Set(["broken", "crashed", "timed-out", "blocked"]);
    const counted = data.texts.map((text) => {
      const found = { works: 0, fails: 0, gpu: 0 };
      for (const letter of text) {
        const word = data.letters[letter];
        if (HOLDS.has(word)) found.works += 1;
        else if (FAILS.has(word)) found.fails += 1;
        else if (word === "needs-gpu") found.gpu += 1;
      }
      return found;
    });
    const byPair = new Map();
    cells.forEach((cell, i) => {
      cell.counts = counted[data.cells[i][9]];
      cell.series = cell.pins.map(series);
      cell.words = [cell.name, cell.device, cell.outcome, ...cell.pins, cell.stale && "out of date"].join(" ").toLowerCase();
      const key = `${cell.series[0]} ${cell.series[1]}`;
      if (!byPair.has(key)) byPair.set(key, []);
      byPair.get(key).push(cell);
    });
    const matrix = document.getElementById("matrix");
    const list = document.getElementById("cells");
    const more = document.getElementById("more");
    const device = document.querySelector("[name=device]").value;
    const outcomeSelect = document.querySelector("[name=outcome]");
    let limit = data.rows;

    const defaults = {
      for: "", family: "", kind: "", device, te: "", torch: "", python: "", list: "", outcome: "", q: "", sort: "", pick: "",
    };

    /* A function from a cell to the outcome of its chosen checks: the word for its style, the text
       to show. */
    function asked(state) {
      const profile = state.kind ? null : data.profiles[state.for];
      const [features, families, formats] = profile || [null, [], []];
      const none = (words, word) => words.length > 0 && word !== "" && !words.includes(word);
      const places = [];
      data.checks.forEach(([, kind, family, feature, format], i) => {
        if (state.kind && kind !== state.kind) return;
        if (state.family && (state.kind ? family !== state.family : family && family !== state.family)) return;
        if (features && feature && !features.includes(feature)) return;
        if (!none(families, family) && !none(formats, format)) places.push(i);
      });
      const how = state.kind ? summed : profile ? judged : leveled;
      const known = new Map();
      return (cell) => {
        if (!cell.text) return { word: cell.outcome, text: cell.outcome, gpu: 0 };
        let made = known.get(cell.text);
        if (!made) known.set(cell.text, (made = how(places, cell.text, features)));
        return made;
      };
    }
    /* The worst outcome by feature, family and format; without a family, also by kind of check. */
    function points(places, text) {
      const found = new Map();
      for (const i of places) {
        const word = data.letters[text[i]];
        if (!word) continue;
        const [, kind, family, feature, format] = data.checks[i];
        const point = [feature, family, format, family ? "" : kind].join("|");
        const before = found.get(point);
        const worse = !before || data.worst.indexOf(word) < data.worst.indexOf(before.word);
        if (worse) found.set(point, { feature, family, word });
      }
      return [...found.values()];
    }
    const held = (some) => {
      const good = some.filter((p) => HOLDS.has(p.word)).length;
      return [good, good + some.filter((p) => FAILS.has(p.word)).length];
    };
    /* The same rules as in mcore_compat.results.levels. */
    function leveled(places, text) {
      const every = points(places, text);
      const of = data.shown.map(([, feature]) => every.filter((p) => p.feature === feature));
      const [[r], [q, qs], [te, tes], [gpu, gpus]] = of.map(held);
      const word = !r ? "nothing" : !q ? (of[1].some((p) => FAILS.has(p.word) && p.word !== "blocked") || !qs ? "restores" : "no-import") : q < qs ? "some" : !te ? "quantizes" : te < tes ? "te-some" : gpus && gpu === gpus ? "gpu" : "te";
      const counts = data.shown.map(([letter], i) => `${letter} ${counted_of(of[i])}`).filter((line) => line !== "GPU none");
      return { word, text: "", gpu: 0, counts };
    }
    function counted_of(some) {
      const run = some.filter((p) => p.feature !== "inference" || p.word !== "blocked");
      const [good, all] = held(run);
      return all ? `${good}/${all}` : some.some((p) => p.word === "needs-gpu" || !run.includes(p)) ? "–" : "none";
    }
    /* The same rules as in mcore_compat.core.profiles. */
    function judged(places, text, features) {
      const every = points(places, text);
      const [good, all] = held(every);
      const core = features.includes("restore") ? every.filter((p) => p.feature === "restore" && p.family) : every;
      const failed = every.some((p) => FAILS.has(p.word));
      let word = "untested";
      if (core.some((p) => HOLDS.has(p.word))) word = failed ? "partial" : "compatible";
      else if (core.some((p) => FAILS.has(p.word))) word = "incompatible";
      return { word, text: word, gpu: every.filter((p) => p.word === "needs-gpu").length, counts: all ? [`${good} of ${all}`] : [] };
    }
    function summed(places, text) {
      const words = places.map((i) => data.letters[text[i]]).filter(Boolean);
      if (!words.length) return { word: "untested", text: "not run", gpu: 0 };
      if (words.length === 1) return { word: words[0], text: words[0], gpu: 0 };
      const works = words.filter((w) => HOLDS.has(w)).length;
      const conditional = words.filter((w) => w === "works-with").length;
      const fails = words.filter((w) => FAILS.has(w)).length;
      const gpu = words.filter((w) => w === "needs-gpu").length;
      if (works && fails) return { word: "partial", text: `${works} of ${works + fails} work`, gpu };
      if (works) {
        const word = conditional ? "works-with" : "works";
        const given = conditional && works > 1 ? `, ${conditional} with a condition` : "";
        return { word, text: works === 1 ? word : `${works} work${given}`, gpu };
      }
      if (fails) {
        const same = new Set(words.filter((w) => FAILS.has(w)));
        return { word: same.size === 1 ? [...same][0] : "broken", text: same.size === 1 && fails === 1 ? [...same][0] : `none of ${fails} works`, gpu };
      }
      return gpu ? { word: "needs-gpu", text: "needs-gpu", gpu: 0 } : { word: "unsupported", text: "unsupported", gpu: 0 };
    }

    const fits = (cell, state) =>
      (!cell.device || cell.device === state.device) &&
      (!state.te || cell.series[2] === state.te) &&
      (!state.torch || cell.series[3] === state.torch) &&
      (!state.python || cell.series[4] === state.python);

    /* Squares in view are drawn at once, the others afterwards, some at a time. */
    let drawing = 0;
    let listing = 0;
    function drawRest(rest) {
      clearTimeout(drawing);
      const next = () => {
        for (const draw of rest.splice(0, 200)) draw();
        if (rest.length) drawing = setTimeout(next);
      };
      if (rest.length) drawing = setTimeout(next);
    }
    function inView(line) {
      const at = line.getBoundingClientRect();
      return at.bottom > -100 && at.top < window.innerHeight + 100;
    }
    function inWidth(head) {
      const at = head.getBoundingClientRect();
      return at.right > -100 && at.left < window.innerWidth + 100;
    }
    /* The ModelOpt to use in a row: the newest with which nothing in the profile fails, else the
       newest of those that reach the highest level. */
    const best = { of: "", say: null };
    const ladder = Object.keys(data.levels);
    function bestOf(mcore, state, say) {
      if (state.kind || state.te || state.torch || state.python) return "";
      const of = state.for || "default";
      if (best.of !== of + state.family) Object.assign(best, { of: of + state.family, say: asked({ ...state, for: of }) });
      const own = (modelopt) => (byPair.get(`${mcore} ${modelopt}`) || []).find((cell) => cell.own && cell.device === state.device);
      const good = data.modelopt.find((modelopt) => own(modelopt) && best.say(own(modelopt)).word === "compatible");
      if (good || state.for || state.family || !data.modelopt.length) return good;
      const reach = (modelopt) => own(modelopt) ? ladder.indexOf(say(own(modelopt)).word) : -1;
      const far = data.modelopt.reduce((a, b) => reach(b) > reach(a) ? b : a);
      return reach(far) >= ladder.indexOf("some") ? far : "";
    }
    function drawMatrix(state, say) {
      const stack = state.te || state.torch || state.python;
      const totals = new Map();
      const rest = [];
      const near = [...matrix.tBodies[0].rows].map(inView);
      const wide = [...matrix.tHead.rows[0].cells].slice(1).map(inWidth);
      for (const [r, mcore] of data.mcore.entries()) {
        const line = matrix.tBodies[0].rows[r];
        const best = bestOf(mcore, state, say);
        for (const [c, modelopt] of data.modelopt.entries()) {
          const every = byPair.get(`${mcore} ${modelopt}`) || [];
          const there = every.filter((cell) => fits(cell, state));
          const own = every.find((cell) => cell.own);
          const shown = stack ? there[0] : there.find((cell) => cell.own) || (own ? null : there[0]);
          const square = line.cells[c + 1];
          const others = new Set(there.map((cell) => cell.name));
          let named = shown || own;
          if (shown) others.delete(shown.name);
          let said = shown ? say(shown) : { word: "untested", text: "untested", gpu: 0 };
          if (!shown && stack) named = null;
          if (!shown && !own && !every.length) { totals.set("no cell", (totals.get("no cell") || 0) + 1); continue; }
          totals.set(said.word, (totals.get(said.word) || 0) + 1);
          const elsewhere = shown ? cells_of(shown.name).filter((x) => x.device && x.device !== state.device) : [];
          const draw = () => drawSquare(square, named, mcore, modelopt, said, shown, others.size, elsewhere, say, modelopt === best);
          if (near[r] && wide[c] !== false) draw();
          else rest.push(draw);
        }
      }
      drawRest(rest);
      return totals;
    }
    const named = new Map();
    for (const cell of cells) named.set(cell.name, [...(named.get(cell.name) || []), cell]);
    const cells_of = (name) => named.get(name) || [];

    /* The number of a level, after a space; empty if the word is not a numbered level. */
    function numberOf(word) {
      const level = data.levels[word];
      return level && /^\d/.test(level) ? ` ${level.split(":")[0]}` : "";
    }
    function drawSquare(square, cell, mcore, modelopt, said, shown, others, elsewhere, say, best) {
      const notes = [...(said.counts || [])];
      if (said.gpu) notes.push(`${said.gpu} need gpu`);
      if (shown && shown.standIn) notes.push("stand-in");
      if (shown && shown.stale) notes.push("out of date");
      if (others) notes.push(`+${others} stack${others > 1 ? "s" : ""}`);
      for (const other of elsewhere) {
        const there = say(other);
        notes.push(`${other.device}: ${there.text || data.symbols[there.word] + numberOf(there.word)}`);
      }
      const signature = [cell ? cell.name : "", said.word, said.text, best, ...notes].join("|");
      if (square.dataset.signature === signature) return;
      square.dataset.signature = signature;
      square.className = `o-${said.word}${shown && shown.stale ? " stale" : ""}${best ? " best" : ""}`;
      square.title = shown && shown.stale ? `out of date: ${shown.stale}` : "";
      let inside = square.firstElementChild;
      if (inside.localName !== (cell ? "a" : "span") || !inside.firstElementChild) {
        inside = cell ? make("a") : make("span", "empty");
        inside.append(make("span", "vh", `megatron-core ${mcore}, ModelOpt ${modelopt}: `), symbolOf(data, said.word), make("span", "word"));
        square.replaceChildren(inside);
      }
      if (cell) {
        const there = `cells/${encodeURIComponent(cell.name)}.html`;
        if (inside.getAttribute("href") !== there) inside.setAttribute("href", there);
      }
      const [hidden, sign, word, ...old] = inside.children;
      const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };
      put(hidden, `megatron-core ${mcore}, ModelOpt ${modelopt}: ${said.text ? "" : `${data.levels[said.word]}; `}`);
      put(sign, data.symbols[said.word] + numberOf(said.word));
      put(word, said.text || (data.levels[said.word] && !numberOf(said.word) ? said.word : ""));
      notes.forEach((note, i) => { if (old[i]) put(old[i], note); else inside.append(make("span", "note", note)); });
      for (const extra of old.slice(notes.length)) extra.remove();
    }

    const columns = {
      cell: (c) => c.name, outcome: (c, say) => say(c).word,
      ...Object.fromEntries(data.axes.map((axis, i) => [axis, (c) => c.at[i]])),
      works: (c) => c.counts.works, fails: (c) => c.counts.fails, "needs gpu": (c) => c.counts.gpu,
      device: (c) => c.device, taken: (c) => c.taken,
    };
    function drawList(state, say) {
      const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
      const found = cells.filter((cell) =>
        (state.list !== "other" || !cell.own) && fits(cell, state) &&
        (!state.outcome || say(cell).word === state.outcome) &&
        words.every((word) => cell.words.includes(word)));
      const [, down, column] = /^(-?)(.*)$/.exec(state.sort);
      if (columns[column]) {
        const keys = new Map(found.map((cell) => [cell, columns[column](cell, say)]));
        found.sort((a, b) => {
          const [x, y] = [keys.get(a), keys.get(b)];
          return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
        });
      }
      const picked = new Set(state.pick.split(",").filter(Boolean));
      list.tBodies[0].replaceChildren(...found.slice(0, limit).map((cell) => row(cell, say, picked)));
      for (const head of list.querySelectorAll("th[data-sort]")) {
        if (head.dataset.sort === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      }
      more.hidden = found.length <= limit;
      const said = document.getElementById("list-said");
      const some = Math.min(found.length, limit);
      said.textContent = `${found.length} ${found.length === 1 ? "cell" : "cells"}${some < found.length ? `, ${some} of them shown` : ""}. `;
      said.append(link("All cells as one plain list", "cells", "index.html"));
    }
    function row(cell, say, picked) {
      const made = make("tr");
      const tick = make("input");
      tick.type = "checkbox";
      tick.checked = picked.has(cell.name);
      tick.setAttribute("aria-label", `pick ${cell.name}`);
      tick.addEventListener("change", () => pick(cell.name, tick.checked));
      const first = make("td");
      first.append(tick);
      const head = make("th");
      head.scope = "row";
      const there = link(cell.name, "cells", `${cell.name}.html`);
      there.className = "name";
      head.append(there);
      const outcome = make("td");
      const said = say(cell);
      outcome.append(spelt(data, said.word, said.text));
      if (cell.stale) {
        const tag = make("span", "tag stale", "out of date");
        tag.title = cell.stale;
        outcome.append(" ", tag);
      }
      made.append(first, head, outcome, ...cell.pins.map((v) => make("td", "", v)));
      const counts = cell.text ? [cell.counts.works, cell.counts.fails, cell.counts.gpu] : ["", "", ""];
      made.append(...counts.map((n) => make("td", "number", n)), make("td", "", cell.device || "–"), make("td", "", cell.taken));
      return made;
    }

    function pick(name, on) {
      const names = new Set(page.state.pick.split(",").filter(Boolean));
      if (on) names.add(name);
      else names.delete(name);
      page.set({ pick: [...names].sort().join(",") });
    }
    function drawPicked(state) {
      const names = state.pick.split(",").filter(Boolean);
      const chosen = names.flatMap((name) => cells_of(name).filter((c) => !c.device || c.device === state.device).slice(0, 1));
      const section = document.getElementById("picked");
      section.hidden = !chosen.length;
      if (!chosen.length) return;
      const table = section.querySelector("table");
      const head = make("tr");
      head.append(make("td"));
      for (const cell of chosen) {
        const th = make("th");
        th.scope = "col";
        th.append(link(cell.name, "cells", `${cell.name}.html`), " ");
        const drop = make("button", "", "drop");
        drop.type = "button";
        drop.setAttribute("aria-label", `drop ${cell.name}`);
        drop.addEventListener("click", () => pick(cell.name, false));
        th.append(drop);
        head.append(th);
      }
      table.tHead.replaceChildren(head);
      const line = (title, values) => {
        const made = make("tr");
        const th = make("th", "", title);
        th.scope = "row";
        made.append(th, ...values.map((v) => { const td = make("td"); td.append(v); return td; }));
        return made;
      };
      const lines = [line("outcome", chosen.map((c) => spelt(data, c.outcome)))];
      data.names.forEach((name, i) => lines.push(line(name, chosen.map((c) => c.pins[i]))));
      data.checks.forEach(([check], i) => {
        const words = chosen.map((c) => data.letters[c.text[i]] || "");
        if (new Set(words).size > 1) lines.push(line(check, words.map((w) => (w ? spelt(data, w) : "not run"))));
      });
      table.tBodies[0].replaceChildren(...lines);
    }

    const LIST = new Set(["list", "q", "sort"]);
    function changed(keys, first) {
      const { state } = page;
      const say = asked(state);
      if (!first) limit = data.rows;
      const only = (some) => keys.every((key) => some.has(key));
      if (!only(new Set([...LIST, "outcome", "pick"]))) {
        if (!only(LIST)) outcomes(say, state);
        const totals = drawMatrix(state, say);
        document.getElementById("matrix-said").textContent = described(state, totals);
        if (!first) { why.textContent = reading; told = null; }  // it explained what is gone
      }
      clearTimeout(listing);
      if (!only(new Set(["pick"]))) {
        if (first || inView(list)) drawList(state, say);
        else listing = setTimeout(() => drawList(state, say));
      }
      else for (const tick of list.querySelectorAll("input")) tick.checked = state.pick.split(",").includes(tick.getAttribute("aria-label").slice(5));
      drawPicked(state);
    }
    /* `of level 4` for the key of a level; any other word is returned unchanged. */
    const numbered = (word) => {
      const words = data.levels[word] || "";
      return /^\d/.test(words) ? `of level ${words.split(":")[0]}` : word;
    };
    function described(state, totals) {
      const whole = state.for ? `for ${state.for}` : "how far each pair gets";
      const what = [state.kind ? `check ${state.kind}` : whole, state.family && `family ${state.family}`].filter(Boolean).join(", ");
      const stack = ["te", "torch", "python"].filter((k) => state[k]).map((k) => `${k === "te" ? "TE" : k} ${state[k]}`).join(", ") || "each series on its default stack";
      const counts = [...totals].filter(([w]) => w !== "no cell").map(([w, n]) => [numbered(w), n]).sort().map(([w, n]) => `${n} ${w}`).join(", ");
      return `Device class ${state.device}; ${stack}; ${what}: ${counts}.`;
    }
    function outcomes(say, state) {
      const words = [...new Set(cells.map((cell) => say(cell).word))].sort();
      if (state.outcome && !words.includes(state.outcome)) words.push(state.outcome);
      outcomeSelect.replaceChildren(new Option("any", ""), ...words.map((word) => new Option(word, word)));
      outcomeSelect.value = state.outcome;
    }

    for (const head of list.querySelectorAll("th[data-sort]")) {
      const button = make("button", "", head.textContent);
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const column = head.dataset.sort;
        page.set({ sort: page.state.sort === column ? `-${column}` : column });
      });
    }
    list.querySelector(".js").hidden = false;
    more.addEventListener("click", () => {
      const before = limit;
      limit += data.rows * 5;
      drawList(page.state, asked(page.state));
      const next = list.tBodies[0].rows[before];
      if (next) next.querySelector("a").focus();
    });
    matrix.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      const here = event.target.closest("td, th");
      if (!step || !here || event.altKey || event.ctrlKey || event.metaKey) return;
      let [r, c] = [here.parentNode.rowIndex, here.cellIndex];
      for (;;) {
        r += step[0]; c += step[1];
        const there = matrix.rows[r] && matrix.rows[r].cells[c];
        if (!there) return;
        const target = there.querySelector("a");
        if (target) { target.focus(); event.preventDefault(); return; }
      }
    });

    /* Explains a square when it is pointed at or focused; on touch screens, at the first tap. */
    const why = document.getElementById("why");
    const reading = why.textContent;
    let told = null;
    function tell(square) {
      const anchor = square && square.querySelector("a");
      if (!anchor || told === square) return;
      told = square;
      const name = decodeURIComponent(anchor.getAttribute("href").replace(/^cells\//, "").replace(/\.html$/, ""));
      const cell = cells_of(name).find((c) => c.device === page.state.device) || cells_of(name)[0];
      why.replaceChildren(link(name, "cells", `${name}.html`), `: ${cell && cell.says ? cell.says : "this pair has no result"}`);
    }
    for (const kind of ["mouseover", "focusin"]) matrix.addEventListener(kind, (event) => tell(event.target.closest("td")));
    matrix.addEventListener("click", (event) => {
      const square = event.target.closest("td");
      if (!square || !matchMedia("(hover: none)").matches || square.dataset.tapped) return;
      for (const other of matrix.querySelectorAll("[data-tapped]")) delete other.dataset.tapped;
      square.dataset.tapped = "1";
      told = null;
      tell(square);
      event.preventDefault();
    });

    /* On narrow screens: one series of megatron-core at a time. */
    const steps = document.querySelector(".steps");
    let step = 0;
    function showStep() {
      [...matrix.tBodies[0].rows].forEach((line, i) => line.classList.toggle("step", i === step));
      steps.querySelector("b").textContent = `megatron-core ${data.mcore[step] || ""}`;
      for (const button of steps.querySelectorAll("button")) {
        const next = step + Number(button.dataset.step);
        button.disabled = next < 0 || next >= data.mcore.length;
      }
    }
    for (const button of steps.querySelectorAll("button")) {
      button.addEventListener("click", () => { step += Number(button.dataset.step); showStep(); });
    }
    steps.hidden = false;
    document.body.classList.add("stepping");
    showStep();

    for (const word of data.outcomes) outcomeSelect.append(new Option(word, word));
    for (const word of Object.values(data.letters)) if (!data.outcomes.includes(word)) outcomeSelect.append(new Option(word, word));
    const page = controls(defaults, changed);
    changed(Object.keys(defaults), true);
  }

  function choose() {
    const data = JSON.parse(document.getElementById("data").textContent);
    const cells = data.cells.map(([name, device, outcome, values, restores, failed, unexpected, taken, use, conditions]) =>
      ({ name, device, outcome, values, restores, failed, unexpected, taken, use, conditions }));
    const symbols = { compatible: "✓", partial: "◐" };
    const more = document.getElementById("more");
    let limit = data.rows;
    /* Like the version specifier `==2.9.*`, or `==2.9.1` if a release is chosen. */
    const holds = (value, wanted) => value === wanted || value.startsWith(`${wanted}.`);
    const fits = (cell, wanted) => wanted.every(([i, value]) => holds(cell.values[i], value));
    const words = (wanted) => wanted.map(([i, value]) => `${data.labels[i]} ${value}`).join(" and ");

    function* sets(of, size, from = 0) {
      if (!size) { yield []; return; }
      for (let i = from; i <= of.length - size; i += 1) for (const rest of sets(of, size - 1, i + 1)) yield [of[i], ...rest];
    }
    /* The smallest sets of choices to drop so that a cell fits, each with the best such cell. */
    function inTheWay(wanted) {
      for (let size = 1; size <= wanted.length; size += 1) {
        const found = [];
        for (const dropped of sets(wanted, size)) {
          const kept = wanted.filter((one) => !dropped.includes(one));
          const cell = cells.find((c) => fits(c, kept));
          if (cell) found.push([dropped, cell]);
        }
        if (found.length) return found;
      }
      return [];
    }
    function item(cell, tag) {
      const made = make(tag);
      const head = make(tag === "li" ? "h2" : "p");
      const there = link(cell.name, "cells", `${cell.name}.html`);
      there.className = "name";
      head.append(there, " ", spelt({ symbols }, cell.outcome));
      const pins = make("p", "pinned");
      data.labels.forEach((label, i) => pins.append(i ? ", " : "", `${label} `, make("b", "", cell.values[i])));
      const under = cell.conditions ? `; ${cell.conditions} ${cell.conditions === 1 ? "works" : "work"} only under a condition` : "";
      const about = make("p", "dim", `restores ${cell.restores.join(", ")}; ${cell.failed} ${cell.failed === 1 ? "check fails" : "checks fail"}, ${cell.unexpected} undeclared${under}; device class ${cell.device}, ${cell.taken}`);
      const install = make("p");
      const file = link("constraints", "constraints", `${cell.name}.txt`);
      file.download = "";
      install.append(file, " ", make("code", "", cell.use));
      made.append(head, pins, about, install);
      return made;
    }
    function changed() {
      const wanted = data.axes.map((axis, i) => [i, page.state[axis]]).filter(([, value]) => value);
      const found = cells.filter((cell) => fits(cell, wanted));
      document.getElementById("choices").replaceChildren(...found.slice(0, limit).map((cell) => item(cell, "li")));
      more.hidden = found.length <= limit;
      const way = document.getElementById("in-the-way");
      way.replaceChildren();
      way.hidden = found.length > 0;
      const said = document.getElementById("choose-said");
      if (found.length) {
        const some = Math.min(limit, found.length);
        said.textContent = `${found.length} tested ${found.length === 1 ? "combination fits" : "combinations fit"}${some < found.length ? `, the best ${some} are shown` : ""}.`;
        return;
      }
      const blocking = inTheWay(wanted);
      said.textContent = `No tested combination fits ${words(wanted)}. Choices to drop: ${blocking.map(([dropped]) => words(dropped)).join("; or ") || "all"}.`;
      for (const [dropped, cell] of blocking) {
        const box = make("div", "way");
        box.append(make("p", "", `Without ${words(dropped)}, the best is:`), item(cell, "div"));
        way.append(box);
      }
    }
    more.addEventListener("click", () => { limit += data.rows * 5; changed(); });
    const defaults = Object.fromEntries(data.axes.map((axis) => [axis, ""]));
    const page = controls(defaults, () => { limit = data.rows; changed(); });
    changed();
  }

  /* Shows known errors: error_search.js finds them, in the same order as `explain --error`. */
  const MOST_IN_ADDRESS = 1500;
  function causes() {
    const form = document.getElementById("error-form");
    const field = form.elements.error;
    const found = document.getElementById("error-found");
    const said = document.getElementById("error-said");
    const hint = [...said.childNodes];
    let find = null;
    let waiting = 0;

    function item(match) {
      const { known, seen, sure } = match;
      const made = make("li");
      const head = make("h3");
      const there = link(known.first, "..", ...known.page.split("/"));
      there.className = "foreign";
      /* As in mcore_compat.analysis.error_answer: some messages of Python can come from any code. */
      const open = sure && known.stock && known.frames.length && !seen.frames.length;
      const where = open ? ` if it was raised in ${known.frames[0]}: ` : " ";
      there.textContent = sure ? known.first : known.title;
      head.append(make("span", sure ? "tag" : "tag bad", sure ? "known" : "near"), where, there);
      made.append(head, make("p", "dim foreign", sure ? known.title : `known cause: ${known.first}`));
      if (!sure && seen.frames.length && known.frames.length) {
        made.append(make("p", "", `but it was raised in ${known.frames[0]}, yours in ${seen.frames[0]}`));
      }
      const rest = make("ul", "plain lines");
      rest.append(...known.rest.map((line) => make("li", "foreign", line)));
      made.append(rest);
      return made;
    }
    function summary({ asked, sure, matches, strange }) {
      if (!asked) return "The text contains no error message and no traceback.";
      const others = strange.length ? ` Other errors in the text that are not known: ${strange.length}.` : "";
      if (sure) return `Known: ${matches.length}, best first.${others}`;
      return matches.length ? "Not known; the most similar known errors:" : "Not known, and no known error is similar.";
    }
    function show() {
      const text = field.value;
      if (!text.trim()) {
        said.replaceChildren(...hint);
        found.replaceChildren();
        return;
      }
      find ??= errorSearch.searchIn(JSON.parse(document.getElementById("data").textContent));
      const answer = find(text);
      said.textContent = summary(answer);
      found.replaceChildren(...answer.matches.map(item));
    }
    /* The URL holds a short text whole, of a long one only its first error. */
    function short(text) {
      if (text.length <= MOST_IN_ADDRESS) return text;
      const [first] = errorSearch.errors(text);
      return first ? [...first.types.slice(0, 1), first.messages[0]].join(": ").slice(0, MOST_IN_ADDRESS) : "";
    }
    function fromAddress() {
      const text = read().get("error") || "";
      if (text === short(field.value)) return;
      field.value = text;
      show();
    }
    function changed() {
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        keep({ error: short(field.value) });
        show();
      }, 150);
    }
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.querySelector(".clear").addEventListener("click", () => {
      field.value = "";
      field.focus();
      changed();
    });
    field.addEventListener("input", changed);
    addEventListener("popstate", fromAddress);
    addEventListener("hashchange", fromAddress);
    fromAddress();
  }

  document.addEventListener("DOMContentLoaded", () => {
    theme();
    const page = document.body.dataset.page;
    if (page === "index") index();
    if (page === "choose") choose();
    if (page === "causes") causes();
  });
})();

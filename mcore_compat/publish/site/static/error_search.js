/* Finds the known errors that are similar to an error message, a traceback or a log. Mirrors
   mcore_compat.analysis.error_text and error_search, function by function, in the same order; a
   test compares the results of both. It does not touch the page: site.js shows the matches. */
"use strict";
globalThis.errorSearch = (() => {
  const MOST_LINES = 40;
  const CUT = 600;
  const MOST_ERRORS = 100;
  const SHORT = 400;
  const SHOWN = 5;
  const NEAREST = 3;
  const BY_TEXT = 0.75;
  const BY_FRAMES = 0.6;
  const LEAST = 0.3;
  const OF_THE_QUESTION = 0.7;
  const OF_THE_KNOWN = 0.3;
  const OTHER_TYPE = 0.9;
  const TEXT_BESIDE_FRAMES = 0.4;
  const ELSEWHERE = 0.5;
  const ALIKE = 0.9;
  const OTHER_WORDS = 0.7;
  const MOST_NAMES = 0.8;
  const OTHER_NAMES = 0.75;
  const OTHER_PLACE = 0.7;
  const FRAMES = 60;

  const COLOURS = /\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)/g;
  const PREFIX = new RegExp(
    [
      "^(?:\\[(?:rank|default|worker|node|host)[^0-9\\]\\n]?[0-9]+\\]:? ?",
      "\\[[0-9]+,[0-9]+\\]<std(?:err|out)>: ?",
      "\\([A-Za-z_][A-Za-z0-9_.:-]*(?:\\([^)\\n]*\\))? pid=[0-9]+(?:, ip=[0-9.]+)?\\) ?",
      "\\[?[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?" +
        "(?:Z|[+-][0-9]{2}:?[0-9]{2})?\\]?(?: [-|])? ?" +
        "(?:\\[?(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\\]?(?: *[:|-])? ?)?",
      "[EWIF][0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]+ +[0-9]+ [A-Za-z0-9_./-]+:[0-9]+\\] ?",
      "[0-9]{1,4}: ",
      "[0-9]{1,3}(?:\\.[0-9]{1,3}){3}: ",
      "[A-Za-z0-9_.-]+ +\\| ",
      "E {3}",
      "> )",
    ].join("|"),
  );
  const FILE = /^[ \t]*File "/;
  const FRAME = /^[ \t|│]*File "([^"\n]{1,400})", line [0-9]+, in ([A-Za-z0-9_<>.]+)/;
  const OTHER_FRAME = /^[ \t|│]*(?:File )?([A-Za-z0-9_./~\\-]+\.py):[0-9]+(?::|,)? in ([A-Za-z0-9_<>.]+)/;
  const RAISED = /^((?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*(?:Error|Exception|Interrupt|Exit|Timeout|Failure))(:|$)[ \t]*([^\n]*)/;
  const ENDED = /^((?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Z][A-Za-z0-9_]*|AssertionError)(:|$)[ \t]*([^\n]*)/;
  const WITHIN = /\b([A-Za-z_][A-Za-z0-9_]*(?:Error|Exception)): ([^\n]+)/g;
  const COMPLAINT = /(?:^|[^A-Za-z_])(?:error|fatal):? ([^\n]+)/i;
  const HINTS = ["rror", "RROR", "atal", "ATAL", "Exception", "Interrupt", "Exit", "Timeout", "Failure", "Traceback", 'File "', ".py:"];
  const TRACEBACK = "Traceback (most recent call last)";
  const CHAINED = ["During handling of the above", "The above exception was"];
  const TYPES = /^[ \t]*(?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Z][A-Za-z0-9_]*(?:Error|Exception): /;
  const ALL_TYPES = /\b([A-Z][A-Za-z0-9_]*(?:Error|Exception)):/g;
  const PACKAGES = /(?:[A-Za-z]:)?[^ \t\n'":,;()<>[\]]*\/(?:site|dist)-packages\//g;
  const PATH = /(?:\/[^ \t\n'":,;()<>[\]/]+)*\/([^ \t\n'":,;()<>[\]/]+)/g;
  const ADDRESS = /\b0x[0-9a-fA-F]+/g;
  const TEMPORARY = /\b(?:tmp|mcore-compat-suite-)[A-Za-z0-9_]{6,}/g;
  const WORD = /[A-Za-z_][A-Za-z0-9_]*/g;
  const COUNTED = /(?:_[0-9]+)+$/;
  const NAME = /_|[0-9]|[^\n]{14}/;

  const once = (items) => [...new Set(items)];
  const trimmed = (text) => text.replace(/^[ \t]+/, "").replace(/[ \t]+$/, "");

  function words(message) {
    let text = message;
    for (let match = TYPES.exec(text); match; match = TYPES.exec(text)) text = text.slice(match[0].length);
    text = text.replace(PACKAGES, "").replace(PATH, " $1").replace(ADDRESS, " ").replace(TEMPORARY, " ");
    const found = (text.match(WORD) || []).map((word) => word.replace(COUNTED, "").toLowerCase());
    return once(found.filter((word) => /[^_]/.test(word)));
  }
  const typesIn = (message) => once([...message.matchAll(ALL_TYPES)].map((match) => match[1]));

  const ROOT = /^(?:site-packages|dist-packages|python3\.[0-9]+)$/;

  function frameKey(path, called) {
    if (path.startsWith("<")) return "";
    let parts = path.split(/[/\\]+/);
    if (parts.length === 1 && !path.endsWith(".py")) parts = path.split(".");
    parts = parts.slice(parts.findLastIndex((part) => ROOT.test(part)) + 1);
    const names = parts.map((part) => part.replace(/\.py$/, "")).filter((name) => name && name !== "__init__");
    return `${names.slice(-2).join(".")}:${called.slice(called.lastIndexOf(".") + 1)}`;
  }

  function errors(text) {
    const rows = lines(text);
    let every = distinct(raised(rows));
    if (!every.length) every = distinct(mentioned(rows));
    if (!every.length && rows.length > 0 && rows.length <= MOST_LINES) {
      const told = rows.map((row) => COMPLAINT.exec(row)).filter(Boolean).map((match) => match[1]);
      every = [{ types: [], messages: [...joined(rows), ...told], frames: [] }];
    }
    if (every.length > 2 * MOST_ERRORS) every = [...every.slice(0, MOST_ERRORS), ...every.slice(-MOST_ERRORS)];
    return every;
  }
  function lines(text) {
    let rows = text.replaceAll("\r\n", "\n").replaceAll("\r", "\n").split("\n");
    if (rows.length > SHORT) rows = nearHints(rows);
    rows = rows.map(bare);
    while (rows.length && !rows[0]) rows.shift();
    while (rows.length && !rows[rows.length - 1]) rows.pop();
    return rows;
  }
  function nearHints(rows) {
    const kept = [];
    let last = -MOST_LINES;
    rows.forEach((row, place) => {
      if (HINTS.some((hint) => row.includes(hint))) last = place;
      if (place < last + MOST_LINES) kept.push(row);
      else if (kept.length && kept[kept.length - 1]) kept.push("");
    });
    return kept;
  }
  function bare(row) {
    let text = row.replace(COLOURS, "");
    for (let turn = 0; turn < 4; turn += 1) {
      const match = PREFIX.exec(text);
      if (!match) break;
      text = text.slice(match[0].length);
    }
    return text.replace(/[ \t]+$/, "");
  }
  function* unbroken(rows) {
    let place = 0;
    while (place < rows.length) {
      let row = rows[place];
      place += 1;
      if (FILE.test(row)) {
        for (let more = 0; more < 3; more += 1) {
          const whole = row + rows.slice(place, place + more).join("");
          if (FRAME.test(whole)) {
            row = whole;
            place += more;
            break;
          }
        }
      }
      yield row;
    }
  }
  function frameOf(row) {
    const match = FRAME.exec(row) || OTHER_FRAME.exec(row);
    return match ? frameKey(match[1], match[2]) : null;
  }
  function* raised(rows) {
    let frames = [];
    let before = [];
    let open = [];
    let kind = "";
    for (const row of [...unbroken(rows), ""]) {
      const started = row.includes(TRACEBACK);
      const frame = started ? null : frameOf(row);
      const ended = started || frame !== null ? null : (frames.length ? ENDED : RAISED).exec(row);
      const closes = started || frame !== null || ended || !row || CHAINED.some((words_) => row.startsWith(words_));
      if (kind && closes) {
        yield error(kind, open, before);
        kind = "";
        open = [];
      }
      if (started) frames = row.includes("(RANK") ? [...before] : [];
      else if (frame !== null) frames = frame ? [...frames, frame] : frames;
      else if (ended && (ended[2] || frames.length)) [kind, open, before, frames] = [ended[1], [ended[3]], frames, []];
      else if (kind && open.length < MOST_LINES) open.push(row);
    }
  }
  function error(kind, rows, frames) {
    const messages = joined(rows);
    const types = once([kind.slice(kind.lastIndexOf(".") + 1), ...typesIn(messages[0])]);
    return { types, messages, frames: once([...frames].reverse()) };
  }
  function joined(rows) {
    const some = rows.slice(0, MOST_LINES).map(trimmed);
    const whole = some.join(" ");
    const cut = whole.slice(0, CUT);
    const start = whole.length >= CUT ? cut.slice(0, Math.max(cut.lastIndexOf(" "), 0)) : whole;
    const first = some.slice(0, some[0].endsWith(":") ? 2 : 1).join(" ");
    return once([first, start, whole, some.join("")]);
  }
  function* mentioned(rows) {
    const within = rows.flatMap((row) => [...row.matchAll(WITHIN)]);
    for (const match of within) yield { types: once([match[1], ...typesIn(match[2])]), messages: [match[2]], frames: [] };
    if (!within.length && rows.length > 1) {
      for (const row of rows) {
        const complaint = COMPLAINT.exec(row);
        if (complaint) yield { types: [], messages: [complaint[1]], frames: [] };
      }
    }
  }
  function distinct(found) {
    const kept = new Map();
    for (const one of found) {
      const key = JSON.stringify([one.types, one.frames, words(one.messages[one.messages.length - 1])]);
      if (!kept.has(key)) kept.set(key, one);
    }
    return [...kept.values()];
  }

  /* `data` has the form of ErrorSearch.data. */
  function searchIn(data) {
    const split = (text) => (text ? text.split(" ") : []);
    const known = data.known.map(([types, said, frames, title, stock, first, rest, page], place) => (
      { place, types: split(types), words: split(said), frames: split(frames), title, stock: stock === 1, first, rest, page }
    ));
    const weights = new Map(Object.entries(data.weights));
    const weight = (said) => said.reduce((sum, word) => sum + (weights.get(word) || (NAME.test(word) ? data.newName : data.newWord)), 0);
    const withWord = new Map();
    for (const one of known) {
      for (const word of one.words) {
        if (!withWord.has(word)) withWord.set(word, []);
        withWord.get(word).push(one.place);
      }
    }
    const total = known.map((one) => weight(one.words));

    function texts(seen) {
      const found = new Map();
      for (const message of seen.messages) {
        const asked = words(message);
        const whole = weight(asked);
        const names = asked.filter((word) => NAME.test(word));
        const shared = new Map();
        for (const word of asked) {
          for (const place of withWord.get(word) || []) shared.set(place, (shared.get(place) || 0) + weights.get(word));
        }
        for (const [place, sum] of shared) {
          const one = known[place];
          let score = OF_THE_QUESTION * (sum / whole) + OF_THE_KNOWN * (sum / total[place]);
          const same = asked.length === one.words.length && asked.every((word) => one.words.includes(word));
          if (one.stock && !same) score *= OTHER_WORDS;
          else {
            const there = names.filter((word) => one.words.includes(word));
            if (weight(there) < MOST_NAMES * weight(names)) score *= OTHER_NAMES;
          }
          found.set(place, Math.max(found.get(place) || 0, score));
        }
      }
      return found;
    }
    function withFrames(seen) {
      const asked = new Set(seen.frames);
      const found = new Map();
      for (const one of known) {
        const each = one.frames.map((_, n) => Math.floor(FRAMES / (n + 1)));
        const shared = each.reduce((sum, w, n) => sum + (asked.has(one.frames[n]) ? w : 0), 0);
        if (shared) {
          const share = shared / each.reduce((sum, w) => sum + w, 0);
          found.set(one.place, one.frames[0] === seen.frames[0] ? share : share * ELSEWHERE);
        }
      }
      return found;
    }
    function like(seen) {
      const byText = texts(seen);
      const framed = seen.frames.length ? withFrames(seen) : new Map();
      const matches = [];
      for (const place of once([...byText.keys(), ...framed.keys()]).sort((a, b) => a - b)) {
        const one = known[place];
        let text = byText.get(place) || 0;
        if (seen.types.length && one.types.length && !seen.types.some((type) => one.types.includes(type))) text *= OTHER_TYPE;
        let score = text;
        let sure = text >= BY_TEXT;
        if (seen.frames.length && one.frames.length) {
          score = TEXT_BESIDE_FRAMES * text + (1 - TEXT_BESIDE_FRAMES) * (framed.get(place) || 0);
          sure = score >= BY_FRAMES && text >= BY_FRAMES / 2;
          score = Math.max(score, OTHER_PLACE * text);
        }
        if (score >= LEAST) matches.push({ known: one, seen, score, sure });
      }
      return matches.sort((a, b) => b.sure - a.sure || b.score - a.score);
    }
    const inOrder = (matches) => matches.sort((a, b) => b.score - a.score || a.known.place - b.known.place);
    const bestOf = (matches) => {
      const best = new Map();
      for (const match of matches) {
        const there = best.get(match.known.place);
        if (!there || there.score < match.score) best.set(match.known.place, match);
      }
      return inOrder([...best.values()]);
    };

    return (text) => {
      const certain = [];
      const near = [];
      const strange = [];
      const every = errors(text).filter((one) => one.frames.length || one.messages.some((message) => words(message).length));
      for (const seen of every) {
        const matches = like(seen);
        const sure = matches.filter((match) => match.sure && match.score >= ALIKE * matches[0].score);
        if (!sure.length) {
          strange.push(seen);
          near.push(...matches.slice(0, NEAREST));
        }
        certain.push(...sure);
      }
      if (certain.length) return { asked: every.length, sure: true, matches: bestOf(certain).slice(0, SHOWN), strange };
      return { asked: every.length, sure: false, matches: bestOf(near).slice(0, NEAREST), strange: [] };
    };
  }

  return { errors, words, searchIn };
})();

// The features of a dictionary: a table of all of them, of which only the rows in sight exist, and a view of one. Data comes
// from script files beside the page, which call `features.receive`; all text goes into the page as text nodes.
const features = (() => {
  const ROW = 28, SPARE = 8, KEPT = 24; // pixels of a row; rows beyond those in sight; files that are kept
  const TELLS = "tells"; // the column of concepts
  const BLANKS = { " ": "·", "\t": "→", "\n": "↵", "\r": "␍" };
  const KINDS = { f4: Float32Array, i2: Int16Array, i4: Int32Array, u1: Uint8Array };
  const explorers = new Map();

  function unpack({ type, shape, data }) {
    const text = atob(data), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return { shape, values: new KINDS[type](bytes.buffer) };
  }

  function unpackAll(content) {
    if (!content || typeof content !== "object" || Array.isArray(content)) return content;
    if (typeof content.data === "string" && content.type in KINDS) return unpack(content);
    return Object.fromEntries(Object.entries(content).map(([key, value]) => [key, unpackAll(value)]));
  }

  const row = ({ shape, values }, i) => values.subarray(i * shape[1], (i + 1) * shape[1]);

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key in element && key !== "style") element[key] = value; else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  function number(x) {
    if (!Number.isFinite(x)) return "–";
    const size = Math.abs(x);
    if (size && size < 1e-3) return x.toExponential(1);
    return x.toPrecision(3).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "").replace(/^(-?)0\./, "$1.");
  }

  // A token with its blanks to be seen.
  function visible(text) {
    const parts = [];
    let plain = "";
    for (const c of text) {
      if (c in BLANKS) { parts.push(plain, make("i", {}, BLANKS[c])); plain = ""; } else plain += c;
    }
    return [...parts, plain].filter((part) => part !== "");
  }

  const shown = (text) => [...text].map((c) => BLANKS[c] ?? c).join("");
  const quoted = (text) => make("code", { title: JSON.stringify(text) }, ...visible(text));

  function tint(share) {
    const full = share > 0 ? [86, 160, 220] : [226, 110, 80], size = Math.min(1, Math.abs(share));
    return `rgb(${full.map((channel) => Math.round(255 + size * (channel - 255)))})`;
  }

  function load(name, file) {
    return new Promise((done, fail) => {
      const script = make("script", { src: `features/${name}/${file}.js` });
      script.onload = () => { script.remove(); done(); };
      script.onerror = () => { script.remove(); fail(script.src); };
      document.head.append(script);
    });
  }

  class Explorer {
    constructor(element) {
      this.element = element;
      this.name = element.dataset.name;
      this.files = new Map();
      this.sorting = { key: "", down: false };
      explorers.set(this.name, this);
      element.append(make("div", { className: "note" }, "Reading the features …"));
      load(this.name, "index").then(() => this.begin(), () => this.missing(`features/${this.name}/index.js`));
    }

    missing(file) {
      this.element.replaceChildren(make("div", { className: "note" }, `This part reads ${file}, which has to lie beside this page.`));
    }

    receive(file, content) {
      if (file === "index") this.index = unpackAll(content); else this.files.set(file, unpackAll(content));
    }

    begin() {
      const { columns, flags, lists, firesOn, concepts } = this.index;
      this.n = firesOn.shape[0];
      this.titles = Object.keys(columns);
      const likely = Object.entries(lists)[0];
      this.words = [["fires on", firesOn], ...(likely ? [likely] : [])];
      this.concept = concepts ? (i) => concepts.names[concepts.ids.values[i]] ?? "" : null;
      if (concepts) this.keys = this.byConcept(concepts);
      this.lower = this.index.names.map((text) => `${text}\u0000${shown(text)}`.toLowerCase());
      this.order = Int32Array.from({ length: this.n }, (_, i) => i);
      this.found = this.order;
      this.search = make("input", { type: "search", placeholder: `number, or a token that it fires on or makes likely${concepts ? ", or a concept" : ""}`, "aria-label": "Search features" });
      this.choice = make("select", { "aria-label": "Which features" }, make("option", { value: "" }, "all features"),
        ...Object.keys(flags).flatMap((word) => [make("option", { value: `+${word}` }, word), make("option", { value: `-${word}` }, `not ${word}`)]));
      this.count = make("span", { className: "count" });
      this.grid = `grid-template-columns: 3.1rem ${this.words.map(() => "minmax(0, 1fr)").join(" ")} ${concepts ? "minmax(0, 1.9fr)" : ""} ${this.titles.map(() => "3.7rem").join(" ")}`;
      const narrowest = `min-width: ${4 + 5 * this.words.length + (concepts ? 9.5 : 0) + 4.2 * this.titles.length}rem`;
      this.head = make("div", { className: "head", style: `${this.grid}; ${narrowest}` });
      this.rows = make("div", { className: "rows", tabIndex: 0, style: narrowest }, make("div"));
      this.one = make("div", { className: "one" });
      const list = make("div", { className: "list" }, this.head, this.rows);
      this.element.replaceChildren(make("div", { className: "bar" }, this.search, this.choice, this.count), make("div", { className: "sides" }, list, this.one));
      this.search.oninput = this.choice.onchange = () => this.filter();
      this.rows.onscroll = () => this.draw();
      this.rows.onkeydown = (event) => this.step(event);
      window.addEventListener("resize", () => this.draw());
      window.addEventListener("hashchange", () => this.follow());
      this.sort(this.titles[0] ?? "", true);
      if (!this.follow()) this.choose(this.found[0] ?? 0);
      this.element.dataset.ready = Math.round(performance.now());
    }

    // Features in order of the concept that each tells best, and of one concept the best first.
    byConcept({ names, ids, values }) {
      const rank = new Map([...names.keys()].sort((a, b) => (names[a] < names[b] ? -1 : 1)).map((id, at) => [id, at]));
      return Float64Array.from(ids.values, (id, i) => (id < 0 ? NaN : rank.get(id) + (1 - values.values[i]) / 2));
    }

    sort(key, down = this.sorting.key === key ? !this.sorting.down : key !== "" && key !== TELLS) {
      this.sorting = { key, down };
      const of = key === TELLS ? this.keys : key ? this.index.columns[key].values : null, sign = down ? -1 : 1;
      this.order = Int32Array.from({ length: this.n }, (_, i) => i);
      if (of) {
        const value = (i) => (Number.isNaN(of[i]) ? Infinity : sign * of[i]); // what is not known is last
        const keys = Float64Array.from(this.order, value);
        this.order.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : a - b));
      } else if (down) this.order.reverse();
      const button = (title, name, word) => make("button", {
        className: word ? "word" : "", title: `Sort by ${title}`, onclick: () => this.sort(name),
      }, title + (this.sorting.key === name ? (this.sorting.down ? " ↓" : " ↑") : ""));
      const plain = this.words.map(([title]) => make("button", { className: "word", disabled: true }, title));
      if (this.concept) plain.push(button(TELLS, TELLS, true));
      this.head.replaceChildren(button("#", "", true), ...plain, ...this.titles.map((title) => button(title, title, false)));
      this.filter();
    }

    filter() {
      const query = this.search.value.trim().toLowerCase() || (this.search.value ? this.search.value : "");
      const [sign, word] = [this.choice.value[0], this.choice.value.slice(1)];
      const flag = word ? this.index.flags[word].values : null, wanted = sign === "+" ? 1 : 0;
      let passes = () => true;
      if (query) {
        const exact = /^#?\d+$/.test(query) ? Number(query.replace("#", "")) : -1;
        const hits = Uint8Array.from(this.lower, (text) => text.includes(query));
        const lists = [this.index.firesOn, ...Object.values(this.index.lists)];
        const said = (i) => this.concept && this.concept(i).toLowerCase().includes(query);
        passes = (i) => i === exact || said(i) || lists.some((list) => row(list, i).some((id) => id >= 0 && hits[id]));
        this.exact = exact;
      }
      this.found = this.order.filter((i) => (!flag || flag[i] === wanted) && passes(i));
      if (query && this.exact >= 0 && this.found.includes(this.exact)) { // a number asks for that feature first
        this.found = Int32Array.from([this.exact, ...this.found.filter((i) => i !== this.exact)]);
      }
      this.count.textContent = `${this.found.length.toLocaleString("en")} of ${this.n.toLocaleString("en")}`;
      this.rows.firstChild.style.height = `${this.found.length * ROW}px`;
      this.rows.scrollTop = 0;
      this.draw();
    }

    draw() {
      const first = Math.max(0, Math.floor(this.rows.scrollTop / ROW) - SPARE);
      const last = Math.min(this.found.length, Math.ceil((this.rows.scrollTop + this.rows.clientHeight) / ROW) + SPARE);
      const made = [];
      for (let at = first; at < last; at++) made.push(this.line(at));
      this.rows.firstChild.replaceChildren(...made);
    }

    line(at) {
      const i = this.found[at], texts = (list) => [...row(list, i)].filter((id) => id >= 0).flatMap((id) => [...visible(this.index.names[id]), "  "]);
      const quiet = this.index.firesOn.values[i * this.index.firesOn.shape[1]] < 0;
      return make("div", {
        className: `row${i === this.chosen ? " chosen" : ""}${quiet ? " quiet" : ""}`, style: `${this.grid}; top: ${at * ROW}px`, onclick: () => { this.choose(i); this.rows.focus({ preventScroll: true }); },
      }, make("span", { className: "word" }, String(i)),
        ...this.words.map(([, list]) => make("span", { className: "word token" }, ...texts(list))),
        ...(this.concept ? [make("span", { className: "word", title: this.concept(i) }, this.concept(i))] : []),
        ...this.titles.map((title) => make("span", {}, number(this.index.columns[title].values[i]))));
    }

    step(event) {
      const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15 }[event.key];
      if (!by || !this.found.length) return;
      event.preventDefault();
      this.move(by);
    }

    move(by) {
      const at = Math.max(0, Math.min(this.found.length - 1, this.found.indexOf(this.chosen) + by));
      if (!this.found.length) return;
      this.choose(this.found[at]);
      this.reveal(at);
    }

    reveal(at) {
      const top = at * ROW, seen = this.rows.clientHeight;
      if (at >= 0 && top < this.rows.scrollTop) this.rows.scrollTop = top;
      if (top + ROW > this.rows.scrollTop + seen) this.rows.scrollTop = top + ROW - seen;
    }

    // The feature that the address names, "#features/<name>/<number>".
    follow() {
      const [kind, name, i] = decodeURIComponent(location.hash.slice(1)).split("/");
      if (kind !== "features" || name !== this.name || !(Number(i) >= 0 && Number(i) < this.n)) return false;
      if (Number(i) !== this.chosen) this.choose(Number(i));
      this.reveal(this.found.indexOf(this.chosen));
      return true;
    }

    address(i) { return `#features/${this.name}/${i}`; }

    choose(i) {
      this.chosen = i;
      if (this.element.dataset.ready) history.replaceState(null, "", this.address(i));
      this.draw();
      const file = String(Math.floor(i / this.index.perFile));
      const show = () => { if (this.chosen === i) this.one.replaceChildren(...this.view(i, this.files.get(file))); };
      if (this.files.has(file)) return show();
      return load(this.name, file).then(() => {
        for (const old of this.files.keys()) if (this.files.size > KEPT && old !== file) this.files.delete(old);
        show();
      }, () => this.one.replaceChildren(make("div", { className: "note" }, `features/${this.name}/${file}.js has to lie beside this page; it is missing.`)));
    }

    view(i, data) {
      const at = i % this.index.perFile, { columns, flags } = this.index;
      const words = Object.keys(flags).filter((word) => flags[word].values[i]);
      const steps = make("span", { className: "steps" },
        make("button", { onclick: () => this.move(-1), title: "the one before in the table" }, "↑"),
        make("button", { onclick: () => this.move(1), title: "the next in the table" }, "↓"));
      const title = make("h3", {}, make("a", { href: this.address(i) }, `Feature ${i}`), ...words.map((word) => make("span", { className: "flag" }, word)), steps);
      const facts = make("div", { className: "facts" }, ...this.titles.map((name) => make("span", {}, `${name} `, make("b", {}, number(columns[name].values[i])))));
      const lists = Object.entries(data.tokens).map(([name, of]) => this.said(name, of, at));
      return [title, facts, ...this.told(data, at), make("div", { className: "pairs" }, ...lists.filter(Boolean)), ...this.bars(data, at), ...this.examples(data, at), ...this.near(data, at)];
    }

    said(name, { ids, values }, at) {
      const own = [...row(ids, at)].map((id, k) => [id, row(values, at)[k]]).filter(([id, value]) => id >= 0 && Number.isFinite(value));
      if (!own.length) return null;
      const largest = Math.max(...own.map(([, value]) => Math.abs(value))) || 1;
      const lines = own.flatMap(([id, value]) => [quoted(this.index.names[id]), make("span", {
        style: `--share: ${(100 * Math.abs(value)) / largest}%; --fill: ${value < 0 ? "#f6d3c8" : "#cfe5f4"}`,
      }, (value > 0 ? "+" : "") + number(value))]);
      return make("section", {}, make("h4", {}, name), make("div", { className: "said" }, ...lines));
    }

    told({ concepts }, at) {
      if (!concepts) return [];
      const own = [...row(concepts.ids, at)].map((id, k) => [id, row(concepts.values, at)[k]]).filter(([id]) => id >= 0);
      const links = own.map(([id, score]) => make("span", { style: `--share: ${Math.max(0, 200 * score - 100)}%` }, `${this.index.concepts.names[id]} `, make("b", {}, number(score))));
      return links.length ? [make("h4", {}, "Tells ", make("small", {}, "concepts that it tells best alone: AUROC, .5 by chance")), make("div", { className: "tells" }, ...links)] : [];
    }

    bars(data, at) {
      const heights = row(data.histogram, at), edges = this.index.edges.values, total = heights.reduce((a, b) => a + b, 0);
      if (!total) return [make("h4", {}, "It never fired on this text")];
      const first = heights.findIndex((n) => n), last = heights.length - [...heights].reverse().findIndex((n) => n);
      const width = 540 / Math.max(last - first, 6), tallest = Math.max(...heights), parts = [];
      const draw = (tag, attributes, ...inside) => {
        const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
        for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
        element.append(...inside);
        parts.push(element);
      };
      for (let k = first; k < last; k++) {
        const height = heights[k] && Math.max(1, (68 * heights[k]) / tallest), x = (k - first) * width;
        const name = document.createElementNS("http://www.w3.org/2000/svg", "title");
        name.textContent = `${number(edges[k])} to ${number(edges[k + 1])}: ${heights[k].toLocaleString("en")} tokens`;
        draw("rect", { x, y: 70 - height, width: Math.max(1, width - 1), height }, name);
      }
      draw("line", { x1: 0, x2: (last - first) * width, y1: 70.5, y2: 70.5 });
      const every = Math.max(1, Math.ceil((last - first) / 6));
      for (let k = first; k <= last; k += every) draw("text", { x: (k - first) * width, y: 84, "text-anchor": k === first ? "start" : "middle" }, number(edges[k]));
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", "0 0 560 92");
      svg.append(...parts);
      return [make("h4", {}, "Activations ", make("small", {}, `${total.toLocaleString("en")} tokens in which it fires, by size, on a logarithmic scale`)), svg];
    }

    examples(data, at) {
      const blocks = [], full = data.full.values[at], bounds = row(data.bounds, at);
      const place = Object.fromEntries(["strongest", "quantiles"].map((name, k) => [name, this.index.place[k]]));
      for (const [name, title, note] of [["strongest", "Strongest examples", "at most one of a window"], ["quantiles", "Examples at quantiles", "of a sample of all tokens in which it fires, the strongest first"]]) {
        const { tokens, values, there } = data[name], [, n, length] = tokens.shape, lines = [];
        for (let e = 0; e < n; e++) {
          if (!there.values[at * n + e]) continue;
          const from = (at * n + e) * length, spans = [];
          for (let s = 0; s < length; s++) {
            const id = tokens.values[from + s], share = values.values[from + s] / this.index.full;
            if (id < 0) continue;
            const text = this.index.names[id], own = s === place[name];
            spans.push(make("span", { className: own ? "own" : "", title: `${JSON.stringify(text)}  ${number(share * full)}`, style: share ? `background: ${tint(share)}` : "" }, ...visible(text)));
          }
          const value = number((values.values[from + place[name]] / this.index.full) * full);
          const share = name === "quantiles" ? `${Math.round((100 * (e + 0.5)) / n)}%  ` : "";
          lines.push(make("div", { className: "snippet" }, make("b", { title: share ? `from ${number(bounds[e])} to ${number(bounds[e + 1])}` : "" }, share, value), make("div", {}, ...spans)));
        }
        if (name === "quantiles") lines.reverse();
        if (lines.length) blocks.push(make("h4", {}, `${title} `, make("small", {}, note)), ...lines);
      }
      return blocks;
    }

    near(data, at) {
      const { ids, values, overlap } = data.neighbours, links = [];
      row(ids, at).forEach((id, k) => {
        if (id < 0) return;
        const on = [...row(this.index.firesOn, id)].filter((token) => token >= 0).slice(0, 1).flatMap((token) => [" ", quoted(this.index.names[token])]);
        links.push(make("a", { href: this.address(id), onclick: (event) => { event.preventDefault(); this.choose(id); this.one.scrollTop = 0; } },
          `${id}`, ...on, ` cosine ${number(row(values, at)[k])}, together ${Math.round(100 * row(overlap, at)[k])}%`));
      });
      return links.length ? [make("h4", {}, "Nearest features ", make("small", {}, "cosine of their decoder rows; how often the rarer of the two fires together with the other")), make("div", { className: "near" }, ...links)] : [];
    }
  }

  document.querySelectorAll(".features[data-name]").forEach((element) => new Explorer(element));
  return { receive: (name, file, content) => explorers.get(name)?.receive(file, content), explorers };
})();

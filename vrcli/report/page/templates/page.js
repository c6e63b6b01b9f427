"use strict";
/* Sorting, filtering, run details on demand, and charts drawn when they come into view. Text from the data is set as
   text (textContent), or escaped where Plotly takes it as markup. */
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const data = (id) => JSON.parse(document.getElementById(id).textContent);
  const make = (tag, text, name) => {
    const found = document.createElement(tag);
    if (text !== undefined) found.textContent = text;
    if (name) found.className = name;
    return found;
  };

  // --- tables -------------------------------------------------------------------------------------------------------
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v !== undefined ? Number(cell.dataset.v) : cell.textContent.trim();
  };
  const missing = (key) => key === "" || key === "-" || key === "NaN";
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  function sort(header) {
    const table = header.closest("table");
    const down = header.getAttribute("aria-sort") === "ascending";
    all("th[aria-sort]", table).forEach((th) => th.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = all("tbody > tr:not(.detail)", table).map((row) => [keyOf(row, header.cellIndex), row]);
    rows.sort(([a], [b]) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b); // what has no value stands last, both ways
      return down ? compare(b, a) : compare(a, b);
    });
    table.tBodies[0].append(...rows.flatMap(([, row]) => (row.detail ? [row, row.detail] : [row])));
  }
  all("button.sort").forEach((button) => button.addEventListener("click", () => sort(button.closest("th"))));

  const runRows = all("#runs-table tbody > tr");
  const texts = new Map();
  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());
    return texts.get(row);
  };
  one("#filter").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of runRows) {
      row.hidden = !words.every((word) => textOf(row).includes(word));
      if (row.detail) row.detail.hidden = row.hidden;
      count += !row.hidden;
    }
    const runs = `${runRows.length} run${runRows.length === 1 ? "" : "s"}`;
    one("#count").textContent = words.length ? `${count} of ${runs}` : runs;
  });

  // --- one run in full ----------------------------------------------------------------------------------------------
  let details;
  const written = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value));
  function list(title, values) {
    const part = make("div");
    const items = make("dl");
    for (const [name, value] of Object.entries(values)) {
      if (value === null || value === "") continue;
      if (value && typeof value === "object" && !Array.isArray(value)) {
        for (const [inner, text] of Object.entries(value)) items.append(make("dt", inner), make("dd", written(text)));
      } else items.append(make("dt", name), make("dd", Array.isArray(value) ? value.join(", ") : written(value)));
    }
    part.append(make("h4", title), items);
    return items.children.length ? part : "";
  }
  function detail(row) {
    details ??= data("details");
    const run = details[row.dataset.run];
    const [line, cell, inside, parts] = [make("tr", undefined, "detail"), make("td"), make("div", undefined, "inside"), make("div", undefined, "parts")];
    cell.colSpan = row.cells.length;
    inside.append(make("strong", run.title));
    if (run.error) inside.append(make("p", run.error, "error"));
    if (run.command) inside.append(make("h4", "repeat it with"), make("code", run.command, "command"));
    if (run.curves.length) {
      const plot = make("div", undefined, "plot");
      inside.append(plot);
      blocks.push({ draw: () => drawRun(plot, run) });
      library().then(() => drawRun(plot, run), () => plot.remove());
    }
    for (const [name, values] of Object.entries(run.settings)) parts.append(list(name, values));
    parts.append(list("results", run.results), list("provenance", run.provenance));
    inside.append(parts);
    cell.append(inside);
    line.append(cell);
    return line;
  }
  one("#runs-table").addEventListener("click", (event) => {
    const button = event.target.closest("td.more button");
    if (!button) return;
    const row = button.closest("tr");
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    if (open) row.after((row.detail = detail(row)));
    else {
      row.detail.remove();
      row.detail = undefined;
    }
  });

  // --- charts -------------------------------------------------------------------------------------------------------
  const palette = data("palette");
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const themes = {
    light: { ink: "#1b1f24", grid: "#e3e7eb", axis: "#8a929b", paper: "#ffffff" },
    dark: { ink: "#e4e8ed", grid: "#2b3039", axis: "#6d7682", paper: "#14171c" },
  };
  let theme = scheme.matches ? themes.dark : themes.light;
  const colourOf = (place) => palette.lines[place][theme === themes.dark ? "dark" : "light"];
  const dashOf = (place) => palette.lines[place].dash;
  const faded = (colour) => colour + "2e";
  // Plotly reads a little markup in names; this is none.
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (value, digits = 4) => (value === null ? "" : String(Number(value.toPrecision(digits))));

  let loading;
  function library() {
    loading ??= (async () => {
      const text = one("#library").textContent.trim();
      const packed = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
      document.head.append(make("script", await new Response(stream).text()));
      return Plotly;
    })();
    return loading;
  }

  const settings = { displaylogo: false, responsive: true, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]], toImageButtonOptions: { format: "svg" } };
  function layout(x, y, extra = {}) {
    const axis = { gridcolor: theme.grid, linecolor: theme.axis, zeroline: false, automargin: true, tickformat: "~g" };
    return {
      margin: { l: 52, r: 12, t: 14, b: 42 }, showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: theme.ink, size: 12, family: getComputedStyle(document.body).fontFamily },
      hoverlabel: { bgcolor: theme.paper, bordercolor: theme.axis, font: { color: theme.ink, size: 12 }, namelength: 40 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: theme.axis, activecolor: theme.ink },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
      xaxis: { ...axis, ...x }, yaxis: { ...axis, ...y },
      // Marks on the upper edge: runs that diverged have no place on the axis of values.
      yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
      ...extra,
    };
  }

  /* Numbers at a logarithmic axis, at most so many: powers of ten and, where there is room, their multiples; within a
     decade round steps. Plotly's own overprint where the range is short. */
  function logTicks([low, high], room) {
    const decades = high - low, found = [];
    const subs = [[1, 2, 5], [1, 3], [1]].find((own) => own.length * decades <= room) ?? [1];
    const every = subs.length > 1 ? 1 : Math.max(1, Math.ceil(decades / room));
    for (let power = Math.floor(low); power <= high; power++) {
      if (power % every === 0) found.push(...subs.map((sub) => sub * 10 ** power));
    }
    const inside = found.filter((value) => Math.log10(value) >= low - 1e-9 && Math.log10(value) <= high + 1e-9);
    if (inside.length > 2 || decades > 1.5) return inside;
    const [from, to] = [10 ** low, 10 ** high], power = 10 ** Math.floor(Math.log10((to - from) / room));
    const step = power * [1, 2, 5, 10].find((times) => (to - from) / (times * power) <= room);
    const first = Math.ceil(from / step - 1e-9), last = Math.floor(to / step + 1e-9);
    return [...Array(Math.max(0, last - first + 1)).keys()].map((i) => (first + i) * step);
  }
  const tickText = (value) => {
    if (value >= 0.999e-3 && value < 1e5) return String(Number(value.toPrecision(6)));
    const [mantissa, power] = value.toExponential(3).split("e");
    return `${Number(mantissa)}e${Number(power)}`;
  };
  /* Sets the numbers of logarithmic axes for the range that is shown, now and after every zoom. */
  function setTicks(plot) {
    const change = {};
    for (const [name, size] of [["xaxis", 54], ["yaxis", 28]]) {
      const axis = plot._fullLayout[name];
      if (axis.type !== "log") continue;
      const values = logTicks([Math.min(...axis.range), Math.max(...axis.range)], Math.max(2, Math.floor(axis._length / size)));
      if (String(values) === String(plot.layout[name].tickvals)) continue;
      Object.assign(change, { [`${name}.tickmode`]: "array", [`${name}.tickvals`]: values, [`${name}.ticktext`]: values.map(tickText) });
    }
    if (Object.keys(change).length) Plotly.relayout(plot, change);
  }
  function drawn(plot, ...what) {
    Plotly.react(plot, ...what).then(() => {
      if (!plot.watched) plot.on("plotly_relayout", () => setTicks(plot));
      plot.watched = true;
      setTicks(plot);
    });
  }

  /* The outline of a band, one closed piece per run of points without gaps. */
  function outline(x, low, high) {
    const [xs, ys] = [[], []];
    for (let i = 0; i < x.length; ) {
      if (low[i] === null || high[i] === null) { i++; continue; }
      let end = i;
      while (end < x.length && low[end] !== null && high[end] !== null) end++;
      const piece = [...Array(end - i).keys()].map((k) => i + k);
      const back = piece.slice().reverse();
      xs.push(...piece.map((k) => x[k]), ...back.map((k) => x[k]), null);
      ys.push(...piece.map((k) => high[k]), ...back.map((k) => low[k]), null);
      i = end;
    }
    return [xs, ys];
  }

  /* The traces of one line: its band, the line (thin where runs have ended), and the runs that diverged. */
  function envelope(found, axis, name, place, { log, percent }) {
    const colour = colourOf(place);
    const scale = percent ? 100 : 1;
    const scaled = (values) => values.map((v) => (v === null ? null : v * scale));
    const x = found[axis], centre = scaled(found.c), low = scaled(found.lo), high = scaled(found.hi);
    const alive = (i) => (Array.isArray(found.n) ? found.n[i] : found.n);
    const most = Array.isArray(found.n) ? Math.max(...found.n) : found.n;
    const whole = (i) => i >= 0 && i < x.length && alive(i) === most;
    const text = centre.map((v, i) => `${short(v)}${percent ? " %" : ""}${high.length && high[i] !== null ? ` ± ${short(high[i] - v, 2)}` : ""} (n = ${alive(i)})`);
    const common = { x, name, customdata: text, hovertemplate: "%{customdata}", mode: "lines", line: { color: colour, width: 1.8, dash: dashOf(place) } };
    const traces = [];
    if (low.length) {
      const least = Math.min(...centre.filter((v) => v > 0));
      const edge = log ? low.map((v) => (v === null ? null : Math.max(v, least / 3))) : low; // no logarithm below 0
      const [xs, ys] = outline(x, edge, high);
      traces.push({ x: xs, y: ys, fill: "toself", mode: "lines", line: { width: 0 }, fillcolor: faded(colour), hoverinfo: "skip" });
    }
    const near = (i) => whole(i) || whole(i - 1) || whole(i + 1);
    traces.push({ ...common, y: centre.map((v, i) => (near(i) ? v : null)) });
    if (!centre.every((_, i) => whole(i))) {
      traces.push({ ...common, y: centre.map((v, i) => (whole(i) ? null : v)), line: { ...common.line, width: 0.8 } });
    }
    const diverged = found.diverged.map((at) => at[axis]).filter((v) => v !== undefined);
    if (diverged.length) {
      traces.push({ x: diverged, y: diverged.map(() => 1), yaxis: "y2", name, mode: "markers", cliponaxis: false, marker: { color: colour, size: 8 }, hovertemplate: "a run stopped being finite" });
    }
    return traces;
  }

  const axisTitles = { x: "step", e: "epoch", t: "seconds (mean over runs)" };
  class Legend {
    constructor(figure, changed) {
      this.keys = all(".key", figure);
      this.keys.forEach((key) => key.addEventListener("click", () => {
        key.setAttribute("aria-pressed", String(!this.shows(key)));
        changed();
      }));
      one(".all", figure)?.addEventListener("click", () => {
        const show = !this.keys.every((key) => this.shows(key));
        this.keys.forEach((key) => key.setAttribute("aria-pressed", String(show)));
        changed();
      });
      this.paint();
    }
    shows(key) { return key.getAttribute("aria-pressed") === "true"; }
    paint() {
      for (const key of this.keys) {
        const line = one("i", key);
        line.style.borderTopColor = colourOf(Number(key.dataset.colour));
        line.style.borderTopStyle = { solid: "solid", dash: "dashed", dot: "dotted", dashdot: "dashed" }[dashOf(Number(key.dataset.colour))];
      }
    }
    /* What is shown: place, name and colour of each line. */
    get shown() {
      return this.keys.flatMap((key, i) => (this.shows(key) ? [{ i, colour: Number(key.dataset.colour), name: escaped(key.childNodes[1].textContent.trim()) }] : []));
    }
  }

  class Curves {
    constructor(figure) {
      this.data = data(figure.dataset.source);
      this.panels = all(".panel", figure);
      this.legend = new Legend(figure, () => this.draw());
      for (const panel of this.panels) {
        const metric = one(".metric", panel), log = one(".log", panel);
        const usual = () => { log.checked = this.about(panel).log; };
        usual();
        metric.addEventListener("change", () => { usual(); this.panel(panel); });
        log.addEventListener("change", () => this.panel(panel));
        one(".axis", panel).addEventListener("change", () => this.panel(panel));
      }
    }
    about(panel) { return this.data[panel.dataset.side].find((m) => m.key === one(".metric", panel).value); }
    draw() { this.legend.paint(); this.panels.forEach((panel) => this.panel(panel)); }
    panel(panel) {
      const about = this.about(panel), axis = one(".axis", panel).value, log = one(".log", panel).checked;
      const shown = this.legend.shown.filter(({ i }) => this.data.series[i][about.key]);
      const lines = shown.map(({ i }) => this.data.series[i][about.key]);
      const traces = shown.flatMap(({ name, colour }, k) => (lines[k][axis].length ? envelope(lines[k], axis, name, colour, { log, percent: about.percent }) : []));
      const title = about.title.replace(/ \(.*\)$/, "") + (about.percent ? " (%)" : "");
      drawn(one(".plot", panel), traces, layout(
        { title: { text: axisTitles[axis], standoff: 6 }, unifiedhovertitle: { text: `${axisTitles[axis]} %{x}` } },
        { title: { text: escaped(title), standoff: 6 }, type: log ? "log" : "linear" },
        { hovermode: shown.length > 6 ? "closest" : "x unified", uirevision: about.key + axis + log },
      ), settings);
      const fullest = lines.reduce((most, line) => (line.of - line.x.length > most.of - most.x.length ? line : most), { of: 0, x: [] });
      one(".drawn", panel).textContent = fullest.of > fullest.x.length
        ? `drawn from ${fullest.x.length.toLocaleString("en")} of ${fullest.of.toLocaleString("en")} points a line; extremes kept` : "";
    }
  }

  class Sweep {
    constructor(figure) {
      this.data = data(figure.dataset.source);
      this.panels = all(".panel", figure);
      this.legend = new Legend(figure, () => this.draw());
    }
    draw() {
      this.legend.paint();
      this.panels.forEach((panel) => this.panel(panel, panel.dataset.parameter));
    }
    panel(panel, parameter) {
      const axis = this.data.parameters.find((p) => p.name === parameter);
      const traces = this.legend.shown.flatMap(({ i, name, colour }) => this.traces(this.data.searches[i], parameter, name, colourOf(colour), dashOf(colour)));
      drawn(one(".plot", panel), traces, layout(
        { title: { text: escaped(parameter || "trial"), standoff: 6 }, tickformat: axis?.category ? "" : "~g", type: axis?.category ? "category" : axis?.log ? "log" : "linear" },
        { title: { text: this.data.objective, standoff: 6 }, type: this.data.log ? "log" : "linear" },
        { hovermode: "closest", uirevision: "same" },
      ), settings);
    }
    traces(search, parameter, name, colour, dash) {
      const places = search.k.map((_, i) => i).filter((i) => !parameter || parameter in search.params[i]);
      const x = (i) => (parameter ? search.params[i][parameter] : search.k[i]);
      const text = (i) => `trial ${search.k[i]}: ${search.v[i] === null ? search.state[i] : short(search.v[i])}<br>${escaped(search.text[i]).replace(/ /g, "<br>")}`;
      const good = places.filter((i) => search.v[i] !== null), bad = places.filter((i) => search.v[i] === null);
      const points = { name, mode: "markers", hovertemplate: "%{customdata}", cliponaxis: false };
      const traces = [
        { ...points, x: good.map(x), y: good.map((i) => search.v[i]), customdata: good.map(text), marker: { color: colour, size: parameter ? 7 : 5, opacity: parameter ? 0.75 : 0.4, symbol: good.map((i) => (search.state[i] === "pruned" ? "circle-open" : "circle")) } },
        { ...points, x: bad.map(x), y: bad.map(() => 1), yaxis: "y2", customdata: bad.map(text), marker: { color: colour, size: 9, symbol: "x-thin", line: { color: colour, width: 2 } } },
      ];
      if (!parameter) traces.unshift({ x: search.k, y: search.best, name, mode: "lines", line: { color: colour, width: 2, shape: "hv", dash }, hovertemplate: "best so far %{y:.4~g}" });
      return traces;
    }
  }

  function drawRun(plot, run) {
    const values = run.curves.flatMap((c) => c.y).filter((v) => v !== null);
    const log = Math.min(...values) > 0 && Math.max(...values) > 20 * Math.min(...values);
    const traces = run.curves.map((c, i) => ({ x: c.x, y: c.y, name: escaped(c.title), mode: "lines", line: { color: palette.pair[i], width: i ? 2 : 1.2 }, hovertemplate: "%{y:.4~g}" }));
    drawn(plot, traces, layout({ title: { text: "step", standoff: 6 } }, { type: log ? "log" : "linear" }, { showlegend: true, hovermode: "x unified", legend: { orientation: "h", y: 1.02, yanchor: "bottom" } }), settings);
  }

  // --- when they are drawn ------------------------------------------------------------------------------------------
  const blocks = [];
  const redraw = () => blocks.forEach((block) => block.draw());
  function show(figure) {
    seen.unobserve(figure);
    const block = new (figure.dataset.chart === "curves" ? Curves : Sweep)(figure);
    blocks.push(block);
    block.draw();
    performance.mark("charts");
  }
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting || target.started) continue;
      target.started = true;
      library().then(() => show(target), () => {
        all(".plot", target).forEach((plot) => (plot.textContent = "The charts need a browser of 2023 or later."));
      });
    }
  }, { rootMargin: "300px" });
  all("[data-chart]").forEach((figure) => seen.observe(figure));
  scheme.addEventListener("change", () => { theme = scheme.matches ? themes.dark : themes.light; redraw(); });
  addEventListener("beforeprint", () => {
    theme = themes.light;
    if (typeof Plotly !== "undefined") all("[data-chart]").filter((f) => !f.started).forEach((f) => { f.started = true; show(f); });
    redraw();
  });
  addEventListener("afterprint", () => { theme = scheme.matches ? themes.dark : themes.light; redraw(); });
  performance.mark("interactive");
  // Unpacked while the reader looks at the tables, so that charts need not wait for it.
  if (one("[data-chart]")) addEventListener("load", () => setTimeout(library));
})();

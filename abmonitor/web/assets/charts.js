// Draws the charts of an experiment from its series document by uPlot, one function per chart.
// The page uses it, and reports hold it; it asks for nothing and keeps nothing.
"use strict";

const abmonitorCharts = (() => {
  const HEIGHT = 230;
  const UNKNOWN = "\u2013";
  const COLOURS = 6;
  const NAMES = { rap: "RAP", profit_per_prediction: "profit per prediction", accuracy: "accuracy", precision: "precision" };

  // --- words: the same digits as the server's (abmonitor/web/words.py) ----------------------------

  // What lies just between two numbers becomes the even one, and what is rounded to nothing has no sign.
  function written(value, digits) {
    const size = Math.abs(value);
    const between = /^50*$/.test(size.toFixed(100).split(".")[1]?.slice(digits));
    let text = size.toFixed(digits);
    if (between && /[13579]$/.test(text)) text = (text - 10 ** -digits).toFixed(digits);
    const [whole, part] = text.split(".");
    const sign = value < 0 && /[1-9]/.test(text) ? "-" : "";
    return sign + whole.replace(/\B(?=(\d{3})+$)/g, ",") + (part ? `.${part}` : "");
  }

  const fixed = (digits) => (value) => (value == null ? UNKNOWN : written(value, digits));
  const percent = (value) => (value == null ? UNKNOWN : `${written(value * 100, 1)}%`);
  const signed = (write) => (value) => (value > 0 && /[1-9]/.test(write(value)) ? "+" : "") + write(value);
  const ms = (value) => (value == null ? UNKNOWN : `${written(value, 1)} ms`);
  const points = (value) => (value == null ? UNKNOWN : `${signed(fixed(2))(value)} %`);
  const isShare = (metric) => metric !== "profit_per_prediction";
  const ofMetric = (metric) => (isShare(metric) ? percent : fixed(3));
  const tickOf = (metric) => (isShare(metric) ? ticked("%", 100) : ticked(""));

  function moment(at) {
    return at == null ? UNKNOWN : new Date(at).toISOString().slice(0, 19).replace("T", " ");
  }

  // --- colours, from the style sheet ----------------------------------------------------------------

  function colour(element, name) {
    const probe = document.createElement("i");
    probe.className = name;
    element.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  function faint(found, alpha) {
    const [r, g, b] = found.match(/[\d.]+/g);
    return `rgba(${r}, ${g}, ${b}, ${alpha})`;
  }

  // The control is grey, treatments have the colours 1 to 5 in their order.
  function classOf(series, variant) {
    const place = Object.keys(series.labelled.differences).indexOf(variant);
    return place < 0 ? "v0" : `v${1 + (place % (COLOURS - 1))}`;
  }

  function variantsOf(series, found) {
    const compared = Object.keys(series.labelled.differences);
    const rest = Object.keys(found).filter((name) => !compared.includes(name));
    return [...rest, ...compared].filter((name) => name in found);
  }

  // --- lines: what a chart consists of --------------------------------------------------------------

  const line = (name, cls, values, more = {}) => ({ name, cls, values, dash: null, width: 2, ...more });

  // A line with the band of its bounds; they have no place of their own in the legend.
  function banded(name, cls, found, more = {}) {
    return line(name, cls, found.value || found.estimate, { lower: found.lower, upper: found.upper, ...more });
  }

  const constant = (name, cls, value, at, more) =>
    line(name, cls, at.map(() => value), { width: 1.5, still: true, ...more });

  function known(lines) {
    return lines.some((one) => !one.still && one.values.some((value) => value != null));
  }

  // From which values to which: the first bounds are wide, and would press everything else flat.
  // Where all is nothing, the scale is `flat` high.
  function extent(lines, at, floor, flat = 1) {
    const found = floor == null ? [] : [floor];
    const take = (values, from) => {
      if (values) found.push(...values.slice(Math.floor(from * at.length)).filter((value) => value != null));
    };
    const few = at.length < 8;
    for (const one of lines) {
      take(one.values, few || one.still ? 0 : 0.15);
      take(one.lower, few ? 0 : 0.35);
      take(one.upper, few ? 0 : 0.35);
    }
    if (!found.length) return [0, 1];
    const low = Math.min(...found);
    const high = Math.max(...found);
    if (low === high && low === floor) return [low, low + flat];
    const gap = (high - low || Math.abs(high) || flat) * 0.06;
    return [floor === low ? low : low - gap, high + gap];
  }

  // --- one uPlot ------------------------------------------------------------------------------------

  function laidOut(element, spec) {
    const series = [{}];
    const pointed = [false]; // lines that the cursor points at: no bounds, and none that stand still
    const data = [spec.at];
    const bands = [];
    for (const one of spec.lines) {
      const stroke = colour(element, one.cls);
      const place = data.length;
      series.push({
        stroke,
        width: one.width,
        dash: one.dash || undefined,
        paths: spec.stepped || one.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
        fill: spec.filled && !one.still ? faint(stroke, 0.12) : undefined,
        points: { show: spec.at.length < 3, size: 6, fill: stroke },
        spanGaps: false,
      });
      data.push(one.values);
      pointed.push(!one.still);
      if (!one.lower || !one.upper) continue;
      const bound = { stroke: faint(stroke, 0.35), width: 1, points: { show: false } };
      series.push(bound, bound);
      pointed.push(false, false);
      data.push(one.upper, one.lower);
      bands.push({ series: [place + 1, place + 2], fill: faint(stroke, 0.14) });
    }
    return { series, data, bands, pointed };
  }

  const GRAVE = /roll|harm|fail|brake/;
  const UNMARKED = new Set(["accepted"]); // it comes with every rollback

  const marked = (spec) => (spec.decisions || []).filter((one) => !UNMARKED.has(one.action));

  // How far time goes: to the newest decision, since labels are final only later; but no chart is mostly empty.
  function reach(first, last, spec) {
    const most = last + (last - first) / 3;
    const newest = Math.max(last, ...marked(spec).map((one) => one.at).filter((at) => at <= most));
    return newest > last ? newest + (newest - first) / 50 : last;
  }

  function marks(element, state) {
    return {
      draw: [
        (u) => {
          const { ctx, bbox } = u;
          const ratio = devicePixelRatio || 1;
          const shades = { bad: colour(element, "c-bad"), quiet: colour(element, "c-quiet") };
          let free = -Infinity;
          ctx.save();
          ctx.font = `${11 * ratio}px system-ui, sans-serif`;
          ctx.textBaseline = "top";
          ctx.textAlign = "left";
          ctx.lineWidth = ratio;
          ctx.setLineDash([2 * ratio, 3 * ratio]);
          for (const one of marked(state.spec)) {
            const x = Math.round(u.valToPos(one.at, "x", true));
            if (x < bbox.left || x > bbox.left + bbox.width) continue;
            const told = one.action.replaceAll("_", " ") + (state.spec.whose ? ` ${one.treatment}` : "");
            const wide = ctx.measureText(told).width;
            ctx.strokeStyle = ctx.fillStyle = GRAVE.test(one.action) ? shades.bad : shades.quiet;
            ctx.beginPath();
            ctx.moveTo(x, bbox.top);
            ctx.lineTo(x, bbox.top + bbox.height);
            ctx.stroke();
            const left = x + wide + 4 * ratio > bbox.left + bbox.width ? x - wide - 4 * ratio : x + 4 * ratio;
            if (left < free) continue;
            ctx.fillText(told, left, bbox.top + 2 * ratio);
            free = left + wide + 8 * ratio;
          }
          ctx.restore();
        },
      ],
    };
  }

  function legend(element, spec) {
    const list = document.createElement("ul");
    list.className = "legend";
    const when = document.createElement("li");
    when.className = "when";
    const outputs = spec.lines.filter((one) => !one.unnamed).map((one) => {
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      const name = document.createElement("span");
      const value = document.createElement("span");
      swatch.className = `swatch ${one.cls}${one.dash ? (one.dash[0] < 4 ? " dots" : " dash") : ""}`;
      name.className = "name";
      name.textContent = one.name;
      value.className = "value";
      item.append(swatch, name, " ", value);
      list.append(item);
      return value;
    });
    list.append(when);
    list.setAttribute("aria-hidden", "true"); // the table beside the chart is for screen readers
    return { list, when, outputs };
  }

  function tell(parts, spec, index) {
    const last = spec.at.length - 1;
    const place = index == null ? last : index;
    parts.when.textContent = spec.where(spec.at[place], index == null);
    spec.lines.filter((one) => !one.unnamed).forEach((one, n) => {
      const bounds = one.lower && one.lower[place] != null ? ` [${spec.write(one.lower[place])}, ${spec.write(one.upper[place])}]` : "";
      parts.outputs[n].textContent = index == null && spec.where !== atTime ? "" : spec.write(one.values[place]) + bounds;
    });
  }

  function options(element, state, laid, width) {
    const { spec, parts } = state;
    const ink = colour(element, "c-quiet");
    const grid = { stroke: colour(element, "c-line"), width: 1 };
    const font = "12px system-ui, sans-serif";
    const axis = { stroke: ink, grid, ticks: { ...grid, size: 4 }, font };
    const time = spec.where === atTime;
    return {
      width,
      height: HEIGHT,
      ms: 1,
      tzDate: (at) => uPlot.tzDate(new Date(at), "Etc/UTC"),
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, y: false, points: { size: (u, place) => (laid.pointed[place] ? 7 : 0) }, ...(time ? { sync: { key: "time", setSeries: false } } : {}) },
      scales: {
        x: time ? { time: true, range: (u, first, last) => [first, reach(first, last, state.spec)] } : { time: false, distr: 3, range: () => [state.spec.at[0], state.spec.at[state.spec.at.length - 1]] },
        y: { range: () => extent(state.spec.lines, state.spec.at, state.spec.floor, state.spec.flat) },
      },
      axes: [
        time
          ? { ...axis, space: 70, values: clock }
          : { ...axis, space: 40, grid: { ...grid, show: false }, values: (u, ticks) => ticks.map((tick) => (tick == null ? "" : `${+tick.toPrecision(3)}`)) },
        { ...axis, size: 62, values: (u, ticks) => ticks.map((tick) => state.spec.tick(tick, ticks)) },
      ],
      series: laid.series,
      bands: laid.bands,
      hooks: { ...marks(element, state), setCursor: [(u) => tell(parts, state.spec, u.cursor.idx)] },
    };
  }

  // Hours and minutes; the date where the day is another one than that of the tick before.
  function clock(u, ticks) {
    let day = "";
    return ticks.map((tick) => {
      const [date, hour] = moment(tick).split(" ");
      const first = date !== day;
      day = date;
      return first ? `${hour.slice(0, 5)}\n${date.slice(5)}` : hour.slice(0, 5);
    });
  }

  function atTime(at, latest) {
    return `${latest ? "latest: " : "at "}${moment(at)} UTC`;
  }

  // Ticks have as many digits as say them exactly.
  function ticked(unit, scale = 1) {
    return (tick, ticks) => {
      const step = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) * scale : 1;
      const exact = (digits) => ticks.every((one) => Math.abs(one * scale - (one * scale).toFixed(digits)) < step / 100);
      const digits = [0, 1, 2, 3, 4, 5].find(exact) ?? 6;
      return (tick * scale).toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1") + unit;
    };
  }

  // --- the charts -----------------------------------------------------------------------------------

  const CHARTS = {
    // The headline metric of each variant, with the band of its confidence sequence.
    labelled(series) {
      const { at, variants, metric } = series.labelled;
      return {
        at,
        lines: variantsOf(series, variants).map((name) => banded(name, classOf(series, name), variants[name])),
        write: ofMetric(metric),
        tick: tickOf(metric),
        where: atTime,
        decisions: series.decisions,
        label: `${NAMES[metric] || metric} of each variant over time`,
      };
    },

    // Treatments minus control, against nothing and against what is tolerated.
    difference(series) {
      const { at, differences, metric } = series.labelled;
      const lines = Object.keys(differences).map((name) => banded(name, classOf(series, name), differences[name]));
      const margins = new Set(Object.values(differences).map((one) => one.margin).filter((margin) => margin != null));
      for (const margin of margins) lines.push(constant("not tolerated beyond", "c-bad", margin, at, { dash: [6, 4] }));
      lines.push(constant("no difference", "c-quiet", 0, at, { dash: [2, 3], unnamed: true }));
      return {
        at,
        lines,
        write: signed(ofMetric(metric)),
        tick: tickOf(metric),
        where: atTime,
        decisions: series.decisions,
        label: `${NAMES[metric] || metric}: treatment minus control over time`,
      };
    },

    // Net business value of one treatment, and the three parts that it is the sum of.
    value(series, treatment) {
      const found = series.labelled.net_business_value[treatment];
      if (!found) return null;
      const { at } = series.labelled;
      const own = classOf(series, treatment);
      const other = (cls) => (cls === own ? "v1" : cls); // no part looks like the sum
      return {
        at,
        lines: [
          banded("net business value", own, found),
          line("accuracy", other("v2"), found.accuracy, { dash: [8, 4], width: 1.5 }),
          line("latency", other("v4"), found.latency, { dash: [4, 4], width: 1.5 }),
          line("errors", other("v3"), found.errors, { dash: [2, 3], width: 1.5 }),
          constant("nothing", "c-quiet", 0, at, { dash: [2, 3], unnamed: true }),
        ],
        write: points,
        tick: ticked(" %"),
        where: atTime,
        decisions: series.decisions.filter((one) => one.treatment === treatment),
        label: `Net business value of ${treatment} and its parts over time`,
      };
    },

    // The 50th, 95th and 99th percentile of every variant.
    latency(series) {
      const { at, variants } = series.arrival;
      const kinds = [["p99", null, 2], ["p95", [6, 4], 1.5], ["p50", [2, 3], 1.5]];
      const lines = variantsOf(series, variants).flatMap((name) =>
        kinds.map(([kind, dash, width]) => line(`${name} ${kind}`, classOf(series, name), variants[name][kind], { dash, width })),
      );
      return { at, lines, write: ms, tick: ticked(" ms"), where: atTime, floor: 0, decisions: series.decisions, label: "Latency percentiles over time" };
    },

    // How latencies of the last hour are spread: bins of equal ratio.
    distribution(series) {
      const { edges_ms: found, variants } = series.latency;
      const edges = found.map((edge, n) => (edge > 0 ? edge : found[n + 1] / 2)); // nothing has no place on a scale of ratios
      const closed = (share) => (share.length ? [...share, share[share.length - 1]] : share);
      return {
        at: edges,
        lines: variantsOf(series, variants).map((name) => line(name, classOf(series, name), closed(variants[name].share))),
        write: percent,
        tick: ticked("%", 100),
        where: (at, latest) => (latest ? "" : `from ${ms(at)}`),
        floor: 0,
        stepped: true,
        filled: true,
        label: "Distribution of latency over the last hour",
      };
    },

    // The share of the traffic that each variant got, and was to get.
    split(series) {
      const { at, variants } = series.arrival;
      const lines = variantsOf(series, variants).flatMap((name) => [
        line(name, classOf(series, name), variants[name].share),
        line(`${name} intended`, classOf(series, name), variants[name].intended, { dash: [6, 4], width: 1.5, stepped: true }),
      ]);
      return { at, lines, write: percent, tick: ticked("%", 100), where: atTime, floor: 0, decisions: series.decisions, label: "Share of the traffic over time" };
    },

    // Failed requests of each variant.
    errors(series) {
      const { at, variants } = series.arrival;
      const lines = variantsOf(series, variants).map((name) => line(name, classOf(series, name), variants[name].error_rate));
      return { at, lines, write: percent, tick: ticked("%", 100), where: atTime, floor: 0, flat: 0.01, decisions: series.decisions, label: "Error rate over time" };
    },
  };

  // --- drawing --------------------------------------------------------------------------------------

  // Draw the chart `name` into `element`; gives what updates it, and what takes it away again.
  function draw(element, name, given) {
    const state = { series: given, spec: null, parts: null }; // what hooks look at is always the latest
    let drawn = null;
    let shape = "";
    const width = () => Math.max(220, Math.floor(element.clientWidth));

    function clear() {
      if (drawn) drawn.destroy();
      drawn = null;
      shape = "";
      element.replaceChildren();
    }

    function nothing() {
      clear();
      element.removeAttribute("role");
      element.removeAttribute("aria-label");
      const told = document.createElement("p");
      told.className = "empty";
      told.textContent = element.dataset.empty || "Nothing is known yet.";
      element.append(told);
    }

    function render(anew = false) {
      const spec = CHARTS[name](state.series, element.dataset.treatment);
      if (spec) spec.whose = name !== "value" && Object.keys(state.series.labelled.differences).length > 1;
      state.spec = spec;
      if (!spec || !spec.at.length || !known(spec.lines)) return void nothing();
      element.setAttribute("role", "img");
      element.setAttribute("aria-label", `${spec.label}; the numbers are in the table below it`);
      const laid = laidOut(element, spec);
      const now = JSON.stringify(spec.lines.map((one) => [one.name, one.cls, !!one.lower]));
      if (drawn && now === shape && !anew) {
        drawn.setData(laid.data);
      } else {
        clear();
        shape = now;
        state.parts = legend(element, spec);
        const box = document.createElement("div");
        element.append(box, state.parts.list);
        drawn = new uPlot(options(element, state, laid, width()), laid.data, box);
      }
      tell(state.parts, spec, drawn.cursor.idx);
    }

    const resized = new ResizeObserver(() => {
      if (drawn && drawn.width !== width()) drawn.setSize({ width: width(), height: HEIGHT });
    });
    resized.observe(element);
    render();
    return {
      update(newer) {
        state.series = newer;
        render();
      },
      restyle() {
        render(true);
      },
      destroy() {
        resized.disconnect();
        clear();
      },
    };
  }

  // Draw every element below `root` that has `data-chart`; gives the drawn ones by their elements.
  function drawAll(root, series) {
    const drawn = new Map();
    for (const element of root.querySelectorAll("[data-chart]")) {
      drawn.set(element, draw(element, element.dataset.chart, series));
    }
    return drawn;
  }

  return { draw, drawAll, names: Object.keys(CHARTS) };
})();

"use strict";
// Asks for the jobs every few seconds and draws them anew. Text goes in as text, never as markup;
// charts alone are markup, made by the server.

const EVERY = 3000, FEW = 8, ROWS = 24, SILENT = 60;

function make(tag, kind, ...inside) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.append(...inside.filter(part => part !== null && part !== undefined));
  return element;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "?";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days ${hours % 24} h`;
}

const ago = (time, now) => time === null ? "never" : `${duration(Math.max(0, now - time))} ago`;

function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= 10 ** (digits - 1)) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
}

function tile(name, value, note) {
  return make("dl", "tile", make("dt", "", name), make("dd", "", value), note ? make("dd", "", note) : null);
}

function trainingTiles(training, job) {
  const saved = training.checkpoint;
  const perSecond = training.seconds_per_step ? 1 / training.seconds_per_step : null;
  const shares = [];
  if (training.mfu !== null) shares.push(`MFU ${(100 * training.mfu).toFixed(1)} %`);
  if (training.data_wait !== null) shares.push(`${(100 * training.data_wait).toFixed(1)} % waiting for data`);
  return [
    tile("step", training.step.toLocaleString("en"), `of ${training.steps.toLocaleString("en")}, ${training.stage ?? "no stage yet"}`),
    tile("loss", number(training.loss), `gradient norm ${number(training.grad_norm, 3)}`),
    tile("samples a second", number(training.samples_per_second), `${number(perSecond, 3)} steps, ${number(training.tokens_per_second)} tokens`),
    tile("time left", job.runs ? duration(training.seconds_left) : "–", `${duration(training.stage_seconds_left)} of this stage`),
    tile("last checkpoint", saved ? `step ${saved.step.toLocaleString("en")}` : "none", saved ? `${saved.stage}, ${ago(saved.time, job.read_at)}` : ""),
    tile("learning rate", number(training.lr, 3), shares.join(", ")),
  ];
}

function corpusTiles(corpus, job) {
  const share = corpus.candidates ? `${(100 * corpus.kept / corpus.candidates).toFixed(1)} % of ` : "of ";
  return [
    tile("kept", corpus.kept.toLocaleString("en"), `${corpus.kept_as}, ${share}${corpus.candidates.toLocaleString("en")} candidates`),
    tile("phase", corpus.complete ? "complete" : corpus.phase ?? "none yet", `${corpus.phases} have begun`),
    tile("units", corpus.phase_units_done.toLocaleString("en"), `of ${corpus.phase_units.toLocaleString("en")} of ${corpus.phase ?? "it"}, ${corpus.units_done.toLocaleString("en")} in all`),
    tile("units a second", number(corpus.units_per_second, 3), `last one ${ago(corpus.last_unit_at, job.read_at)}`),
    tile("time left", corpus.complete ? "–" : duration(corpus.seconds_left), "of this phase"),
  ];
}

function stages(training) {
  const row = make("div", "stages");
  const at = training.plan.findIndex(([name]) => name === training.stage);
  training.plan.forEach(([name, steps], place) => {
    const published = training.published.includes(name);
    const done = published ? steps : place === at ? training.step : 0;
    const fill = make("i");
    fill.style.width = `${100 * done / Math.max(1, steps)}%`;
    const said = published ? "published" : `${done.toLocaleString("en")} of ${steps.toLocaleString("en")}`;
    const part = make("div", `stage${published ? " published" : ""}`, make("div", "bar", fill), make("b", "", name), said);
    part.style.flexGrow = Math.max(1, Math.sqrt(steps));
    row.append(part);
  });
  return row;
}

const TITLES = { funnel: "Funnel", loss: "Loss", objectives: "Loss by objective", rate: "Rate" };

function charts(job) {
  const grid = make("div", "charts");
  for (const [name, markup] of Object.entries(job.charts)) {
    const drawing = make("div");
    drawing.innerHTML = markup;
    grid.append(make("section", name === "funnel" ? "wide" : "", make("h3", "", TITLES[name]), drawing));
  }
  return grid;
}

// Under the pointer, tells the values of a chart's curves at the nearest point. It outlives the
// chart, which is drawn anew while the pointer rests.
function tell(event) {
  const hint = document.getElementById("hint");
  const chart = event.target.closest?.("svg[data-axes]");
  hint.hidden = !chart;
  if (!chart) return;
  const [left, right, low, high, bottom, top, least, most] = chart.dataset.axes.split(" ").map(Number);
  const box = chart.getBoundingClientRect();
  const x = (event.clientX - box.left) * chart.viewBox.baseVal.width / box.width;
  const curves = [...chart.querySelectorAll("polyline")].map(line => {
    const points = line.getAttribute("points").split(" ").map(pair => pair.split(",").map(Number));
    const nearest = points.reduce((best, point) => Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best);
    return { name: line.dataset.name, colour: line.getAttribute("stroke"), nearest };
  });
  const place = curves.map(curve => curve.nearest[0]).reduce((best, at) => Math.abs(at - x) < Math.abs(best - x) ? at : best);
  const step = Math.round(low + (place - left) / (right - left) * (high - low));
  const rows = curves.filter(curve => Math.abs(curve.nearest[0] - place) < 3).map(curve => {
    const name = make("span", "", curve.name);
    name.style.color = curve.colour;
    return make("div", "", name, make("b", "", number(least + (curve.nearest[1] - bottom) / (top - bottom) * (most - least))));
  });
  hint.replaceChildren(make("div", "what", `step ${step.toLocaleString("en")}`), ...rows);
  hint.style.left = `${Math.min(event.clientX + 14, innerWidth - hint.offsetWidth - 8)}px`;
  hint.style.top = `${event.clientY + 14}px`;
}

function attempts(job) {
  const row = make("div", "tries");
  for (const each of job.attempts.slice(-40)) {
    const took = (each.ended ?? job.read_at) - each.began;
    const runs = each.cause === null && job.runs;
    const bar = make("span", each.cause ?? (runs ? "runs" : "failure"), String(each.number));
    bar.title = `attempt ${each.number}: ${each.cause ?? (runs ? "runs" : "no word")}, ${duration(took)}`;
    bar.style.flexGrow = Math.max(1, took);
    row.append(bar);
  }
  return make("section", "", make("h3", "", "Attempts"), row);
}

const STATES = { bad: "ended badly or without a word", silent: "silent", runs: "running", good: "ended well" };

function stateOf(node, job) {
  if (node.code !== null) return node.code === 0 || node.code === 75 ? "good" : "bad";
  if (!job.runs) return "bad";
  return node.sign_at !== null && job.read_at - node.sign_at < SILENT ? "runs" : "silent";
}

function nodes(job) {
  const section = make("section", "nodes", make("h3", "", "Machines"));
  const rank = { bad: 0, silent: 1, runs: 2, good: 3 };
  let told = [...job.nodes].sort((a, b) => rank[stateOf(a, job)] - rank[stateOf(b, job)] || a.node - b.node);
  if (told.length > FEW) {
    const dots = make("div", "dots");
    for (const node of job.nodes) {
      const dot = make("i", stateOf(node, job));
      dot.title = `${node.node} ${node.host}: ${node.cause ?? stateOf(node, job)}, ${ago(node.sign_at, job.read_at)}`;
      dots.append(dot);
    }
    const counts = Object.keys(rank).map(state => [told.filter(node => stateOf(node, job) === state).length, state]);
    const said = counts.filter(([count]) => count).map(([count, state]) => `${count} ${STATES[state]}`).join(", ");
    section.append(dots, make("p", "what", said));
    told = told.filter(node => rank[stateOf(node, job)] < rank.runs);
  }
  if (!told.length) return section;
  const head = make("tr", "", ...["node", "host", "last sign of life", "ended", "last words"].map(name => make("th", "", name)));
  const rows = told.slice(0, ROWS).map(node => {
    const state = stateOf(node, job);
    const ended = make("td", rank[state] < rank.runs ? "bad" : "", node.cause ? `${node.cause} (${node.code})` : state === "bad" ? "no word" : STATES[state]);
    return make("tr", "", make("td", "", String(node.node)), make("td", "", node.host || "?"), make("td", "", ago(node.sign_at, job.read_at)), ended, make("td", "", node.message));
  });
  section.append(make("div", "scroll", make("table", "", make("thead", "", head), make("tbody", "", ...rows))));
  if (told.length > ROWS) section.append(make("p", "what", `and ${told.length - ROWS} more`));
  return section;
}

function drops(corpus) {
  const found = corpus.drops.filter(([, count]) => count > 0);
  if (!found.length) return null;
  const list = make("ul", "drops", ...found.map(([reason, count]) => make("li", "", make("span", "", reason), make("b", "", count.toLocaleString("en")))));
  return make("section", "", make("h3", "", "Dropped"), list);
}

const HEALTH = { good: "healthy", warning: "look at it", bad: "needs you" };

function card(job) {
  if (job.fault) return make("article", "job bad", make("header", "", make("h2", "", job.name)), make("p", "why", job.fault));
  const kind = job.runs ? "runs" : job.now === "done" ? "done" : ["pending", "preempted", "stopped"].includes(job.now) ? "" : "failed";
  const last = job.attempts.at(-1);
  const what = `${job.kind} on ${job.backend}${last ? `, attempt ${last.number}` : ""}`;
  const article = make("article", `job ${job.health}`,
    make("header", "", make("h2", "", job.name), make("span", `pill ${kind}`, job.now), make("span", "what", what), make("span", `health ${job.health}`, HEALTH[job.health])));
  article.id = `job-${job.name}`;
  if (job.troubles.length) article.append(make("ul", "troubles", ...job.troubles.map(each => make("li", each.level, each.text))));
  if (job.why) article.append(make("p", "why", job.why));
  const work = job.training ?? job.corpus;
  if (work) article.append(make("div", "tiles", ...(job.training ? trainingTiles(job.training, job) : corpusTiles(job.corpus, job))));
  if (job.training?.plan.length) article.append(stages(job.training));
  if (Object.keys(job.charts).length) article.append(charts(job));
  if (job.corpus) article.append(drops(job.corpus) ?? "");
  if (job.attempts.length > 1) article.append(attempts(job));
  if (job.nodes.length) article.append(nodes(job));
  return article;
}

async function draw() {
  const silence = document.getElementById("silence");
  try {
    const answer = await fetch("api/jobs", { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    const { jobs } = await answer.json();
    const running = jobs.filter(job => job.runs).length;
    const bad = jobs.filter(job => job.health === "bad" || job.fault).length;
    document.getElementById("summary").textContent = `${jobs.length} ${jobs.length === 1 ? "job" : "jobs"}, ${running} running${bad ? `, ${bad} in trouble` : ""}`;
    document.getElementById("when").textContent = `as of ${new Date().toLocaleTimeString()}`;
    document.title = bad ? `(${bad}) Trawl` : "Trawl";
    document.getElementById("jobs").replaceChildren(...jobs.map(card), ...(jobs.length ? [] : [make("p", "lead", "No job was submitted yet.")]));
    silence.hidden = true;
  } catch (error) {
    silence.textContent = `The dashboard does not answer (${error.message}); what you see is old.`;
    silence.hidden = false;
  }
  setTimeout(draw, EVERY);
}

addEventListener("pointermove", tell);
draw();

// Chooses which token and which step are seen. The address says which: #token=5&sequence=0&head=0&step=1
(() => {
  const body = document.body.dataset;
  const counts = { token: +body.tokens, sequence: +body.sequences, head: +body.heads, step: +body.steps };
  const stepsOf = body.stepsOf.split(" ");
  const at = { token: 0, sequence: 0, head: 0, step: 0 };
  const views = new Map();
  for (const view of document.querySelectorAll("[data-view]")) {
    views.set(view.dataset.view, [...(views.get(view.dataset.view) ?? []), view]);
  }
  let seen = [...document.querySelectorAll(".view.on")];

  function show() {
    seen.forEach((view) => view.classList.remove("on"));
    const token = `t${at.token}b${at.sequence}`;
    const keys = [token, `${token}h${at.head}`, `s${at.step}`, `s${at.step}h${at.head}`];
    seen = keys.flatMap((key) => views.get(key) ?? []);
    seen.forEach((view) => view.classList.add("on"));
    for (const [name, value] of Object.entries(at)) {
      for (const control of document.querySelectorAll(`.controls [name=${name}]`)) {
        control.value = value;
        const output = control.parentElement.querySelector("output");
        if (output) output.textContent = value;
      }
    }
    const says = { token: `token ${at.token}`, step: `step ${at.step}` };
    if (counts.sequence > 1) says.token += `, sequence ${at.sequence}`;
    if (counts.head > 1) says.token += `, head ${at.head}`;
    document.querySelectorAll("[data-says]").forEach((span) => (span.textContent = says[span.dataset.says]));
    mark();
  }

  // The token on the line of tokens, the step in the charts, the token's slots in the maps.
  function mark() {
    for (const line of document.querySelectorAll(".timeline")) {
      line.querySelector(".now").setAttribute("x", at.token * line.dataset.unit);
      const { scrollWidth, clientWidth } = line.parentElement;
      line.parentElement.scrollLeft = (scrollWidth * at.token) / counts.token - clientWidth / 2;
    }
    for (const chart of document.querySelectorAll(".lines")) {
      const [left, unit] = chart.dataset.places.split(" ").map(Number);
      const line = chart.querySelector(".now");
      line.setAttribute("transform", `translate(${unit * at.step} 0)`);
    }
    const key = `t${at.token}b${at.sequence}h${at.head}`;
    const map = (views.get(key) ?? []).map((view) => view.querySelector("[data-name=slots]")).find(Boolean);
    const slots = map ? map.dataset.values.split(" ").map(Number) : [];
    for (const heat of seen.flatMap((view) => [...view.querySelectorAll(".slots")])) {
      const [left, top, width, height] = heat.dataset.box.split(" ").map(Number);
      const n = +heat.dataset.columns;
      const path = slots.map((slot) => `M${slot % n} ${Math.floor(slot / n)}h1v1h-1z`).join("");
      heat.querySelector(".here")?.remove();
      heat.insertAdjacentHTML("beforeend",
        `<g class="here" transform="translate(${left} ${top}) scale(${width} ${height})"><path d="${path}"/></g>`);
    }
  }

  // A token brings its step with it, a step its first token.
  function go(name, value) {
    at[name] = Math.min(Math.max(value, 0), Math.max(counts[name] - 1, 0));
    if (name === "token" && stepsOf[at.token] !== "-") at.step = +stepsOf[at.token];
    const first = stepsOf.indexOf(String(at.step));
    if (name === "step" && first >= 0) at.token = first;
    history.replaceState(null, "", "#" + Object.entries(at).map(([key, value]) => `${key}=${value}`).join("&"));
    show();
  }

  function fromAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of Object.keys(at)) {
      const value = Number.parseInt(given.get(name), 10);
      if (value >= 0 && value < counts[name]) {
        at[name] = value;
        if (name === "token" && stepsOf[value] !== "-") at.step = +stepsOf[value];
      }
    }
    show();
  }

  let playing = 0;
  const play = document.querySelector("[data-play]");
  function stop() {
    clearInterval(playing);
    playing = 0;
    play.textContent = "Play";
  }
  play.addEventListener("click", () => {
    if (playing) return stop();
    if (at.token === counts.token - 1) go("token", 0);
    play.textContent = "Pause";
    playing = setInterval(() => {
      go("token", at.token + 1);
      if (at.token === counts.token - 1) stop();
    }, 900);
  });

  const form = document.querySelector(".controls");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => go(event.target.name, +event.target.value));
  form.addEventListener("click", (event) => {
    const [name, by] = (event.target.dataset.move ?? "").split(" ");
    if (by) go(name, at[name] + Number(by));
  });
  addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.altKey || event.ctrlKey || event.metaKey || event.target.matches?.("input, select")) return;
    event.preventDefault();
    const name = event.shiftKey && counts.step ? "step" : "token";
    go(name, at[name] + by);
  });
  addEventListener("hashchange", fromAddress);

  // A place in a drawing, in its own units.
  const inside = (svg, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  for (const line of document.querySelectorAll(".timeline")) {
    line.addEventListener("click", (event) => go("token", Math.floor(inside(line, event).x / line.dataset.unit)));
  }
  for (const chart of document.querySelectorAll(".lines")) {
    const [left, unit] = chart.dataset.places.split(" ").map(Number);
    chart.addEventListener("click", (event) => go("step", Math.floor((inside(chart, event).x - left) / unit)));
  }

  // The number of a cell under the pointer.
  const tip = document.getElementById("tip");
  document.addEventListener("pointermove", (event) => {
    const heat = event.target.closest?.(".heat");
    tip.hidden = true;
    if (!heat) return;
    const [left, top, width, height] = heat.dataset.box.split(" ").map(Number);
    const columns = +heat.dataset.columns;
    const place = inside(heat, event);
    const column = Math.floor((place.x - left) / width), row = Math.floor((place.y - top) / height);
    const value = heat.dataset.values.split(" ")[row * columns + column];
    if (column < 0 || column >= columns || row < 0 || value === undefined) return;
    const cell = heat.classList.contains("slots") ? `slot ${row * columns + column} = (${row}, ${column})` : `row ${row}, column ${column}`;
    tip.textContent = `${cell}: ${value}`;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 180)}px`;
    tip.style.top = `${event.clientY + 16}px`;
    tip.hidden = false;
  });
  fromAddress();
})();

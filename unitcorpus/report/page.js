// Draws the unit strips, plays the clips and switches views. All data comes from the JSON block;
// text is only ever set as textContent.
"use strict";
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const colour = (unit) => "#" + data.colours.slice(6 * unit, 6 * unit + 6);
  const ROW = 20, SPACE = 6;
  let mode = "time";
  const strips = [];

  // --- one strip: where a moment is, what lies there, and the drawing of it ---

  const prepare = (holder) => {
    const { units, runs } = data.strips[holder.dataset.strip];
    const starts = new Float64Array(units.length + 1);
    runs.forEach((run, i) => { starts[i + 1] = starts[i] + run; });
    const map = document.createElement("div");
    map.className = "map";
    const canvas = map.appendChild(document.createElement("canvas"));
    const audio = holder.querySelector("audio");
    const readout = document.querySelector(`[data-readout="${holder.dataset.strip}"]`);
    const strip = { holder, map, canvas, units, runs, starts, audio, readout, name: holder.dataset.name };
    strip.seconds = starts[units.length] / data.rate;
    strip.heard = audio ? Math.min(strip.seconds, data.clip) : 0;
    holder.append(map);
    if (audio) addPlayer(strip); else describe(strip);
    map.addEventListener("pointermove", (event) => tell(strip, timeAt(strip, event)));
    map.addEventListener("pointerleave", () => tell(strip, audio && audio.currentTime));
    return strip;
  };

  const runAt = (strip, frame) => {
    let low = 0, high = strip.units.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (strip.starts[middle] <= frame) low = middle; else high = middle - 1;
    }
    return low;
  };

  // A place along the strip: frames over time, or tokens when collapsed.
  const placeOf = (strip, seconds) => {
    const frame = seconds * data.rate;
    if (mode === "time") return frame;
    const run = runAt(strip, frame);
    return run + Math.min((frame - strip.starts[run]) / strip.runs[run], 1);
  };
  const secondsOf = (strip, place) => {
    if (mode === "time") return place / data.rate;
    const run = Math.min(Math.max(Math.floor(place), 0), strip.units.length - 1);
    return (strip.starts[run] + (place - run) * strip.runs[run]) / data.rate;
  };

  const draw = (strip) => {
    const width = strip.map.clientWidth;
    if (!width) return;
    const end = mode === "time" ? strip.starts[strip.units.length] : strip.units.length;
    const pixels = mode === "time" ? 75 / data.rate : 6;
    strip.perRow = Math.max(Math.floor(width / pixels), 1);
    const rows = Math.max(Math.ceil(end / strip.perRow), 1);
    // A last row of a few frames is not worth a line: rows of equal length.
    strip.perRow = Math.max(Math.ceil(end / rows), Math.min(strip.perRow, end));
    if (rows > 1) strip.perRow = Math.ceil(end / rows);
    strip.scale = rows > 1 ? width / strip.perRow : Math.min(width / strip.perRow, 2.2 * pixels);
    const ratio = window.devicePixelRatio || 1;
    const height = rows * (ROW + SPACE) - SPACE;
    strip.canvas.width = width * ratio;
    strip.canvas.height = height * ratio;
    strip.canvas.style.height = height + "px";
    const pen = strip.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const heard = strip.audio ? placeOf(strip, strip.heard) : end;
    for (let i = 0; i < strip.units.length; i++) {
      let from = mode === "time" ? strip.starts[i] : i;
      const to = mode === "time" ? strip.starts[i + 1] : i + 1;
      pen.fillStyle = colour(strip.units[i]);
      pen.globalAlpha = from < heard ? 1 : 0.35;
      while (from < to) {
        const row = Math.floor(from / strip.perRow);
        const until = Math.min(to, (row + 1) * strip.perRow);
        const left = (from - row * strip.perRow) * strip.scale;
        const gap = mode === "time" ? 0 : 1;
        pen.fillRect(left, row * (ROW + SPACE), (until - from) * strip.scale - gap, ROW);
        from = until;
      }
    }
    pen.globalAlpha = 1;
    if (strip.audio && (strip.audio.currentTime > 0 || !strip.audio.paused)) drawCursor(strip, pen);
  };

  const drawCursor = (strip, pen) => {
    const place = placeOf(strip, strip.audio.currentTime);
    const row = Math.floor(place / strip.perRow);
    const left = (place - row * strip.perRow) * strip.scale;
    const style = getComputedStyle(document.body);
    pen.fillStyle = style.backgroundColor;
    pen.fillRect(left - 2.5, row * (ROW + SPACE) - 2, 5, ROW + 4);
    pen.fillStyle = style.color;
    pen.fillRect(left - 1, row * (ROW + SPACE) - 3, 2, ROW + 6);
  };

  const timeAt = (strip, event) => {
    const box = strip.canvas.getBoundingClientRect();
    const row = Math.max(Math.floor((event.clientY - box.top) / (ROW + SPACE)), 0);
    return secondsOf(strip, row * strip.perRow + (event.clientX - box.left) / strip.scale);
  };

  const tell = (strip, seconds) => {
    if (!strip.readout) return;
    if (!seconds || seconds >= strip.seconds) { strip.readout.textContent = ""; return; }
    const run = runAt(strip, seconds * data.rate);
    const frames = strip.runs[run] === 1 ? "1 frame" : strip.runs[run] + " frames";
    const when = data.timed ? `${seconds.toFixed(2)} s: ` : "";
    strip.readout.textContent = `${when}unit ${strip.units[run]}${data.timed ? ", " + frames : ""}`;
  };

  const describe = (strip) => {
    strip.map.setAttribute("role", "img");
    strip.map.setAttribute("aria-label", `${strip.units.length} units of the ${part(strip)}, by colour`);
  };
  const part = (strip) => strip.name === "units" ? "utterance" : strip.name;

  // --- playing ---

  const ICONS = { play: "M3 1v14l12-7z", pause: "M3 1h4v14H3zM9 1h4v14H9z" };
  const icon = (button, name) => {
    button.querySelector("path").setAttribute("d", ICONS[name]);
  };

  const addPlayer = (strip) => {
    const { audio, map } = strip;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "play";
    button.append(document.getElementById("icon").content.cloneNode(true));
    strip.holder.prepend(button);
    audio.controls = false;
    audio.hidden = true;
    map.setAttribute("role", "slider");
    map.tabIndex = 0;
    map.setAttribute("aria-label", `Position in the ${part(strip)}`);
    map.setAttribute("aria-valuemin", "0");
    map.setAttribute("aria-valuemax", strip.heard.toFixed(1));
    const show = () => {
      icon(button, audio.paused ? "play" : "pause");
      button.setAttribute("aria-label", `${audio.paused ? "Play" : "Pause"} the ${part(strip)}`);
      map.setAttribute("aria-valuenow", audio.currentTime.toFixed(1));
      map.setAttribute("aria-valuetext", `${audio.currentTime.toFixed(1)} of ${strip.heard.toFixed(1)} seconds`);
      draw(strip);
      tell(strip, audio.currentTime);
    };
    const follow = () => { show(); if (!audio.paused) requestAnimationFrame(follow); };
    const seek = (seconds) => {
      audio.currentTime = Math.min(Math.max(seconds, 0), strip.heard);
      show();
    };
    button.addEventListener("click", () => { if (audio.paused) audio.play(); else audio.pause(); });
    audio.addEventListener("play", () => {
      for (const other of strips) if (other !== strip && other.audio) other.audio.pause();
      follow();
    });
    audio.addEventListener("pause", show);
    audio.addEventListener("ended", () => seek(0));
    audio.addEventListener("seeked", show);
    map.addEventListener("click", (event) => seek(timeAt(strip, event)));
    map.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 }[event.key];
      if (step) seek(audio.currentTime + step);
      else if (event.key === "Home") seek(0);
      else if (event.key === "End") seek(strip.heard - 0.1);
      else if (event.key === " " || event.key === "Enter") button.click();
      else return;
      event.preventDefault();
    });
    icon(button, "play");
    button.setAttribute("aria-label", `Play the ${part(strip)}`);
    map.setAttribute("aria-valuenow", "0");
  };

  // --- the page ---

  const choose = (buttons, chosen) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
  };
  const numbers = (box) => {
    const first = Number(box.dataset.first);
    box.querySelectorAll("pre").forEach((old) => old.remove());
    for (const strip of strips.slice(first, first + Number(box.dataset.count))) {
      const pre = document.createElement("pre");
      const expanded = mode === "time" && data.timed;
      const list = expanded ? strip.units.flatMap((u, i) => Array(strip.runs[i]).fill(u)) : strip.units;
      const head = expanded ? "one a frame" : "repeats collapsed";
      pre.textContent = `${part(strip)}, ${head}: ${list.join(" ")}`;
      pre.tabIndex = 0;
      box.append(pre);
    }
  };
  const clamp = () => {
    for (const text of document.querySelectorAll(".clamp")) {
      text.classList.add("clamped");
      if (text.scrollHeight <= text.clientHeight + 2) { text.classList.remove("clamped"); continue; }
      const more = document.createElement("button");
      more.type = "button";
      more.className = "more";
      const show = () => {
        const open = !text.classList.contains("clamped");
        more.textContent = open ? "Less" : "Whole text";
        more.setAttribute("aria-expanded", String(open));
      };
      more.addEventListener("click", () => { text.classList.toggle("clamped"); show(); });
      show();
      text.after(more);
    }
  };

  for (const holder of document.querySelectorAll(".strip")) strips.push(prepare(holder));
  if (!data.timed) mode = "units";
  const redraw = () => strips.forEach(draw);
  for (const button of document.querySelectorAll("[data-mode]")) {
    button.addEventListener("click", () => {
      mode = button.dataset.mode;
      choose(document.querySelectorAll("[data-mode]"), button);
      redraw();
      document.querySelectorAll(".numbers[open]").forEach(numbers);
    });
  }
  for (const button of document.querySelectorAll("[data-show]")) {
    button.addEventListener("click", () => {
      choose(document.querySelectorAll("[data-show]"), button);
      for (const card of document.querySelectorAll(".card")) {
        card.hidden = button.dataset.show !== "all" && !card.classList.contains(button.dataset.show);
      }
      redraw();
    });
  }
  for (const box of document.querySelectorAll(".numbers")) {
    box.hidden = false;
    box.addEventListener("toggle", () => { if (box.open) numbers(box); });
  }
  document.querySelectorAll(".bar").forEach((bar) => { bar.hidden = false; });

  const theme = document.getElementById("theme");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = "";
  const isDark = () => chosen ? chosen === "dark" : dark.matches;
  const paint = () => {
    document.documentElement.style.colorScheme = chosen || "light dark";
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
    redraw();
  };
  theme.hidden = false;
  theme.addEventListener("click", () => { chosen = isDark() ? "light" : "dark"; paint(); });
  dark.addEventListener("change", paint);

  clamp();
  paint();
  let waiting = 0;
  new ResizeObserver(() => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(redraw);
  }).observe(document.body);
}

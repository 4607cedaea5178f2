"use strict";
(() => {
  const root = document.documentElement;
  const remember = (key, value) => { try { localStorage.setItem("glassworks-" + key, value); } catch { /* private window */ } };
  const recall = (key) => { try { return localStorage.getItem("glassworks-" + key); } catch { return null; } };
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
  const follow = () => { root.lang = chosen("language") === "zh" ? "zh-Hans" : "en"; };

  for (const name of ["language", "theme"]) {
    const kept = document.getElementById(`${name}-${recall(name)}`);
    if (kept) kept.checked = true;
    for (const input of document.querySelectorAll(`input[name=${name}]`)) {
      input.addEventListener("change", () => { remember(name, input.value); follow(); });
    }
  }
  follow();
  for (const tools of document.querySelectorAll(".tools")) tools.hidden = false;

  const download = (name, blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  // A saved picture stands alone: one language, the colours of now, the page behind it.
  const standalone = (figure) => {
    const svg = figure.querySelector("svg").cloneNode(true);
    const other = chosen("language") === "zh" ? "lang-en" : "lang-zh";
    for (const node of svg.querySelectorAll("." + other)) node.remove();
    const style = getComputedStyle(root);
    const box = svg.viewBox.baseVal;
    const back = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    back.setAttribute("width", box.width);
    back.setAttribute("height", box.height);
    back.setAttribute("style", "fill:var(--figure-background, #fff)");
    svg.insertBefore(back, svg.querySelector("g"));
    const literal = (_, name, fallback) => style.getPropertyValue(name).trim() || fallback;
    for (const node of svg.querySelectorAll("[style]")) {
      node.setAttribute("style", node.getAttribute("style").replace(/var\((--[\w-]+),\s*([^)]+)\)/g, literal));
    }
    return { text: new XMLSerializer().serializeToString(svg), width: box.width, height: box.height };
  };

  const savePng = (name, picture) => {
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      const scale = 8 / 3;
      canvas.width = Math.round(picture.width * scale);
      canvas.height = Math.round(picture.height * scale);
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => download(name, blob), "image/png");
    };
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(picture.text);
  };

  const csv = (columns) => {
    const quoted = (value) => {
      const text = value === null ? "" : String(value);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const names = Object.keys(columns);
    const length = Math.max(0, ...names.map((name) => columns[name].length));
    const lines = [names.map(quoted).join(",")];
    for (let row = 0; row < length; row++) lines.push(names.map((name) => quoted(columns[name][row] ?? null)).join(","));
    return lines.join("\n") + "\n";
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-save]");
    if (!button) return;
    const name = button.dataset.of;
    const kind = button.dataset.save;
    if (kind === "csv") {
      const columns = JSON.parse(document.querySelector(`script[data-table="${name}"]`).textContent);
      download(`${name}.csv`, new Blob([csv(columns)], { type: "text/csv" }));
      return;
    }
    const picture = standalone(document.getElementById(name));
    if (kind === "png") savePng(`${name}.png`, picture);
    else download(`${name}.svg`, new Blob([picture.text], { type: "image/svg+xml" }));
  });

  // The contents list shows where the reader is.
  const links = new Map([...document.querySelectorAll(".side a")].map((link) => [link.hash.slice(1), link]));
  if ("IntersectionObserver" in window) {
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting || !links.has(entry.target.id)) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(entry.target.id).setAttribute("aria-current", "true");
      }
    }, { rootMargin: "-15% 0px -75% 0px" });
    for (const section of document.querySelectorAll("main > section")) watcher.observe(section);
  }
})();

// The page as it stands, as one file that opens anywhere without the studio: drawings become pictures, styles go along, scripts stay behind.
import { saveText } from "$lib/save";

const GONE = "script, textarea, select, .tools, .stepper nav, .pager, .samples, [role='dialog'] button, .plain[title], .facts a, .facts button";

function styles(): string {
  const rules = Array.from(document.styleSheets).flatMap((sheet) => {
    try {
      return Array.from(sheet.cssRules, (rule) => rule.cssText);
    } catch {
      return []; // a sheet of another origin, such as a browser's extension
    }
  });
  return rules.join("\n").replace(/<\//g, "<\\/");
}

/** Saves what the page shows; `title` names it, `facts` say what it was made of. */
export function saveOffline(name: string, title: string, facts: readonly string[]): void {
  const shown = document.querySelector("main");
  if (!shown) return;
  const copy = shown.cloneNode(true) as HTMLElement;
  const [drawn, blank] = [shown.querySelectorAll("canvas"), copy.querySelectorAll("canvas")];
  drawn.forEach((canvas, i) => {
    const picture = document.createElement("img");
    picture.src = canvas.toDataURL("image/png");
    picture.alt = canvas.getAttribute("aria-label") ?? "";
    picture.style.cssText = canvas.style.cssText;
    picture.className = canvas.className;
    blank[i].replaceWith(picture);
  });
  copy.querySelectorAll(GONE).forEach((one) => one.remove());
  copy.querySelectorAll("button").forEach((one) => one.setAttribute("disabled", ""));
  copy.querySelectorAll("details").forEach((one) => one.setAttribute("open", ""));
  copy.querySelectorAll("a").forEach((one) => one.removeAttribute("href"));
  const page = document.implementation.createHTMLDocument(title);
  page.documentElement.lang = document.documentElement.lang;
  if (document.documentElement.dataset.theme) page.documentElement.dataset.theme = document.documentElement.dataset.theme;
  page.head.insertAdjacentHTML("beforeend", '<meta charset="utf-8"><meta name="viewport" content="width=device-width">');
  const style = page.createElement("style");
  style.textContent = `${styles()}\nbutton:disabled { opacity: 1; cursor: default; } .stepper { position: static; } .walk { margin-inline: auto !important; } .panel { position: static !important; width: auto !important; max-height: none !important; }`;
  page.head.append(style);
  const list = page.createElement("p");
  list.className = "small muted";
  list.textContent = facts.join(" · ");
  copy.querySelector(".opening")?.replaceChildren(list);
  page.body.append(page.importNode(copy, true));
  saveText(`${name}.html`, `<!doctype html>\n${page.documentElement.outerHTML}`, "text/html");
}

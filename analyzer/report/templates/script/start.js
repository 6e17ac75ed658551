// The page is complete without this script. It adds copy buttons, tables that search, filter and sort, and links that
// remember what was filtered. Text goes into the page through textContent only: what a capture holds is never parsed.
const find = (selector, within = document) => within.querySelector(selector);
const every = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (name, className, text) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};
const number = (count) => count.toLocaleString("en-US");
const collator = new Intl.Collator("en", { numeric: true });
const delayed = (work) => {
  let waiting = 0;
  return () => {
    clearTimeout(waiting);
    waiting = setTimeout(work, 120);
  };
};
const status = find("#status");

const copy = async (element) => {
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    // No clipboard for this origin: leave the text selected, so that the reader's own shortcut copies it.
    getSelection().selectAllChildren(element);
    said = "Selected";
  }
  status.textContent = said;
  return said;
};
for (const element of every("code.copy")) {
  const button = make("button", "", "Copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy ${element.textContent}`);
  button.addEventListener("click", async () => {
    button.textContent = await copy(element);
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
  element.after(button);
}

// What a grade means stands under "method"; here it is one hover away.
const meanings = new Map(every("#method .grades > div").map((pair) => [find("dt", pair).textContent.trim(), find("dd", pair).textContent]));
document.addEventListener("pointerover", (event) => {
  if (event.target.className === "grade") event.target.title = meanings.get(event.target.textContent) ?? "";
});

addEventListener("beforeprint", () => {
  for (const details of every("details")) details.open = true;
});

const theme = find("#theme");
const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.setAttribute("aria-label", "Switch between light and dark");
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
});
nameTheme();
theme.hidden = false;

// The section under the eye is marked in the navigation.
const places = new Map(every(".top nav a").map((link) => [link.hash.slice(1), link]));
const seen = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target.id);
  const current = [...places.keys()].find((id) => seen.has(id));
  for (const [id, link] of places) {
    if (id === current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}, { rootMargin: "-20% 0px -60% 0px" });
for (const section of every("main > section[id]")) watcher.observe(section);

// A link into something folded opens it.
const unfold = () => {
  const target = location.hash.length > 1 && !location.hash.includes("?") ? document.getElementById(location.hash.slice(1)) : null;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", unfold);

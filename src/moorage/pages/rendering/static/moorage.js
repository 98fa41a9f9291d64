// What every page does in the browser: copy buttons, relative times, fields that confirm, and a
// notice when a part of a page could not be fetched. Pages work without it.

const UNITS = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];

/** How long ago something was, or until it is, in the words that the server uses. */
export function relative(seconds) {
  const length = Math.abs(seconds);
  const [size, name] = UNITS.find(([each]) => length >= each) ?? UNITS[3];
  const count = Math.floor(length / size);
  if (count === 0) return "now";
  const words = `${count} ${name}${count > 1 ? "s" : ""}`;
  return seconds > 0 ? `${words} ago` : `in ${words}`;
}

const utc = (at) => at.toISOString().slice(0, 19).replace("T", " ") + " UTC";
const zone = new Intl.DateTimeFormat("en", { timeZoneName: "short" });
const here = (at) => at.toLocaleString("sv") + " " + zone.formatToParts(at).find(({ type }) => type === "timeZoneName").value;
let [shown, other] = localStorage.getItem("times") === "here" ? [here, utc] : [utc, here];

function refreshTimes() {
  for (const when of document.querySelectorAll(".when")) {
    const time = when.querySelector("time");
    const at = new Date(time.dateTime);
    const written = shown(at);
    if (time.textContent !== written) [time.textContent, time.title] = [written, other(at)];
    else time.title ||= other(at);
    const ago = when.querySelector(".ago");
    const words = relative((Date.now() - at) / 1000);
    if (ago && ago.textContent !== words) ago.textContent = words;
  }
}

/** Lets the reader have times in their own zone; whoever is in UTC has no use for it. */
function offerZone() {
  if (zone.resolvedOptions().timeZone === "UTC") return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain";
  const label = () => { button.textContent = shown === utc ? "Show times in your time zone" : "Show times in UTC"; };
  button.addEventListener("click", () => {
    [shown, other] = [other, shown];
    localStorage.setItem("times", shown === here ? "here" : "utc");
    label();
    refreshTimes();
  });
  label();
  document.querySelector(".foot")?.append(button);
}

/** Of a part that was fetched: says once what has come. */
function announceNew() {
  const words = document.querySelector("[data-announce]")?.textContent ?? "";
  if (words && words !== announced) announce(words);
  announced = words;
}

function enhance() {
  for (const field of document.querySelectorAll("input[data-confirm]")) guard(field);
  refreshTimes();
}

/** On narrow screens navigation moves sideways: where the reader is, is in view. */
function showCurrent() {
  for (const list of document.querySelectorAll(".nav ul, .tabs ul")) {
    const here = list.querySelector("[aria-current]")?.getBoundingClientRect();
    const box = list.getBoundingClientRect();
    if (here && here.right > box.right) list.scrollLeft += here.right - box.right + 16;
  }
}

/** A form whose field must repeat a name can be sent once it does. */
function guard(field) {
  const right = () => field.value.trim() === field.dataset.confirm;
  for (const button of field.form?.querySelectorAll("button") ?? []) button.disabled = !right();
}

async function copy(button) {
  const label = button.dataset.label ??= button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Copying is not allowed";
  }
  announce(button.textContent);
  setTimeout(() => { button.textContent = label; }, 2000);
}

/** Tells a screen reader something that is seen elsewhere on the page. */
export function announce(words) {
  let region = document.getElementById("announcer");
  if (!region) {
    region = document.createElement("div");
    region.id = "announcer";
    region.className = "unseen";
    region.setAttribute("role", "status");
    document.body.append(region);
  }
  region.textContent = words;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button[data-copy]");
  if (button) copy(button);
});
document.addEventListener("input", (event) => {
  if (event.target.matches?.("input[data-confirm]")) guard(event.target);
});
let announced = document.querySelector("[data-announce]")?.textContent ?? "";
document.addEventListener("htmx:after:swap", () => { enhance(); announceNew(); });
document.addEventListener("htmx:error", () => announce("This part of the page could not be fetched. Reload the page to see what is true now."));
enhance();
offerZone();
showCurrent();
setInterval(refreshTimes, 15_000);

// A log as it grows: follows its stream, pauses, wraps, and shows only lines that hold some words.

const MAX_LINES = 5000;
// The same characters as the server's filter `harmless`.
const TERMINAL = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])/g;
const INVISIBLE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

function harmless(text) {
  return text.replace(TERMINAL, "").replace(INVISIBLE, (found) =>
    `‹U+${found.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
}

function rowOf({ time, stream, text }) {
  const row = document.createElement("div");
  row.className = stream;
  if (time) {
    const at = document.createElement("time");
    at.dateTime = time;
    at.textContent = `${time.slice(5, 10)} ${time.slice(11, 19)}`;
    row.append(at);
  }
  row.append(harmless(text));
  return row;
}

class Log {
  constructor(list) {
    this.list = list;
    this.controls = list.previousElementSibling;
    this.state = this.controls.querySelector("[data-log-state]");
    this.count = this.controls.querySelector("[data-log-held]"); // apart: not read out for each line
    this.held = []; // lines that came while paused
    this.waiting = []; // lines of the next frame
    this.paused = false;
    this.words = "";
    this.control("pause", "click", (button) => this.pause(button));
    this.control("wrap", "click", (button) => this.wrap(button));
    this.control("filter", "input", (field) => this.filter(field.value));
    if (list.dataset.logStream) this.follow();
    else this.control("pause", "click", () => {}).hidden = true;
    list.scrollTop = list.scrollHeight;
  }

  control(name, kind, act) {
    const element = this.controls.querySelector(`[data-log-${name}]`);
    element.addEventListener(kind, () => act(element));
    return element;
  }

  follow() {
    const source = new EventSource(this.list.dataset.logStream);
    this.say("Live");
    source.addEventListener("line", (event) => this.take(JSON.parse(event.data)));
    source.addEventListener("end", () => { source.close(); this.say("Complete"); });
    source.addEventListener("open", () => this.say(this.paused ? "Paused" : "Live"));
    source.addEventListener("error", () => this.say(
      source.readyState === EventSource.CLOSED ? "Not live: reload the page to go on" : "Connecting again…"));
    addEventListener("pagehide", () => source.close());
  }

  take(line) {
    if (this.paused) {
      this.held.push(line);
      if (this.held.length > MAX_LINES) this.held.shift();
      this.count.textContent = `${this.held.length} new`;
      return;
    }
    this.waiting.push(line);
    if (this.waiting.length === 1) requestAnimationFrame(() => this.show());
    if (this.waiting.length > MAX_LINES) this.waiting.shift(); // a hidden tab draws no frame
  }

  show() {
    const list = this.list;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const rows = this.waiting.splice(0).slice(-MAX_LINES).map(rowOf);
    for (const row of rows) row.hidden = !this.holds(row);
    list.append(...rows);
    while (list.childElementCount > MAX_LINES) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  pause(button) {
    this.paused = !this.paused;
    button.setAttribute("aria-pressed", String(this.paused));
    button.textContent = this.paused ? "Go on" : "Pause";
    this.say(this.paused ? "Paused" : "Live");
    if (this.paused) return;
    this.count.textContent = "";
    this.waiting.push(...this.held.splice(0));
    this.show();
    this.list.scrollTop = this.list.scrollHeight;
  }

  wrap(button) {
    const unwrapped = this.list.classList.toggle("unwrapped");
    button.setAttribute("aria-pressed", String(!unwrapped));
  }

  filter(words) {
    this.words = words.toLowerCase();
    for (const row of this.list.children) row.hidden = !this.holds(row);
  }

  holds(row) {
    return !this.words || row.textContent.toLowerCase().includes(this.words);
  }

  say(words) {
    this.state.textContent = words;
  }
}

for (const list of document.querySelectorAll(".log[role=log]")) new Log(list);

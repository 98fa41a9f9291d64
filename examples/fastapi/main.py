from datetime import UTC, datetime

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

app = FastAPI(title="Hello from FastAPI")


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
def index() -> str:
    return PAGE


@app.get("/api/hello/{name}")
def hello(name: str) -> dict[str, str]:
    return {"hello": name, "at": datetime.now(UTC).isoformat()}


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hello from FastAPI</title>
<style>
:root { color-scheme: light dark; --ink: #17324d; --paper: #f4f7fa; --line: #d5dfe8; --mark: #0b7a75; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eef5; --paper: #101a24; --line: #2a3b4c; --mark: #4fd1c5; } }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper); color: var(--ink); font: 17px/1.6 system-ui, sans-serif; }
main { max-width: 34rem; margin: 1.5rem; padding: 2.5rem; border: 1px solid var(--line); border-radius: 1rem; }
h1 { margin: 0 0 .5rem; font-size: 2rem; letter-spacing: -.02em; }
code { padding: .1em .35em; border-radius: .3em; background: var(--line); font-size: .9em; }
a, .live { color: var(--mark); }
</style>
<main>
  <p class="live">● live</p>
  <h1>Hello from FastAPI</h1>
  <p>Try <a href="/api/hello/you"><code>/api/hello/you</code></a>, or the API’s own page at
  <a href="/docs"><code>/docs</code></a>.</p>
</main>
</html>
"""

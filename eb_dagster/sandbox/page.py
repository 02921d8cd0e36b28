"""The sandbox's page for a person: the bill, the requests and the faults, live. No identifier is on it."""

from __future__ import annotations

from typing import Final

CONTENT_SECURITY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ExactBuyer sandbox</title>
<style>
:root { color-scheme: light dark; --back: #fcfcfb; --text: #0b0b0b; --soft: #52514e; --line: #d6d5cd; --bad: #a32120; }
@media screen and (prefers-color-scheme: dark) { :root { --back: #1a1a19; --text: #fff; --soft: #c3c2b7; --line: #45443f;
  --bad: #ff9c9b; } }
body { margin: 0 auto; padding: 32px 24px; max-width: 760px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 17px; margin: 32px 0 4px; } p { color: var(--soft); margin: 0 0 12px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 12px; }
.tiles div { border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; display: grid; }
.tiles span { color: var(--soft); font-size: 13px; } .tiles strong { font-size: 24px; }
table { width: 100%; border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: normal; } .bad { color: var(--bad); font-weight: 600; }
code { overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; } tr { break-inside: avoid; } }
</style>
</head>
<body>
<main>
<header><h1>ExactBuyer sandbox</h1>
<p>A local stand-in for ExactBuyer's bulk API. Its people are made up; nothing is paid.
The API is <code>POST /v1/bulk-enrich</code>, the counts are at <code>/charges.json</code>.</p></header>
<div class="tiles" role="status" aria-label="The bill">
<div><span>Requests</span><strong id="requests">–</strong></div>
<div><span>Credits charged</span><strong id="credits">–</strong></div>
<div><span>Credits left</span><strong id="credits_left">–</strong></div>
<div><span>Charged twice</span><strong id="charged_twice">–</strong></div>
</div>
<section><h2>Faults</h2><p id="no_faults">None: every request is answered.</p>
<table><thead><tr><th scope="col">fault</th><th scope="col">at request</th><th scope="col">state</th></tr></thead>
<tbody id="faults"></tbody></table></section>
<section><h2>Newest requests</h2>
<table><thead><tr><th scope="col">request</th><th scope="col">time</th><th scope="col">asked</th>
<th scope="col">found</th><th scope="col">answer</th></tr></thead><tbody id="newest"></tbody></table></section>
</main>
<script>
const fill = (id, rows) => {
  const body = document.getElementById(id);
  body.replaceChildren(...rows.map(([cells, isBad]) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text, index) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      if (isBad && index === cells.length - 1) cell.className = "bad";
      return cell;
    }));
    return row;
  }));
};
const show = (live) => {
  for (const name of ["requests", "credits", "credits_left", "charged_twice"]) {
    const place = document.getElementById(name), text = live[name] === null ? "no limit" : live[name].toLocaleString();
    if (place.textContent !== text) place.textContent = text;
  }
  document.getElementById("no_faults").hidden = live.faults.length > 0;
  document.getElementById("faults").closest("table").hidden = live.faults.length === 0;
  fill("faults", live.faults.map((fault) => [[fault.kind, fault.at, fault.state], false]));
  fill("newest", live.newest.map((one) => [
    [one.id, new Date(one.at * 1000).toLocaleTimeString(), one.asked, one.enriched, one.answer], one.answer !== "200",
  ]));
};
const look = async () => {
  try { show(await (await fetch("/live.json")).json()); } catch { document.title = "ExactBuyer sandbox (stopped)"; }
  setTimeout(look, 1000);
};
look();
</script>
</body>
</html>
"""

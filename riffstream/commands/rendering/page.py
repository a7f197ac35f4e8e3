"""The index page of a batch: one row for each rendering, for comparison by ear. It needs no server and no network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

__all__ = ["index_page"]

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
li { display: grid; grid-template-columns: 16rem 1fr; gap: 0 1.5rem; padding: 1rem 0; border-top: 1px solid #8884 }
ol { list-style: none; padding: 0 } li.on { background: #f801 } h2 { font-size: 1rem; margin: 0 }
img { width: 16rem; height: 8rem; object-fit: fill; background: #fff } audio { width: 100%; margin: .4rem 0 }
dl { display: flex; flex-wrap: wrap; gap: 0 1.2rem; margin: 0 } dt { opacity: .65; display: inline }
dd { display: inline; margin: 0 0 0 .3rem } kbd { border: 1px solid #8888; border-radius: 3px; padding: 0 .3rem }
"""
# Starting one player stops the others. A digit moves the sound to another player at the same position.
_SCRIPT = """
const players = [...document.querySelectorAll("audio")];
for (const player of players) player.addEventListener("play", () => {
  for (const other of players) {
    if (other !== player) other.pause();
    other.closest("li").classList.toggle("on", other === player);
  }
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !/^[1-9]$/.test(event.key)) return;
  const next = players[Number(event.key) - 1];
  const now = players.find((player) => !player.paused);
  if (!next || next === now) return;
  if (now) next.currentTime = Math.min(now.currentTime, next.duration || now.currentTime);
  next.play();
  next.closest("li").scrollIntoView({ block: "nearest" });
});
"""


def index_page(title: str, records: Sequence[Mapping[str, Any]], missing: int = 0) -> str:
    """Page with the finished renderings.

    Args:
        title: title of the page.
        records: ``name``, ``audio`` and ``pictures`` (file names beside the page), ``seconds`` and ``parameters``; or
            ``name`` and ``error``.
        missing: number of renderings to come.
    """
    rows = "".join(_row(number, record) for number, record in enumerate(records, 1))
    more = f"<p>{missing} more to come.</p>" if missing else ""
    heading = html.escape(title)
    keys = "Keys <kbd>1</kbd> to <kbd>9</kbd> move the sound to another row at the same position."
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{heading}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>\n'
        f"<h1>{heading}</h1>\n<p>{keys}</p>{more}\n<ol>\n{rows}</ol>\n<script>{_SCRIPT}</script></html>\n"
    )


def _row(number: int, record: Mapping[str, Any]) -> str:
    name = html.escape(record["name"])
    if "error" in record:
        return f"<li><span></span><div><h2>{number}. {name}</h2><p>{html.escape(record['error'])}</p></div></li>\n"
    picture = next((quote(file) for file in record["pictures"]), None)
    shown = f'<img src="{picture}" alt="spectrogram of {name}" loading="lazy">' if picture else "<span></span>"
    facts = {"seconds": record["seconds"], **record["parameters"]}
    terms = "".join(
        f"<div><dt>{html.escape(key)}</dt><dd>{html.escape(_text(value))}</dd></div>" for key, value in facts.items()
    )
    player = f'<audio controls preload="none" src="{quote(record["audio"])}"></audio>'
    return f"<li>{shown}<div><h2>{number}. {name}</h2>{player}<dl>{terms}</dl></div></li>\n"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={each:g}" for key, each in value.items())
    return " → ".join(map(str, value)) if isinstance(value, list) else str(value)

"""The evaluation's figures as Markdown."""

from __future__ import annotations

from typing import Any

__all__ = ["markdown"]

_COLUMNS = (
    ("frechet", "Fréchet distance"),
    ("style_top1", "style, first"),
    ("style_top5", "style, first five"),
    ("instruments", "instruments"),
    ("tempo_error_percent", "tempo error %"),
    ("phase_error_frames", "phase error, frames"),
    ("on_grid", "onsets on the grid"),
    ("in_key", "in key"),
    ("loudness_db", "level dB"),
    ("loudness_spread_db", "spread dB"),
)


def markdown(report: dict[str, Any]) -> str:
    """The report as a table."""
    lines = ["| | " + " | ".join(title for _, title in _COLUMNS) + " |", "|---" * (len(_COLUMNS) + 1) + "|"]
    for name, row in report["rows"].items():
        lines.append(f"| {name} | " + " | ".join(str(row.get(key, "")) for key, _ in _COLUMNS) + " |")
    lines += [
        "",
        f"{report['clips']} held-out prompts of {report['styles']} styles; the probe knows {report['probe_styles']} "
        f"(chance {1 / report['probe_styles']:.3f}). Rendering ran {report['real_time_factor']} times real time.",
        f"Codec error {report['codec_error_db']} dB. Spread within a prompt {report['diversity']['within_prompt']} of "
        "that between songs. Interpolation: largest step "
        f"{report['interpolation']['largest_over_mean_step']} times the mean.",
    ]
    if "drift" in report:
        drift = report["drift"]
        lines.append(
            f"After {drift['clips']} continued clips: level {drift['loudness_change_db']:+} dB, white-key share "
            f"{drift['key_change']:+}, embedding moved by {drift['embedding_shift']} of the spread between clips."
        )
    common = sorted(report["instruments"].items(), key=lambda item: -item[1]["clips"])
    lines += [
        "",
        "| instrument | clips | " + " | ".join(report["rows"]) + " |",
        "|---" * (len(report["rows"]) + 2) + "|",
    ]
    for kind, shares in [item for item in common if item[1]["clips"] >= 5]:
        columns = " | ".join(str(shares.get(name, "")) for name in report["rows"])
        lines.append(f"| {kind} | {shares['clips']} | {columns} |")
    return "\n".join(lines) + "\n"

// @ts-check
/** The style of `<riff-stream>`, inside its shadow root. */
export const SHEET = `
:host { --_accent: var(--riff-accent, #ffb070); --_accent-ink: var(--riff-accent-ink, #1b0f08); --_bg: var(--riff-bg, #0c0b12); --_ink: var(--riff-ink, #f4efe8);
  display: block; min-height: 64px; border-radius: var(--riff-radius, 12px); overflow: hidden; background: var(--_bg) var(--_poster, none) center / cover; color: var(--_ink);
  font: 15px/1.4 var(--riff-font, ui-sans-serif, system-ui, sans-serif); position: relative; }
:host([data-theme="light"]) { --_accent: var(--riff-accent, #8a1c6e); --_accent-ink: var(--riff-accent-ink, #fff); --_bg: var(--riff-bg, #f7f5fb); --_ink: var(--riff-ink, #1d1026); }
:host([visual]) { height: 220px; background-image: var(--_poster, radial-gradient(90% 130% at 10% 0, color-mix(in srgb, var(--_accent) 34%, transparent), transparent 70%)); }
:host([hidden]) { display: none; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0; transition: opacity .6s; }
canvas.lit { opacity: 1; }
.controls { position: absolute; inset: auto 0 0 0; display: flex; gap: 12px; align-items: center; padding: 10px 14px;
  background: linear-gradient(transparent, color-mix(in srgb, var(--_bg) 80%, transparent)); }
button { width: 44px; height: 44px; flex: none; border: 0; border-radius: 50%; background: var(--_accent); color: var(--_accent-ink); cursor: pointer; }
button:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
svg { width: 24px; height: 24px; fill: currentColor; display: block; margin: auto; }
button[aria-pressed="true"] .on, button[aria-pressed="false"] .off { display: none; }
p { margin: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; }
small { display: block; opacity: .85; overflow: hidden; text-overflow: ellipsis; }
[hidden] { display: none; }
@media (prefers-reduced-motion: reduce) { canvas { transition: none; } }
@media (forced-colors: active) { button { border: 1px solid ButtonText; } }`;

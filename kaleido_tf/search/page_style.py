"""How the search page looks: one style sheet and the theme's settings.

Nothing is loaded from elsewhere: fonts are the system's.
"""

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]

CSS = """
:root { --k-ground: #f4f6f8; --k-card: #ffffff; --k-ink: #1f2933; --k-faint: #566473;
  --k-line: #dfe5eb; --k-accent: #1d5fd1; --k-soft: #e8f0fe; --k-warm: 226 88 34;
  --k-warn: #8a2c0d; --k-warn-ground: #fff0e8; --k-shadow: 0 1px 3px #1f293314;
  --k-lift: 0 12px 40px #1f29332e; }
.dark { --k-ground: #12171d; --k-card: #1b222b; --k-ink: #dde4ec; --k-faint: #9aa8b8;
  --k-line: #303b49; --k-accent: #79a8ff; --k-soft: #22304a; --k-warm: 255 140 66;
  --k-warn: #ffb595; --k-warn-ground: #3a2016; --k-shadow: none;
  --k-lift: 0 12px 40px #000000a0; }
body, gradio-app { background: var(--k-ground) !important; }
.gradio-container { max-width: 1160px !important; margin: 0 auto !important;
  padding: 0 20px 64px !important; background: var(--k-ground) !important;
  color: var(--k-ink); }
.gradio-container, .gradio-container > .main, .gradio-container .wrap,
  .gradio-container main, .gradio-container .tabs { width: 100% !important;
  min-width: 0 !important; }
.gradio-container > .main { padding: 0 !important; max-width: none !important; }
.gradio-container main :is(.column, .tabitem, .block, .row) { min-width: 0 !important; }
.gradio-container .html-container { padding: 0; }
.gradio-container .tabitem { padding: 12px 0 0; border: 0; }
.gradio-container .k-plain { padding: 0; border: 0; background: none;
  box-shadow: none; overflow: visible; }
.k-head { padding: 26px 0 4px; }
.k-head h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; font-weight: 680;
  letter-spacing: -.01em; color: var(--k-ink); }
.k-head p { margin: 4px 0 0; color: var(--k-faint); font-size: .95rem; }

#k-query textarea, #k-query input { font-size: 1.05rem; padding: 12px 14px;
  background: var(--k-card); }
#k-search, #k-search-picture { min-height: 46px; font-weight: 600; }
#k-ask { align-items: flex-end; gap: 10px; }

.k-chips { min-width: 0; display: flex; flex-wrap: wrap; gap: 8px; align-items: center;
  color: var(--k-faint); font-size: .9rem; }
.k-chip { border: 1px solid var(--k-line); background: var(--k-card);
  color: var(--k-ink); border-radius: 99px; padding: 6px 12px; font: inherit;
  font-size: .88rem; cursor: pointer; max-width: 100%; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.k-chip:hover { border-color: var(--k-accent); color: var(--k-accent); }
.k-strip { display: grid; gap: 8px;
  grid-template-columns: repeat(auto-fill, minmax(76px, 1fr)); margin-top: 6px; }
.k-strip button { border: 1px solid var(--k-line); background: #fff; padding: 4px;
  border-radius: 10px; cursor: pointer; aspect-ratio: 1; }
.k-strip button:hover { border-color: var(--k-accent); }
.k-strip img { width: 100%; height: 100%; object-fit: contain; display: block; }
.k-strip-title { color: var(--k-faint); font-size: .9rem; margin: 0; }

.k-section { font-size: 1.1rem; font-weight: 650; margin: 22px 0 2px;
  color: var(--k-ink); }
.k-note { color: var(--k-faint); font-size: .88rem; margin: 0 0 12px; }
.k-alert { background: var(--k-warn-ground); color: var(--k-warn); border-radius: 10px;
  padding: 12px 14px; margin: 8px 0; overflow-wrap: anywhere; }
.k-grid { list-style: none; margin: 0; padding: 0; display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); }
.k-grid li { margin: 0; padding: 0; display: flex; }
.k-card { width: 100%; text-align: left; font: inherit; color: var(--k-ink);
  background: var(--k-card); border: 1px solid var(--k-line); border-radius: 14px;
  padding: 0; overflow: hidden; cursor: pointer; display: flex; flex-direction: column;
  box-shadow: var(--k-shadow); transition: transform .12s, border-color .12s; }
.k-card:hover { border-color: var(--k-accent); transform: translateY(-2px); }
.k-card .k-shot { background: #fff; aspect-ratio: 1; width: 100%; display: block;
  padding: 8px; }
.k-card img { width: 100%; height: 100%; object-fit: contain; display: block; }
.k-card .k-text { padding: 10px 12px 12px; display: flex; flex-direction: column;
  gap: 4px; flex: 1; border-top: 1px solid var(--k-line); }
.k-title { font-weight: 600; font-size: .95rem; line-height: 1.3; display: -webkit-box;
  -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden; }
.k-meta { color: var(--k-faint); font-size: .8rem; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.k-score { margin-top: auto; padding-top: 6px; font-size: .8rem; color: var(--k-faint);
  display: flex; align-items: center; gap: 8px;
  font-variant-numeric: tabular-nums; }
.k-score b { color: var(--k-ink); font-weight: 650; }
.k-bar { flex: 1; height: 5px; border-radius: 3px; background: var(--k-line);
  overflow: hidden; }
.k-bar i { display: block; height: 100%; background: var(--k-accent);
  border-radius: 3px; }
:is(.k-card, .k-chip, .k-word, .k-strip button, .k-close, .k-like):focus-visible {
  outline: 3px solid var(--k-accent); outline-offset: 2px; }

.k-facts { background: var(--k-card); border: 1px solid var(--k-line);
  border-radius: 14px; padding: 14px; margin: 16px 0 0; display: grid; gap: 18px;
  grid-template-columns: 150px repeat(auto-fit, minmax(190px, 1fr)); }
.k-facts > img { width: 150px; height: 150px; object-fit: contain; background: #fff;
  border-radius: 8px; }
.k-facts h3 { margin: 0 0 6px; font-size: .88rem; color: var(--k-faint);
  font-weight: 600; }
.k-facts ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 6px; }
.k-facts li { font-size: .92rem; display: grid; grid-template-columns: 1fr auto;
  gap: 2px 8px; }
.k-facts li .k-bar { grid-column: 1 / -1; }
.k-facts .k-caption { font-size: .95rem; margin: 0 0 6px; }
.k-facts .k-caption + .k-caption { color: var(--k-faint); font-size: .86rem; }

.k-detail { position: fixed; z-index: 60; top: 0; right: 0; bottom: 0;
  width: min(560px, 100vw); background: var(--k-card); color: var(--k-ink);
  box-shadow: var(--k-lift); border-left: 1px solid var(--k-line);
  overflow-y: auto; overscroll-behavior: contain; outline: none; }
.k-detail header { position: sticky; top: 0; z-index: 2; background: var(--k-card);
  display: flex; gap: 12px; align-items: flex-start; justify-content: space-between;
  padding: 16px 18px 12px; border-bottom: 1px solid var(--k-line); }
.k-detail h2 { margin: 0; font-size: 1.1rem; line-height: 1.3; font-weight: 650; }
.k-detail header p { margin: 2px 0 0; color: var(--k-faint); font-size: .85rem; }
.k-detail header > div { flex: 1; min-width: 0; }
.k-mini { width: 56px; height: 56px; object-fit: contain; background: #fff;
  border-radius: 8px; flex: none; }
.k-close { border: 1px solid var(--k-line); background: none; color: var(--k-ink);
  border-radius: 10px; min-width: 44px; height: 44px; font-size: 1.3rem;
  cursor: pointer; line-height: 1; flex: none; }
.k-body { padding: 14px 18px 28px; }
.k-frame { position: relative; width: fit-content; max-width: 100%; margin: 0 auto;
  background: #fff; border-radius: 10px; overflow: hidden; cursor: crosshair;
  border: 1px solid var(--k-line); }
.k-frame img { display: block; max-width: 100%; max-height: min(44vh, 420px); }
.k-frame canvas { position: absolute; pointer-events: none; }
.k-frame .k-box { position: absolute; pointer-events: none;
  box-shadow: 0 0 0 999px rgb(15 23 42 / .72);
  outline: 1.5px dashed rgb(255 255 255 / .8); }
.k-frame .k-peak { position: absolute; pointer-events: none; border-radius: 3px;
  border: 2px solid rgb(var(--k-warm)); box-shadow: 0 0 0 1px #fff; }
.k-hint { color: var(--k-faint); font-size: .86rem; margin: 12px 0 8px; }
.k-words { display: flex; flex-wrap: wrap; gap: 5px; }
.k-word { border: 1px solid transparent; border-radius: 7px; padding: 5px 8px;
  min-height: 34px; font: inherit; font-size: .98rem; color: var(--k-ink);
  cursor: pointer; background: rgb(var(--k-warm) / var(--k-heat, 0)); }
.k-word:hover { border-color: rgb(var(--k-warm)); }
.k-word[aria-pressed="true"] { border-color: rgb(var(--k-warm));
  box-shadow: 0 0 0 1px rgb(var(--k-warm)); font-weight: 650; }
.k-live { min-height: 3em; font-size: .88rem; margin: 10px 0 0; color: var(--k-ink); }
.k-detail dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 14px;
  margin: 14px 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
.k-detail dt { color: var(--k-faint); }
.k-detail dd { margin: 0; overflow-wrap: anywhere; }
.k-like { border: 1px solid var(--k-accent); background: none; color: var(--k-accent);
  border-radius: 10px; padding: 10px 16px; font: inherit; font-weight: 600;
  cursor: pointer; }
@media (max-width: 640px) {
  .gradio-container { padding: 0 12px 48px !important; }
  .k-head { padding-top: 16px; } .k-head h1 { font-size: 1.4rem; }
  #k-ask { flex-direction: column; align-items: stretch; }
  #k-ask > * { width: 100%; }
  .k-grid { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; }
  .k-card .k-text { padding: 8px 10px 10px; } .k-title { font-size: .88rem; }
  .k-facts { grid-template-columns: 1fr; }
  .k-facts > img { width: 100%; height: 180px; }
  .k-detail { width: 100vw; border-left: 0; }
  .k-frame img { max-height: 38vh; }
}
@media (prefers-reduced-motion: reduce) { .k-card { transition: none; } }
"""

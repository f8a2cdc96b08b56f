#include "page_priv.h"

#define LIGHT \
    "--paper:#fff;--card:#f6f7f9;--ink:#1a2330;--soft:#566273;--line:#e0e4ea;--edge:#8b96a5;--a:#1d63d8;--b:#c2480c"
#define DARK \
    "--paper:#10151c;--card:#171d26;--ink:#e7ebf1;--soft:#a2adbb;--line:#29323e;--edge:#6b7686;--a:#6aaeff;--b:#ffa05c"

const char cadp_style[] =
    ":root{color-scheme:light dark;" LIGHT "}\n"
    "@media (prefers-color-scheme:dark){:root{" DARK "}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--paper);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}\n"
    "main{max-width:1080px;margin:0 auto;padding:36px 24px 64px}\n"
    "h1{font-size:28px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}\n"
    "h2{font-size:19px;margin:40px 0 14px;padding-bottom:6px;border-bottom:1px solid var(--line)}\n"
    "h3{font-size:15px;margin:0 0 8px;font-weight:600}\n"
    "p{margin:0 0 12px}.lead{color:var(--soft)}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(158px,1fr));gap:12px;margin:24px 0 0}\n"
    ".tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}\n"
    ".tile b{display:block;font-size:25px;line-height:1.25;font-variant-numeric:tabular-nums}\n"
    ".tile span{display:block;color:var(--soft);font-size:12.5px}.tile .what{color:var(--ink);font-weight:600;font-size:13px}\n"
    ".grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px}\n"
    "figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 16px 12px}\n"
    "figcaption{color:var(--soft);font-size:13px;margin-top:6px}\n"
    "svg{display:block;width:100%;height:auto}svg text{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}\n"
    "svg .name{font-size:12.5px;fill:var(--ink)}\n"
    "svg .grid{stroke:var(--line);stroke-width:1}svg .axis{fill:none;stroke:var(--edge);stroke-width:1}\n"
    "svg .la,svg .lb,svg .ref,svg .thin,svg .faint{fill:none;stroke:var(--a);stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}\n"
    "svg .lb{stroke:var(--b)}svg .thin{stroke-width:1.4}svg .faint{stroke-width:1;opacity:.38}\n"
    "svg .ref{stroke:var(--edge);stroke-width:1.4;stroke-dasharray:5 5}svg .none{fill:none;stroke:var(--ink);stroke-width:1.2}\n"
    "svg .fa{fill:var(--a)}svg .fb{fill:var(--b)}svg .ring{fill:var(--card);stroke:var(--b);stroke-width:2.2}\n"
    ".key{display:inline-block;margin-right:16px;font-size:13px;white-space:nowrap}\n"
    ".key i{display:inline-block;width:18px;height:0;border-top:3px solid var(--a);vertical-align:middle;margin-right:6px}\n"
    ".key i.lb{border-color:var(--b)}.key i.ref{border-top:2px dashed var(--edge)}.key i.faint{border-top-width:2px;opacity:.45}.key i.none{border-top:2px solid var(--ink)}\n"
    ".key i.fa,.key i.fb{height:10px;width:10px;border:0;background:var(--a);border-radius:2px}.key i.fb{background:var(--b)}\n"
    ".key i.ring{height:10px;width:10px;border:2px solid var(--b);border-radius:50%}\n"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\n"
    "caption{text-align:left;color:var(--soft);font-size:13px;padding:0 0 6px}\n"
    "th,td{text-align:right;padding:6px 10px;border-bottom:1px solid var(--line);vertical-align:top}\n"
    "th{font-weight:600}th:first-child,td.text{text-align:left}thead th{color:var(--soft);font-weight:500;font-size:13px}\n"
    "tbody th{font-weight:500}td.soft{color:var(--soft)}td:not(.text):not([colspan]){white-space:nowrap}\n"
    "table.answers{table-layout:fixed}.answers pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font-size:12.5px}.answers th{text-align:left}.answers th:first-child{width:5em}\n"
    "figure table+table{margin-top:18px}.scroll{overflow-x:auto;margin-bottom:20px}\n"
    "details{margin-top:8px;font-size:13px}summary{cursor:pointer;color:var(--soft)}details th,details td{padding:3px 8px}\n"
    "ul{margin:0;padding-left:20px}li{margin:4px 0}\n"
    "footer{margin-top:40px;color:var(--soft);font-size:13px;border-top:1px solid var(--line);padding-top:12px}\n";

/* A table of texts becomes one text below the other. */
const char cadp_style_narrow[] =
    "@media(max-width:35em){.text.soft,th[style]{display:none}.answers,.answers tbody,.answers tr,.answers td{display:block}.answers tr:first-child{display:none}\n"
    ".answers td{border:0}.answers td:last-child{border-bottom:1px solid var(--line)}.answers td::before{content:'before';color:var(--soft);font-size:13px}\n"
    ".answers td:first-child::before{content:'record '}.answers td:last-child::before{content:'after'}.asked td:nth-child(2)::before{content:'question'}.asked td:nth-child(3)::before{content:'expected'}}\n";

const char cadp_style_on_paper[] =
    "@media print{:root{color-scheme:light;" LIGHT "}body{font-size:10pt}main{max-width:none;padding:0}h2{break-after:avoid;margin-top:22px}\n"
    "figure,.tile,tr{break-inside:avoid}.grid2{grid-template-columns:1fr 1fr;gap:10px}.tiles{grid-template-columns:repeat(5,1fr)}\n"
    ".scroll{overflow:visible}table{font-size:8.5pt}thead th{font-size:8pt}th,td{padding:4px 6px}td:not(.text):not([colspan]){white-space:normal}\n"
    ".tile b{font-size:17px}@page{margin:14mm}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}\n";

// How far readers and the model agree: a table that says beside its figures what they miss.

import { ask, make } from "../dom.js";
import { currentLanguage, finding, moment, t } from "../i18n.js";

const FIGURES = ["overall", "positive", "negative", "kappa", "sensitivity", "specificity"];

/** The page `/agreement`. */
export function agreementView(root) {
  const abort = new AbortController();
  document.title = `${t("agreement.title")} · Vigil`;
  root.append(make("p.empty", {}, t("loading")));

  async function load() {
    try {
      draw(await ask("/api/readings/statistics", abort.signal));
    } catch (error) {
      if (error.name === "AbortError") return;
      const why = error.status === 403 ? t("agreement.not_allowed") : t("failed", { code: error.code || "NETWORK" });
      root.replaceChildren(back(), make("p.alert", { role: "alert" }, why));
    }
  }

  function draw(found) {
    root.replaceChildren(make("div.agreement", {},
      back(),
      make("h1", {}, t("agreement.title")),
      make("p", {}, t("agreement.signed", {
        signed: found.signed_studies, studies: found.studies, twice: found.twice_signed_studies, readers: found.readers,
      })),
      make("ul.caveats", {}, found.caveats.map((one) => make("li", {},
        t(`caveat.${one.code}`, { signed: found.signed_studies, studies: found.studies }, true) ?? one.sentence))),
      found.findings.length
        ? table(t("agreement.model"), found.findings, true)
        : make("p.empty", {}, t("agreement.none")),
      found.between_readers.length > 0 && table(t("agreement.readers"), found.between_readers, false),
      make("p.quiet", {}, t("agreement.how"), " ", moment(found.generated_at)),
      make("p.quiet", {}, t("notice_long"))));
  }

  load();
  return {
    changed() {},
    close() {
      abort.abort();
    },
  };
}

const back = () => make("a.back", { href: "/", "data-link": true }, `← ${t("back")}`);

function table(caption, rows, hasModel) {
  const shown = hasModel ? FIGURES : FIGURES.slice(0, 4);
  const cells = hasModel ? ["both", "model_only", "reader_only", "neither"] : ["both", "first_only", "second_only", "neither"];
  return make("div.scrolled", { tabindex: 0, role: "region", "aria-label": caption }, make("table", {},
    make("caption", {}, caption),
    make("thead", {}, make("tr", {},
      make("th", { scope: "col" }, t("agreement.finding")),
      hasModel && make("th", { scope: "col" }, t("bundle")),
      make("th", { scope: "col" }, t("agreement.films")), make("th", { scope: "col" }, t("agreement.patients")),
      cells.map((name) => make("th", { scope: "col" }, t(`agreement.${name}`))),
      shown.map((name) => make("th", { scope: "col" }, t(`agreement.${name}`))))),
    make("tbody", {}, rows.map((one) => make("tr", {},
      make("th", { scope: "row" }, finding(one.label), hasModel && one.finding_key !== one.label && make("small", {}, ` ${one.finding_key}`)),
      hasModel && make("td", { title: one.bundle_digest }, `${one.bundle_id} ${one.bundle_digest.slice(0, 8)}`),
      make("td.count", {}, one.pictures), make("td.count", {}, one.patients),
      [one.table.both_positive, one.table.first_only, one.table.second_only, one.table.both_negative]
        .map((n) => make("td.count", {}, n)),
      shown.map((name) => make("td.count", {}, figure(one[name]))))))));
}

function figure(one) {
  if (one === null) return "–";
  const format = new Intl.NumberFormat(currentLanguage(), { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  return [make("b", {}, format.format(one.value)), make("small", {}, ` ${format.format(one.low)} – ${format.format(one.high)}`)];
}

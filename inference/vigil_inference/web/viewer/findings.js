// What the network says of a picture, each number with what it means.

import { make } from "../dom.js";
import { finding, percent, ratio, refusal, t } from "../i18n.js";
import { refused } from "../parts.js";
import { explained } from "./explain.js";

/** Whether a picture has not been analysed yet. */
export const waits = (one) => one.state === "received" && !one.code;

/** Every finding with its probability and threshold, or why there is none. */
export function saidOf(shown, viewer, isCaseLevel) {
  if (waits(shown)) return section("findings", make("p", {}, t("being_analysed")));
  if (shown.code) {
    return section("not_analysed_title", refused({ ...shown, pictures: 1 }),
      make("p.advice", {}, t(`advice.${shown.code}`, {}, true) ?? t("advice")),
      shown.reason !== refusal(shown.code, shown.reason) && make("p.quiet", { lang: "en" }, shown.reason));
  }
  if (isCaseLevel) return section("findings", make("p", {}, t("case_level")), make("p.quiet", {}, t("case_level_why")));
  const told = shown.findings.filter((one) => one.probability !== null)
    .sort((one, two) => two.flagged - one.flagged || two.probability - one.probability);
  return section("findings",
    !told.some((one) => one.flagged) && make("p", {}, t("no_flag")),
    make("ul.findings", {}, told.map((one) => line(one, shown, viewer))),
    make("p.quiet", {}, t("probability_meaning")));
}

function line(one, shown, viewer) {
  const bar = make("span.meter", { "aria-hidden": "true" },
    one.uncertain && make("span.band"), make("span.value"), make("span.mark"));
  bar.style.setProperty("--value", one.probability);
  bar.style.setProperty("--threshold", one.threshold ?? 1);
  if (one.uncertain) {
    bar.style.setProperty("--low", one.uncertain[0]);
    bar.style.setProperty("--high", one.uncertain[1]);
  }
  const name = make("span.name", {}, finding(one.label),
    one.experimental && explained(make("span.experimental", {}, t("experimental")), () => [t("experimental_long")]),
    isUncertain(one) && make("span.experimental", {}, t("uncertain")));
  const numbers = make("span.numbers", {}, explained(make("span.number", {}, make("b", {}, percent(one.probability)),
    one.threshold !== null && make("small", {}, t("over", { threshold: percent(one.threshold) }))),
  () => wordsOf(one, shown), `${finding(one.label)} ${percent(one.probability)}`));
  const button = one.heat_map && make("button.map", {
    type: "button", "aria-label": `${t("map_show")}: ${finding(one.label)}`, "data-map": one.label,
    "aria-pressed": String(viewer.mapLabel === one.label),
    onclick: () => viewer.showMap(viewer.mapLabel === one.label ? null : one.label),
  }, t("map"));
  return make("li", { "data-flagged": String(one.flagged), "data-priority": one.flagged ? one.priority : "ROUTINE" },
    name, bar, numbers, button || make("span"));
}

/** Whether present and absent cannot be told apart at this probability. */
export const isUncertain = (one) =>
  Boolean(one.uncertain) && one.probability >= one.uncertain[0] && one.probability <= one.uncertain[1];

function wordsOf(one, shown) {
  return [
    t("explain.probability", { n: percent(one.probability), bundle: shown.bundle_id }),
    one.threshold !== null && t("explain.threshold", { n: percent(one.threshold) }),
    one.critical_threshold !== null && t("explain.critical", { n: percent(one.critical_threshold) }),
    one.sensitivity !== null && t("operating_point", {
      sensitivity: percent(one.sensitivity), specificity: one.specificity === null ? "?" : percent(one.specificity),
    }),
    one.uncertain && t("explain.uncertain", { low: percent(one.uncertain[0]), high: percent(one.uncertain[1]) }),
    t("probability_meaning"),
    cardLink(),
  ].filter(Boolean);
}

/** A link to the model's card. */
export const cardLink = () => make("p", {}, make("a", { href: "/model", target: "_blank" }, t("model_card")));

/** The cardiothoracic ratio with its meaning, or why there is none. */
export function ratioOf(anatomy, view) {
  if (anatomy.cardiothoracic_ratio === null) {
    return make("span.ratio", {}, t("ratio_none", { why: t(`no_ratio.${anatomy.no_ratio}`) }));
  }
  const said = t("ratio", { n: ratio(anatomy.cardiothoracic_ratio) });
  const number = view === "AP" ? `${said} · ${t("ratio_ap")}` : said;
  return explained(make("strong.ratio", {}, number), () => [t("ratio_meaning"), cardLink()], number);
}

/** A titled part of the panel. */
export function section(title, ...children) {
  return make("section", {}, make("h2", {}, t(title)), ...children);
}

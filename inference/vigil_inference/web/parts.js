// Pieces that both views show.

import { make } from "./dom.js";
import { dicomAge, finding, percent, refusal, sex, t } from "./i18n.js";

const SIGNS = { CRITICAL: "!!", URGENT: "!", ROUTINE: "–", NOT_ANALYSED: "?", WAITING: "…" };

/** A study that only waits is not one that was refused. */
export const standing = (study) => (study.state === "received" ? "WAITING" : study.priority);

/** A priority as sign, word and colour: never by colour alone. */
export function badge(priority) {
  return make("span.badge", { "data-priority": priority },
    make("span.sign", { "aria-hidden": "true" }, SIGNS[priority]), t(`priority.${priority}`));
}

/** A finding over its threshold, with its calibrated probability. */
export function chip(flag) {
  return make("span.chip", { "data-priority": flag.priority, title: explain(flag) },
    make("span", {}, finding(flag.label)),
    make("b", {}, percent(flag.probability)),
    flag.uncertain && make("span.experimental", { title: t("uncertain_long") }, t("uncertain")),
    flag.experimental && make("span.experimental", { title: t("experimental_long") }, t("experimental")));
}

/** What a probability means. */
export function explain(item) {
  const values = {
    probability: percent(item.probability),
    threshold: item.threshold === null ? "?" : percent(item.threshold),
  };
  return t("explain", values);
}

/** Why pictures were not analysed: the stable code and a sentence. */
export function refused(item) {
  return make("p.refusal", { title: item.reason },
    make("code", {}, item.code),
    make("span", {}, refusal(item.code, item.reason),
      item.pictures > 1 && ` (${t("pictures", { n: item.pictures })})`));
}

/** Identity in one line, as far as it is known. */
export const identity = (patient) =>
  [patient.id, sex(patient.sex), dicomAge(patient.age)].filter(Boolean).join(" · ");

/** A patient's name, or that there is none. */
export const nameOf = (patient) => patient.display_name || t("no_name");

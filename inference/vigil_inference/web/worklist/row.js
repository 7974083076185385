// A row of the list.

import { may } from "../account.js";
import { make, picturePath } from "../dom.js";
import { dicomDate, moment, t, waiting } from "../i18n.js";
import { isMine, markName } from "../marks.js";
import { badge, chip, identity, nameOf, refused, standing } from "../parts.js";

/** Draw a study's row; `press(study)` takes it or gives it back. */
export function drawRow(study, press) {
  const uid = study.study_instance_uid;
  return make("article.row", { "data-priority": standing(study), "data-read": String(study.read_at !== null) },
    make("span.cell.is-priority", {}, badge(standing(study))),
    make("span.cell.is-picture", {}, thumbnail(study)),
    make("span.cell.is-patient", {},
      make("a.row-link", { href: `/studies/${encodeURIComponent(uid)}`, "data-link": true }, nameOf(study.patient)),
      make("small", {}, identity(study.patient)),
      study.identity_conflict && make("small.warning", {}, t("identity_conflict_short"))),
    make("span.cell.is-study", {},
      make("span", {}, study.study_description || t("no_description")),
      make("small", {}, [dicomDate(study.study_date), study.institution_name || study.source]
        .filter(Boolean).join(" · "))),
    make("span.cell.is-why", {}, why(study)),
    make("span.cell.is-waiting", {},
      make("time", {
        datetime: study.received_at, title: moment(study.received_at), "data-since": Date.parse(study.received_at),
        "data-until": study.read_at && Date.parse(study.read_at), "data-target": study.read_at ? null : study.target_seconds,
      }),
      make("small.target", {})),
    make("span.cell.is-reader", {}, reader(study, press)));
}

/** Say how long a row's study waits, against the site's target: by word and sign. */
export function tick(row, now) {
  const time = row.querySelector("time[data-since]");
  const said = row.querySelector(".target");
  const seconds = ((Number(time.dataset.until) || now) - Number(time.dataset.since)) / 1000;
  const target = Number(time.dataset.target);
  const isOverdue = target > 0 && seconds > target;
  write(time, waiting(seconds));
  write(said, isOverdue ? `⚠ ${t("overdue")}` : target > 0 ? t("target", { time: waiting(target) }) : "");
  said.classList.toggle("is-overdue", isOverdue);
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function reader(study, press) {
  const { assigned, being_read: open } = study;
  const said = [];
  if (study.read_at) said.push(make("small.mark.is-read", {}, `✓ ${t("read_by", { name: study.read_by || t("another_reader") })}`));
  if (open) said.push(make("small.mark.is-open", {}, `◉ ${isMine(open) ? t("being_read_by_me") : t("being_read_by", { name: markName(open) })}`));
  if (assigned) said.push(make("small.mark", {}, isMine(assigned) ? t("assigned_to_me") : t("assigned_to", { name: markName(assigned) })));
  if (may("read_studies") && !study.read_at) {
    const word = !assigned ? "take" : isMine(assigned) ? "give_back" : "take_over";
    said.push(make("button.take", {
      type: "button", "aria-label": `${t(word)}: ${nameOf(study.patient)}`, onclick: () => press(study),
    }, t(word)));
  }
  return said;
}

function why(study) {
  const parts = study.flags.map(chip);
  if (study.state === "analysed" && !parts.length) parts.push(make("span.quiet", {}, t("no_flag")));
  if (study.state === "received" && !study.refusals.length) {
    parts.push(make("span.quiet", {}, t("being_analysed")));
  }
  const by = study.raised && make("small", {}, `↑ ${t("raised_by", { who: study.raised.by, reason: study.raised.reason })}`);
  return [make("span.chips", {}, parts), by, ...study.refusals.map(refused)];
}

function thumbnail(study) {
  const sop = study.preview_sop_instance_uid;
  if (!sop || !may("see_pictures")) return make("span.no-picture", { "aria-hidden": "true" });
  return make("img", {
    src: picturePath(study.study_instance_uid, sop, "image.jpg?size=128"),
    alt: "", width: 64, height: 64, loading: "lazy", decoding: "async",
  });
}

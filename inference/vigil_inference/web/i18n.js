// The page's languages. All dictionaries hold the same words; a test compares them.

export const LANGUAGES = ["vi", "en", "fr"];
const STORED = "vigil-language";

let language = "en";
let words = {};
const loaded = {}; // dictionaries on their way or here, by language

function load(name) {
  loaded[name] ??= fetch(`/assets/i18n/${name}.json`).then((answer) => answer.json()).catch((error) => {
    delete loaded[name]; // the next attempt asks again
    throw error;
  });
  return loaded[name];
}

function preferred(siteLanguage) {
  const wanted = [localStorage.getItem(STORED), siteLanguage, ...navigator.languages];
  const found = wanted.map((tag) => (tag || "").slice(0, 2)).find((tag) => LANGUAGES.includes(tag));
  return found || "en";
}

/** Begin to fetch the words that will most likely be wanted, before the site's language is known. */
export function expectLanguage() {
  load(preferred("")).catch(() => {});
}

/** Choose a language: the reader's own choice, else the site's, else the browser's. */
export async function chooseLanguage(siteLanguage) {
  await useLanguage(preferred(siteLanguage));
}

/** Switch to a language and remember it if the reader asked for it. */
export async function useLanguage(tag, remember = false) {
  words = await load(tag);
  language = tag;
  if (remember) localStorage.setItem(STORED, tag);
  document.documentElement.lang = tag;
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = t(element.dataset.text);
  }
}

export const currentLanguage = () => language;

/**
 * A word or sentence; `{name}` in it is replaced. An unknown key gives null with `optional`.
 * Where there is a `key.one`, it is said of one, as the language counts, by `count` or else by `n`.
 */
export function t(key, values = {}, optional = false) {
  const text = (isOne(values.count ?? values.n) && words[`${key}.one`]) || words[key];
  if (text === undefined) return optional ? null : key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

// French says "0 région": zero is one there.
const isOne = (count) => Number.isFinite(count) && new Intl.PluralRules(language).select(count) !== "other";

/** A label of a finding. */
export const finding = (label) => t(`finding.${label}`, {}, true) ?? label.replaceAll("_", " ");

/** A sentence for a refusal code; the service's own words for one that the page does not know. */
export const refusal = (code, reason) => t(`code.${code}`, {}, true) ?? reason;

/** A calibrated probability: 87 %, 3.1 %, and never a certainty. */
export function percent(value) {
  if (value >= 0.995) return `> ${format(0.99, 0)}`;
  if (value < 0.0005) return `< ${format(0.001, 1)}`;
  return format(value, value >= 0.0995 ? 0 : 1);
}

const format = (value, digits) => new Intl.NumberFormat(language, {
  style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits,
}).format(value);

/** A ratio without a unit, to a hundredth. */
export const ratio = (value) => new Intl.NumberFormat(language, {
  minimumFractionDigits: 2, maximumFractionDigits: 2,
}).format(value);

/** A waiting time: 45 s, 12 min, 3 h 05, 2 d. */
export function waiting(seconds) {
  if (seconds < 60) return t("seconds", { n: Math.floor(Math.max(0, seconds)) });
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return t("minutes", { n: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return t("hours", { n: hours, m: String(minutes % 60).padStart(2, "0") });
  return t("days", { n: Math.floor(hours / 24) });
}

/** A moment in the reader's own time. */
export const moment = (iso) =>
  new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));

/** A DICOM date, YYYYMMDD. */
export function dicomDate(text) {
  const parts = /^(\d{4})(\d{2})(\d{2})$/.exec(text);
  if (!parts) return text;
  const date = new Date(Date.UTC(parts[1], parts[2] - 1, parts[3]));
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeZone: "UTC" }).format(date);
}

/** A DICOM age, nnnY, nnnM, nnnW or nnnD. */
export function dicomAge(text) {
  const parts = /^(\d{1,3})([YMWD])$/.exec(text.trim());
  return parts ? t(`age_${parts[2]}`, { n: Number(parts[1]) }) : text;
}

export const sex = (value) => t(`sex_${value}`, {}, true) ?? value;

// What a reader's statements come to: the same folding as the service's, with what is not saved yet.

export const placeOf = (sop, label) => `${sop} ${label}`;

/**
 * @param {object[]} statements in the order of saying
 * @param {(sop: string, label: string) => (boolean|null)} flagged what the model says; null nothing
 */
export function fold(statements, flagged) {
  const kept = [];
  for (const one of statements) {
    if (one.act !== "undo") kept.push(one);
    else if (kept.at(-1)?.id === one.undoes) kept.pop();
  }
  const findings = new Map();
  let note = "";
  let editions = 0;
  for (const one of kept) {
    const sop = one.sop_instance_uid;
    if (one.act === "sign_off") editions += 1;
    else if (one.act === "note") note = one.note;
    else if (one.act === "withdraw") findings.delete(placeOf(sop, one.label));
    else {
      const isPresent = { agree: flagged(sop, one.label) === true, disagree: flagged(sop, one.label) === false, add: true };
      const present = isPresent[one.act] ?? false;
      findings.set(placeOf(sop, one.label), { sop, label: one.label, present, regions: present ? one.regions ?? [] : [], said: one });
      if (one.act === "correct") {
        findings.set(placeOf(sop, one.instead), { sop, label: one.instead, present: true, regions: one.regions ?? [], said: one });
      }
    }
  }
  const last = kept.at(-1) ?? null;
  return { findings, note, editions, last, isSigned: last?.act === "sign_off" };
}

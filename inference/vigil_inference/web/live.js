// Live updates: the service tells the rows of the worklist that changed; views that show more of a
// study ask for it.

import { ask } from "./dom.js";

/**
 * Listen to the service's events until the function that is returned is called.
 * @param {(studyUid: string|null) => void} changed null when anything may have changed
 * @param {(connected: boolean) => void} connection
 */
export function listen(changed, connection) {
  let source;
  let retry = 1000;
  let stopped = false;
  const open = () => {
    if (stopped) return;
    source = new EventSource("/api/events?rows=true");
    source.addEventListener("hello", () => {
      retry = 1000;
      connection(true);
      changed(null); // whatever was missed while there was no connection
    });
    source.addEventListener("rows", (event) => {
      const detail = JSON.parse(event.data);
      document.dispatchEvent(new CustomEvent("worklist-rows", { detail }));
      for (const uid of [...detail.rows.map((row) => row.study_instance_uid), ...detail.gone]) changed(uid);
    });
    source.addEventListener("resync", () => changed(null));
    source.addEventListener("error", () => {
      connection(false);
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      ask("/api/me").catch(() => {}); // it tells the page if the session has ended
      setTimeout(open, retry);
      retry = Math.min(retry * 2, 15000);
    });
  };
  open();
  window.addEventListener("pagehide", () => source?.close());
  window.addEventListener("pageshow", (event) => event.persisted && open());
  return () => {
    stopped = true;
    source?.close();
  };
}

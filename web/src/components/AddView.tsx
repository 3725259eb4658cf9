import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { collections } from "../facets";
import { count, percent } from "../format";
import { add, busy, cancel, clear, counts, finished, items, looksLikeImage, retry, startedAt, waitingForMesh, type IngestItem } from "../ingest";
import { go, route } from "../route";
import { Icon } from "./icons";

const MOST_SHOWN = 100;

export function AddView(): JSX.Element {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const [captions, setCaptions] = useState(true);
  const { collection } = route.value;
  const take = (input: HTMLInputElement, onlyImages: boolean) => {
    const chosen = [...(input.files ?? [])];
    add(onlyImages ? chosen.filter(looksLikeImage) : chosen, collection, captions);
    input.value = "";
  };
  return (
    <div class="page">
      <h1>Add images</h1>
      <div class="drop" data-zone="add">
        <Icon name="upload" size={36} />
        <p>Drop images or a folder here</p>
        <div class="row">
          <button type="button" class="primary" onClick={() => files.current?.click()}>Choose images</button>
          <button type="button" onClick={() => folder.current?.click()}>Choose a folder</button>
        </div>
        <input ref={files} class="sr" type="file" multiple accept="image/*" tabIndex={-1} aria-label="Images to add" onChange={(event) => take(event.currentTarget, false)} />
        <input ref={folder} class="sr" type="file" multiple tabIndex={-1} aria-label="Folder to add" {...{ webkitdirectory: true }} onChange={(event) => take(event.currentTarget, true)} />
        <div class="row options">
          <label class="field inline">
            <span>Collection</span>
            <select value={collection} onChange={(event) => go({ collection: event.currentTarget.value, where: {}, groupBy: [] }, true)}>
              <option value="">Default</option>
              {collections.value.map((each) => <option key={each.name} value={each.name}>{each.name}</option>)}
            </select>
          </label>
          <label class="check"><input type="checkbox" checked={captions} onChange={() => setCaptions(!captions)} /> Write captions</label>
        </div>
      </div>
      {items.value.length > 0 && <Progress />}
    </div>
  );
}

function Progress(): JSX.Element {
  const total = items.value.length;
  const done = finished.value;
  const { created, updated, unchanged, skipped, failed, waiting, sending } = counts.value;
  const rate = useRate(done);
  const stored = created + updated + unchanged + skipped;
  const parts = [
    created && `${count(created)} new`, updated && `${count(updated)} changed`, unchanged && `${count(unchanged)} known already`,
    skipped && `${count(skipped)} left out`, failed && `${count(failed)} failed`, waiting + sending && `${count(waiting + sending)} to go`,
  ].filter(Boolean);
  const bad = items.value.filter((item) => item.state === "failed");
  const others = items.value.filter((item) => item.state !== "failed" && item.state !== "waiting");
  return (
    <section class="progress" aria-label="Progress">
      <div class="bar-head">
        <h2>{busy.value ? `${count(done)} of ${count(total)}` : failed ? `${count(stored)} of ${count(total)} stored` : "All stored"}</h2>
        <span class="muted">{rate}</span>
        <div class="row">
          {failed > 0 && !busy.value && <button type="button" class="primary" onClick={() => retry()}><Icon name="retry" size={16} /> Retry {count(failed)} failed</button>}
          {busy.value ? <button type="button" onClick={cancel}>Stop</button> : <button type="button" class="quiet" onClick={clear}>Clear</button>}
        </div>
      </div>
      <progress max={total} value={done} aria-label="Images stored" />
      <p role="status">{waitingForMesh.value && busy.value ? "Waiting for the mesh. " : ""}{parts.join(" · ")}</p>
      <ul class="files" aria-label="Files">
        {bad.slice(0, MOST_SHOWN).map((item) => <FileRow key={item.key} item={item} />)}
        {others.slice(-MOST_SHOWN).reverse().map((item) => <FileRow key={item.key} item={item} />)}
      </ul>
      {total > bad.slice(0, MOST_SHOWN).length + Math.min(others.length, MOST_SHOWN) && <p class="muted">The list shows {MOST_SHOWN} of each kind.</p>}
    </section>
  );
}

const SHOWN: Record<IngestItem["state"], string> = {
  waiting: "waiting", sending: "sending…", created: "stored", updated: "changed", unchanged: "known already", skipped: "left out", failed: "failed",
};

function FileRow({ item }: { item: IngestItem }): JSX.Element {
  return (
    <li class={`file ${item.state}`}>
      <Icon name={item.state === "failed" ? "warn" : item.state === "sending" ? "upload" : "check"} size={18} />
      <span class="file-name breakable">{item.name}</span>
      <span class="file-state">
        {item.id ? <a href={`/?image=${encodeURIComponent(item.id)}`} onClick={(event) => {
          event.preventDefault();
          go({ view: "search", image: item.id, collection: item.collection });
        }}>{SHOWN[item.state]}</a> : SHOWN[item.state]}
      </span>
      {item.state === "failed" && (
        <>
          <button type="button" class="quiet small" aria-label={`Retry ${item.name}`} onClick={() => retry(item.key)}>Retry</button>
          <span class="why breakable">{item.error}</span>
        </>
      )}
    </li>
  );
}

function useRate(done: number): string {
  const [, draw] = useState(0);
  useEffect(() => {
    if (!busy.value) return;
    const timer = window.setInterval(() => draw((old) => old + 1), 1000);
    return () => window.clearInterval(timer);
  }, [busy.value]);
  const seconds = (Date.now() - startedAt.value) / 1000;
  if (!busy.value || done < 2 || seconds < 1) return "";
  return `${(done / seconds).toFixed(1)} images/s · ${percent(done / Math.max(1, items.value.length))}`;
}

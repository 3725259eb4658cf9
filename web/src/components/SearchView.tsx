import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { count } from "../format";
import { go, question, route } from "../route";
import { hits, load, loadMore, results } from "../results";
import { Filters } from "./Filters";
import { Grid } from "./Grid";
import { Icon } from "./icons";
import { SearchBox } from "./SearchBox";
import { TraceId } from "./TraceId";

export function SearchView(): JSX.Element {
  const [open, setOpen] = useState(false);
  const { where, groupBy, minRelevance } = route.value;
  const chosen = Object.values(where).flat().length + (groupBy.length ? 1 : 0) + (minRelevance ? 1 : 0);
  const asked = useRef(question.value);
  useEffect(() => {
    if (asked.current !== question.value) window.scrollTo({ top: 0 });
    asked.current = question.value;
  }, [question.value]);
  return (
    <div class="search-view">
      <h1 class="sr">Search images</h1>
      <SearchBox />
      <div class="columns">
        <button type="button" class="filters-toggle" aria-expanded={open} aria-controls="filters" onClick={() => setOpen(!open)}>
          <Icon name="filter" /> Filters{chosen ? <span class="badge">{chosen}</span> : null}
        </button>
        <aside id="filters" class={open ? "open" : ""} aria-label="Filters">
          <Filters />
        </aside>
        <section class="found" aria-label="Results" aria-busy={results.value.phase === "loading"}>
          <Summary />
          <Body />
        </section>
      </div>
    </div>
  );
}

function Summary(): JSX.Element {
  const { phase, isSearch, total, more, milliseconds, traceId, sections, failedQueries } = results.value;
  const number = hits.value.length;
  let text = "";
  if (phase === "loading") text = "Searching…";
  else if (phase === "ready" && !number) text = "No images";
  else if (phase === "ready") {
    const many = total !== null && !isSearch ? count(total) : `${count(number)}${more ? "+" : ""}`;
    text = `${many} ${number === 1 ? "image" : "images"}`;
    if (sections.length > 1 || sections[0]?.values) text += ` in ${count(sections.length)} ${sections.length === 1 ? "group" : "groups"}`;
  }
  return (
    <div class="summary">
      <p role="status">{text}</p>
      {phase === "ready" && isSearch && <span class="muted">{Math.round(milliseconds)} ms</span>}
      {phase === "ready" && traceId && <TraceId id={traceId} />}
      {failedQueries.map((each) => <p key={each} class="note">Left out: {each}</p>)}
    </div>
  );
}

function Body(): JSX.Element {
  const { phase, sections, error, isSearch, more, loadingMore } = results.value;
  if (phase === "failed" && error) {
    return (
      <div class="state" role="alert">
        <Icon name="warn" size={32} />
        <h2>{error.reason === "UPLOAD_GONE" ? "This image is gone" : "The search did not work"}</h2>
        <p>{error.message}</p>
        {error.reason !== "UPLOAD_GONE" && <button type="button" onClick={() => void load()}>Try again</button>}
      </div>
    );
  }
  if (!hits.value.length && phase === "loading") return <Skeleton />;
  if (!hits.value.length) {
    const filtered = Object.keys(route.value.where).length > 0 || route.value.minRelevance > 0;
    return (
      <div class="state">
        <Icon name={isSearch || filtered ? "search" : "image"} size={32} />
        <h2>{isSearch || filtered ? "Nothing found" : "No images yet"}</h2>
        <p>{filtered ? isSearch ? "Try other words, or fewer filters." : "No image passes the filters." : isSearch ? "Try other words, or an image." : "Drop images or a folder anywhere on this page to add them."}</p>
        {filtered && <button type="button" onClick={() => go({ where: {}, minRelevance: 0 })}>Clear the filters</button>}
        {!isSearch && !filtered && <button type="button" class="primary" onClick={() => go({ view: "add" })}>Add images</button>}
      </div>
    );
  }
  return (
    <>
      <Grid sections={sections} busy={phase === "loading"} onEnd={() => void loadMore()} />
      <div class="end">
        {loadingMore && <p class="muted">Loading more…</p>}
        {error && <p class="note" role="alert">{error.message} <button type="button" onClick={() => void loadMore()}>Try again</button></p>}
        {!loadingMore && !error && more && <button type="button" onClick={() => void loadMore()}>Show more</button>}
      </div>
    </>
  );
}

function Skeleton(): JSX.Element {
  return (
    <div class="skeleton" aria-hidden="true">
      {Array.from({ length: 12 }, (_, at) => <div key={at} />)}
    </div>
  );
}

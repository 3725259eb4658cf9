import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { status, trouble, unhealthy } from "../connection";
import { address, follow, route, type View } from "../route";
import { nextTheme, theme } from "../theme";
import { busy, finished, items } from "../ingest";
import { AddView } from "./AddView";
import { Banner } from "./Banner";
import { DropZone } from "./DropZone";
import { Icon, Logo } from "./icons";
import { JobsView } from "./JobsView";
import { Lightbox } from "./Lightbox";
import { MeshView } from "./MeshView";
import { SearchView } from "./SearchView";

const NAMES: Record<View, string> = { search: "Search", add: "Add images", jobs: "Jobs", mesh: "Mesh" };

export function App(): JSX.Element {
  const { view, terms } = route.value;
  useEffect(() => {
    const text = terms.filter((term) => term.kind !== "upload" && term.kind !== "like").map((term) => term.value).join(", ");
    document.title = view !== "search" ? `${NAMES[view]} · lensmesh` : text ? `${text} · lensmesh` : "lensmesh";
  }, [view, terms]);
  return (
    <>
      <a class="skip" href="#main">Skip to the content</a>
      <header class="top">
        <a class="brand" href="/" onClick={(event) => follow(event, { view: "search", terms: [], where: {}, groupBy: [], minRelevance: 0, image: "" })}>
          <Logo />
          <span>lensmesh</span>
        </a>
        <nav aria-label="Views">
          {(Object.keys(NAMES) as View[]).map((each) => (
            <a key={each} href={address({ ...route.value, view: each, image: "" })} aria-current={view === each ? "page" : undefined} onClick={(event) => follow(event, { view: each, image: "" })}>
              {each === "mesh" && <Health />}
              {NAMES[each]}
              {each === "add" && busy.value && <span class="badge">{Math.round((100 * finished.value) / Math.max(1, items.value.length))}%</span>}
            </a>
          ))}
        </nav>
        <button type="button" class="quiet square" onClick={nextTheme} title={`Colours: ${theme.value}`} aria-label={`Colours: ${theme.value === "auto" ? "as the system" : theme.value}. Change`}>
          <Icon name={theme.value} />
        </button>
      </header>
      <Banner />
      <main id="main" tabIndex={-1}>
        {view === "search" && <SearchView />}
        {view === "add" && <AddView />}
        {view === "jobs" && <JobsView />}
        {view === "mesh" && <MeshView />}
      </main>
      <Lightbox />
      <DropZone />
    </>
  );
}

function Health(): JSX.Element {
  const state = trouble.value !== null ? "bad" : unhealthy.value.length ? "warn" : status.value ? "good" : "unknown";
  const words = { bad: "not reachable", warn: "partly serving", good: "serving", unknown: "not asked yet" }[state];
  return (
    <span class={`dot ${state}`} title={words}>
      <span class="sr">({words}) </span>
    </span>
  );
}

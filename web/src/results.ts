import { computed, effect, signal } from "@preact/signals";
import { ApiError, ask, withParams } from "./api";
import { comebacks, status, trouble } from "./connection";
import { busy, everStored } from "./ingest";
import { question, route, type Route, type Term } from "./route";
import type { Group, Hit, ImagesPage, SearchAnswer } from "./types";
import { uploadOf } from "./uploads";

/** What was found: pages of hits, or of images where nothing is searched for. */

const BROWSE_PAGE = 200;

export interface Section {
  /** Values of the fields that make the group; null where there are no groups. */
  values: Record<string, unknown> | null;
  hits: Hit[];
}

export interface Results {
  phase: "loading" | "ready" | "failed";
  sections: Section[];
  isSearch: boolean;
  total: number | null;
  more: string | null;
  loadingMore: boolean;
  error: ApiError | null;
  traceId: string;
  milliseconds: number;
  exact: boolean;
  failedQueries: string[];
}

const NOTHING: Results = {
  phase: "loading", sections: [], isSearch: false, total: null, more: null, loadingMore: false, error: null, traceId: "",
  milliseconds: 0, exact: false, failedQueries: [],
};

export const results = signal<Results>(NOTHING);
export const hits = computed(() => results.value.sections.flatMap((section) => section.hits));

/** The greatest score of each leg among what is shown: legs of different kinds have no common scale. */
export const legMaxima = computed(() => {
  const found = new Map<string, number>();
  for (const hit of hits.value) for (const leg of hit.legs ?? []) found.set(leg.name, Math.max(found.get(leg.name) ?? 0, Math.abs(leg.score)));
  return found;
});

/** What had been stored when the results were asked for. */
export const storedThen = signal(0);

let running: AbortController | null = null;

/** Return the filter of a route as the contract writes it, or null. `except` leaves a field out. */
export function filterOf(where: Route["where"], except = ""): object | null {
  const filters = Object.entries(where)
    .filter(([field, values]) => field !== except && values.length)
    .map(([field, values]) => ({ condition: { field, one_of: values } }));
  return filters.length ? { all: { filters } } : null;
}

/** Return what people call a leg: the term that it searches for. */
export function legLabel(name: string): string {
  const term = route.value.terms[Number(/^term (\d+)$/.exec(name)?.[1] ?? 0) - 1];
  if (!term) return name || "image";
  if (term.kind === "upload") return "your image";
  return term.kind === "like" ? "like an image" : term.kind === "words" ? `“${term.value}”` : term.kind === "not" ? `not ${term.value}` : term.value;
}

/** Look anew for what the route asks. Hits that are shown stay until the answer. */
export async function load(): Promise<void> {
  running?.abort();
  const mine = (running = new AbortController());
  const now = route.peek();
  storedThen.value = everStored.peek();
  results.value = { ...results.peek(), phase: "loading", error: null };
  const began = performance.now();
  try {
    const found = now.terms.length ? await search(now, 0, mine.signal) : await browse(now, "", mine.signal);
    if (!mine.signal.aborted) results.value = { ...NOTHING, ...found, phase: "ready", milliseconds: performance.now() - began };
  } catch (error) {
    if (mine.signal.aborted) return;
    // The mesh makes its default collection when the first image comes.
    if (error instanceof ApiError && error.reason === "COLLECTION_NOT_FOUND" && !now.collection) {
      results.value = { ...NOTHING, phase: "ready" };
      return;
    }
    results.value = { ...NOTHING, phase: "failed", isSearch: now.terms.length > 0, error: asApiError(error) };
  }
}

/** Take in the next page of what is shown, if there is one and none is on its way. */
export async function loadMore(): Promise<void> {
  const shown = results.peek();
  const mine = running;
  if (!shown.more || shown.loadingMore || shown.phase !== "ready" || !mine) return;
  results.value = { ...shown, loadingMore: true, error: null };
  const now = route.peek();
  try {
    const found = shown.isSearch ? await search(now, Number(shown.more), mine.signal) : await browse(now, shown.more, mine.signal);
    if (mine.signal.aborted) return;
    const known = new Set(hits.peek().map((hit) => hit.image.id));
    const fresh = (found.sections?.[0]?.hits ?? []).filter((hit) => !known.has(hit.image.id));
    const all = [...(results.peek().sections[0]?.hits ?? []), ...fresh];
    results.value = { ...results.peek(), loadingMore: false, more: found.more ?? null, sections: [{ values: null, hits: all }] };
  } catch (error) {
    if (!mine.signal.aborted) results.value = { ...results.peek(), loadingMore: false, error: asApiError(error) };
  }
}

async function search(now: Route, offset: number, signal: AbortSignal): Promise<Partial<Results>> {
  const limit = Math.min(now.limit, told("max_hits"));
  const body = {
    ...(now.collection && { collection: now.collection }),
    queries: now.terms.map((term, at) => query(term, at)).filter((each) => each !== null),
    limit,
    ...(offset && { offset }),
    ...(filterOf(now.where) && { filter: filterOf(now.where) }),
    ...(now.groupBy.length && { group_by: { fields: now.groupBy, size: 6 } }),
    ...(now.minRelevance && { min_relevance: now.minRelevance }),
    partial: true,
  };
  const upload = now.terms.find((term) => term.kind === "upload");
  let init: RequestInit = { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" }, signal };
  if (upload) {
    const file = uploadOf(upload.value);
    if (!file) throw new ApiError(400, "The image of this search is not part of its address. Drop or choose it again.", "UPLOAD_GONE");
    const form = new FormData();
    form.append("image", file, "image");
    form.append("request", JSON.stringify(body));
    init = { method: "POST", body: form, signal };
  }
  const { value, traceId } = await ask<SearchAnswer>("/v1/search", init);
  const groups = now.groupBy.length ? value.groups : null;
  const found = value.hits ?? [];
  return {
    sections: groups ? sectionsOf(groups) : [{ values: null, hits: found }],
    isSearch: true,
    more: !groups && found.length >= limit && offset + found.length <= told("max_offset") ? String(offset + found.length) : null,
    traceId,
    exact: value.exact ?? false,
    failedQueries: (value.failed_queries ?? []).map((each) => `${legLabel(each.name)}: ${each.error.message ?? "failed"}`),
  };
}

/** Return a limit of the mesh, if that is known yet. */
const told = (name: string): number => Number(status.peek()?.limits?.[name]) || Infinity;

/** Each group is a section; what lacks the fields, a group of its own each time, is one section at the end. */
function sectionsOf(groups: Group[]): Section[] {
  const named = groups.filter((group) => Object.keys(group.values).length);
  const others = groups.filter((group) => !Object.keys(group.values).length).flatMap((group) => group.hits);
  return [...named, ...(others.length ? [{ values: {}, hits: others }] : [])];
}

function query(term: Term, at: number): object | null {
  const name = `term ${at + 1}`;
  switch (term.kind) {
    case "text": return { name, text: term.value };
    case "not": return { name, text: term.value, weight: -1 };
    case "words": return { name, words: term.value };
    case "like": return { name, id: term.value };
    case "upload": return null;
  }
}

async function browse(now: Route, token: string, signal: AbortSignal): Promise<Partial<Results>> {
  const filter = filterOf(now.where);
  const path = withParams("/v1/images", {
    collection: now.collection, page_size: Math.min(told("max_page_size"), Math.max(now.limit, BROWSE_PAGE)), page_token: token,
    filter: filter && JSON.stringify(filter),
  });
  const { value, traceId } = await ask<ImagesPage>(path, { signal });
  return {
    sections: [{ values: null, hits: (value.images ?? []).map((image) => ({ image })) }],
    isSearch: false,
    total: value.total ?? null,
    more: value.next_page_token || null,
    traceId,
  };
}

function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, `The answer could not be read (${String(error)}).`);
}

/** Begin to look for what the route asks whenever it asks for something else, and again once the mesh is back. */
export function watchQuestion(): void {
  effect(() => {
    void question.value;
    void load();
  });
  effect(() => {
    // Images that were added meanwhile are shown once somebody looks, and all at once: not while they still come.
    if (route.value.view === "search" && !busy.value && everStored.value !== storedThen.peek()) void load();
  });
  effect(() => {
    if (comebacks.value === 0 || trouble.peek() !== null) return;
    const shown = results.peek();
    if (shown.phase === "failed" && shown.error?.isTemporary) void load();
    else if (shown.error) void loadMore();
  });
}

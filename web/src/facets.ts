import { computed, effect, signal } from "@preact/signals";
import { ApiError, ask, withParams } from "./api";
import { comebacks, status } from "./connection";
import { filterOf, storedThen } from "./results";
import { route } from "./route";
import type { Collection, Facet, FacetsAnswer } from "./types";

/** The collections, and how often each value of the indexed fields stands in the one that is searched. */

const MOST_VALUES = 40;

export const collections = signal<Collection[]>([]);
export const facets = signal<Facet[]>([]);
export const facetTrouble = signal("");

const present = computed(() => {
  const name = route.value.collection || status.value?.default_collection;
  return collections.value.find((each) => each.name === name) ?? (name ? undefined : collections.value[0]);
});
/** Fields that facets count: words of texts and points in time have too many values. */
export const groupFields = computed(() =>
  (present.value?.fields ?? []).filter((each) => !/TEXT|TIME/i.test(each.type ?? "")).map((each) => each.field),
);

const wanted = computed(() => JSON.stringify([route.value.collection, groupFields.value, route.value.where, comebacks.value, storedThen.value]));

let running: AbortController | null = null;

async function loadCollections(): Promise<void> {
  try {
    collections.value = (await ask<{ collections: Collection[] }>("/v1/collections")).value.collections ?? [];
  } catch {
    // Without them the search works all the same; they are asked for again once the mesh is back.
  }
}

async function loadFacets(): Promise<void> {
  running?.abort();
  const { signal } = (running = new AbortController());
  const { collection, where } = route.peek();
  const fields = groupFields.peek();
  if (!fields.length) {
    facets.value = [];
    return;
  }
  // A field's own choice does not take away its other values: it is counted without it.
  const chosen = fields.filter((field) => where[field]?.length);
  const others = fields.filter((field) => !chosen.includes(field));
  const count = async (some: string[], except: string): Promise<Facet[]> => {
    if (!some.length) return [];
    const filter = filterOf(where, except);
    const params = { collection, fields: some.join(","), limit: MOST_VALUES, filter: filter && JSON.stringify(filter) };
    return (await ask<FacetsAnswer>(withParams("/v1/facets", params), { signal })).value.facets ?? [];
  };
  try {
    const found = (await Promise.all([count(others, ""), ...chosen.map((field) => count([field], field))])).flat();
    if (signal.aborted) return;
    facets.value = fields.map((field) => found.find((each) => each.field === field)).filter((each) => each !== undefined);
    facetTrouble.value = "";
  } catch (error) {
    if (signal.aborted) return;
    facetTrouble.value = error instanceof ApiError && !error.isTemporary && error.reason !== "COLLECTION_NOT_FOUND" ? error.message : "";
  }
}

/** Keep the collections and facets as the route asks. */
export function watchFacets(): void {
  effect(() => {
    void comebacks.value;
    void storedThen.value;
    void loadCollections();
  });
  effect(() => {
    void wanted.value;
    void loadFacets();
  });
}

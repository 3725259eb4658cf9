import { computed, signal } from "@preact/signals";
import type { Scalar } from "./types";

/** What the page shows stands in its address: it can be shared, and Back works. */

export type View = "search" | "add" | "jobs" | "mesh";
export type TermKind = "text" | "words" | "not" | "like" | "upload";

export interface Term {
  kind: TermKind;
  value: string;
}

export interface Route {
  view: View;
  terms: Term[];
  collection: string;
  where: Record<string, Scalar[]>;
  groupBy: string[];
  minRelevance: number;
  limit: number;
  image: string;
}

export const PAGE_SIZE = 100;
const PARAM: Record<TermKind, string> = { text: "q", words: "words", not: "not", like: "like", upload: "upload" };
const KIND = Object.fromEntries(Object.entries(PARAM).map(([kind, name]) => [name, kind])) as Record<string, TermKind>;
const WHERE = "where.";
const VIEWS: View[] = ["search", "add", "jobs", "mesh"];

/** Return the route that an address tells; what cannot be read is left out. */
export function parse(search: string): Route {
  const params = new URLSearchParams(search);
  const route: Route = { view: "search", terms: [], collection: "", where: {}, groupBy: [], minRelevance: 0, limit: PAGE_SIZE, image: "" };
  for (const [name, value] of params) {
    const kind = KIND[name];
    if (kind && value) route.terms.push({ kind, value });
    else if (name.startsWith(WHERE)) (route.where[name.slice(WHERE.length)] ??= []).push(scalar(value));
    else if (name === "view" && VIEWS.includes(value as View)) route.view = value as View;
    else if (name === "collection") route.collection = value;
    else if (name === "group_by") route.groupBy = value.split(",").filter(Boolean);
    else if (name === "min_relevance") route.minRelevance = Math.min(1, Math.max(0, Number(value) || 0));
    else if (name === "limit") route.limit = Math.min(10_000, Math.max(1, Math.floor(Number(value)) || PAGE_SIZE));
    else if (name === "image") route.image = value;
  }
  return route;
}

/** Return the address of a route. */
export function address(route: Route): string {
  const params = new URLSearchParams();
  if (route.view !== "search") params.set("view", route.view);
  for (const term of route.terms) params.append(PARAM[term.kind], term.value);
  if (route.collection) params.set("collection", route.collection);
  for (const [field, values] of Object.entries(route.where)) for (const value of values) params.append(WHERE + field, written(value));
  if (route.groupBy.length) params.set("group_by", route.groupBy.join(","));
  if (route.minRelevance) params.set("min_relevance", String(route.minRelevance));
  if (route.limit !== PAGE_SIZE) params.set("limit", String(route.limit));
  if (route.image) params.set("image", route.image);
  const text = params.toString();
  return text ? `/?${text}` : "/";
}

// A string stands as it is unless it reads like a number, a truth value or a quoted string.
function scalar(text: string): Scalar {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
  } catch {
    // Plain text.
  }
  return text;
}

function written(value: Scalar): string {
  return typeof value === "string" && scalar(value) === value ? value : JSON.stringify(value);
}

export const route = signal<Route>(parse(location.search));
/** What decides about the results: the same string means the same search. */
export const question = computed(() => address({ ...route.value, view: "search", image: "" }));

/** Go to what differs from the present route. `replace` leaves no step for Back. */
export function go(change: Partial<Route>, replace = false): void {
  const next = { ...route.value, ...change };
  const target = address(next);
  if (target === address(route.value)) return;
  if (replace) history.replaceState(history.state, "", target);
  else history.pushState({ pushed: true }, "", target);
  route.value = next;
}

/** Close the image that is open: Back, where opening it was a step of its own. */
export function closeImage(): void {
  if ((history.state as { pushed?: boolean } | null)?.pushed) history.back();
  else go({ image: "" }, true);
}

window.addEventListener("popstate", () => {
  route.value = parse(location.search);
});

/** Follow a link of the page without loading it anew, unless another tab is asked for. */
export function follow(event: MouseEvent, change: Partial<Route>): void {
  if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(change);
}

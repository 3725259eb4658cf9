import { go, route, type Term } from "./route";
import { keepUpload } from "./uploads";

/** Return the terms that a line names: `a red car "stop sign" -night`. Quoted words are exact, a minus leaves out. */
export function readTerms(line: string): Term[] {
  const terms: Term[] = [];
  const plain = line.replace(/(^|\s)(-?)"([^"]+)"|(^|\s)-([^\s"-][^\s"]*)/g, (_, _a, minus: string, quoted: string, _b, left: string) => {
    if (quoted?.trim()) terms.push({ kind: minus ? "not" : "words", value: quoted.trim() });
    else if (left) terms.push({ kind: "not", value: left });
    return " ";
  });
  const text = plain.replace(/\s+/g, " ").trim();
  return text ? [{ kind: "text", value: text }, ...terms] : terms;
}

const same = (one: Term, other: Term): boolean => one.kind === other.kind && one.value === other.value;

/** The queries that one search may have. */
export const MOST_TERMS = 8;

/** Search for these terms too. */
export function addTerms(added: Term[]): void {
  const kept = route.value.terms.filter((term) => !added.some((each) => same(each, term)));
  go({ terms: [...kept, ...added].slice(-MOST_TERMS), view: "search", image: "" });
}

/** Search no longer for this term. */
export function removeTerm(term: Term): void {
  go({ terms: route.value.terms.filter((each) => !same(each, term)) });
}

/** Mean a term in another way: by meaning, by its very words, or as what is left out. */
export function turnTerm(term: Term): void {
  const next = term.kind === "text" ? "words" : term.kind === "words" ? "not" : "text";
  go({ terms: route.value.terms.map((each) => (same(each, term) ? { kind: next, value: term.value } : each)) });
}

/** Search by an image of this device. */
export function searchByImage(file: File): void {
  const rest = route.value.terms.filter((term) => term.kind !== "upload" && term.kind !== "like");
  go({ terms: [{ kind: "upload", value: keepUpload(file) }, ...rest], view: "search", image: "" });
}

/** Search for what looks like an image of the collection. */
export function moreLike(id: string): void {
  go({ terms: [{ kind: "like", value: id }], view: "search", image: "" });
}

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { collections, facets, facetTrouble, groupFields } from "../facets";
import { count, percent, shown } from "../format";
import { go, route, type Route } from "../route";
import type { Scalar } from "../types";

export function Filters(): JSX.Element {
  const { collection, groupBy, where, terms, minRelevance } = route.value;
  const names = collections.value.map((each) => each.name);
  return (
    <>
      {(names.length > 1 || collection) && (
        <label class="field">
          <span>Collection</span>
          <select value={collection} onChange={(event) => go({ collection: event.currentTarget.value, where: {}, groupBy: [], image: "" })}>
            <option value="">Default</option>
            {[...new Set([...names, ...(collection ? [collection] : [])])].map((name) => <option key={name} value={name}>{name}</option>)}
          </select>
        </label>
      )}
      {terms.length > 0 && (
        <>
          <label class="field">
            <span>Group by</span>
            <select value={groupBy.join(",")} onChange={(event) => go({ groupBy: event.currentTarget.value.split(",").filter(Boolean) })}>
              <option value="">No groups</option>
              {[...new Set([...groupFields.value, ...groupBy])].map((field) => <option key={field} value={field}>{field}</option>)}
            </select>
          </label>
          <Relevance value={minRelevance} />
        </>
      )}
      {facetTrouble.value && <p class="note">{facetTrouble.value}</p>}
      {facets.value.map((facet) => <FacetList key={facet.field} field={facet.field} values={facet.values} chosen={where[facet.field] ?? []} />)}
      {Object.keys(where).length > 0 && (
        <button type="button" class="quiet" onClick={() => go({ where: {} })}>Clear the filters</button>
      )}
    </>
  );
}

function Relevance({ value }: { value: number }): JSX.Element {
  const [shownValue, setShown] = useState(value);
  useEffect(() => setShown(value), [value]);
  return (
    <label class="field">
      <span>Relevance at least <span>{percent(shownValue)}</span></span>
      <input type="range" min="0" max="1" step="0.05" value={shownValue} onInput={(event) => setShown(Number(event.currentTarget.value))} onChange={(event) => go({ minRelevance: Number(event.currentTarget.value) })} />
    </label>
  );
}

interface FacetProps {
  field: string;
  values: { value: Scalar; count: number | string }[];
  chosen: Scalar[];
}

const FEW = 7;

function FacetList({ field, values, chosen }: FacetProps): JSX.Element | null {
  const [all, setAll] = useState(false);
  const missing = chosen.filter((value) => !values.some((each) => each.value === value)).map((value) => ({ value, count: 0 }));
  const rows = [...values, ...missing];
  if (!rows.length) return null;
  const sum = Math.max(1, rows.reduce((all, row) => all + Number(row.count), 0));
  const visible = all ? rows : rows.filter((row, at) => at < FEW || chosen.includes(row.value));
  return (
    <fieldset class="facet">
      <legend>{field}</legend>
      {visible.map((row) => (
        <label key={`${typeof row.value} ${row.value}`}>
          <input type="checkbox" checked={chosen.includes(row.value)} onChange={() => go({ where: turned(route.value.where, field, row.value) })} />
          <span class="value">{shown(row.value)}</span>
          <span class="count">{count(row.count)}</span>
          <span class="bar" aria-hidden="true"><span style={{ width: percent(Number(row.count) / sum) }} /></span>
        </label>
      ))}
      {rows.length > FEW && <button type="button" class="quiet small" onClick={() => setAll(!all)}>{all ? "Fewer" : `All ${rows.length}`}</button>}
    </fieldset>
  );
}

function turned(where: Route["where"], field: string, value: Scalar): Route["where"] {
  const present = where[field] ?? [];
  const next = present.includes(value) ? present.filter((each) => each !== value) : [...present, value];
  const { [field]: _, ...others } = where;
  return next.length ? { ...others, [field]: next } : others;
}

/**
 * Conditions on metadata, as a search's `filter`:
 *
 *     all(equals("animal", "cat"), range("year", { atLeast: 2020 }), not(exists("deleted")))
 */
import { create, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { type Value, ValueSchema } from "@bufbuild/protobuf/wkt";
import { type Condition, ConditionSchema, type Filter, FilterSchema } from "./gen/lensmesh/search/v1/search_pb.js";

/** The field has this value, of the same type. */
export function equals(field: string, to: string | number | boolean): Filter {
  return condition(field, { case: "equals", value: value(to) });
}

/** The field has one of these values. */
export function oneOf(field: string, values: readonly (string | number | boolean)[]): Filter {
  const list = { $typeName: "google.protobuf.ListValue" as const, values: values.map(value) };
  return condition(field, { case: "oneOf", value: list });
}

/** Numbers, and times as RFC 3339 has them. */
export interface Bounds {
  readonly atLeast?: string | number;
  readonly above?: string | number;
  readonly atMost?: string | number;
  readonly below?: string | number;
}

/** The field lies within all of these bounds. */
export function range(field: string, bounds: Bounds): Filter {
  const given = Object.entries(bounds).filter(([, bound]) => bound !== undefined);
  const values = Object.fromEntries(given.map(([name, bound]) => [name, value(bound as string | number)]));
  return condition(field, { case: "range", value: { $typeName: "lensmesh.search.v1.Range", ...values } });
}

/** The field is there and not null. */
export function exists(field: string): Filter {
  return condition(field, { case: "exists", value: true });
}

/** The field's text has all of these words. */
export function matches(field: string, words: string): Filter {
  return condition(field, { case: "matches", value: words });
}

/** All of these hold. */
export function all(...filters: Filter[]): Filter {
  return create(FilterSchema, { kind: { case: "all", value: { filters } } });
}

/** At least one of these holds. */
export function any(...filters: Filter[]): Filter {
  return create(FilterSchema, { kind: { case: "any", value: { filters } } });
}

/** This does not hold. */
export function not(filter: Filter): Filter {
  return create(FilterSchema, { kind: { case: "not", value: filter } });
}

function condition(field: string, test: Condition["test"]): Filter {
  return create(FilterSchema, { kind: { case: "condition", value: create(ConditionSchema, { field, test }) } });
}

function value(of: JsonValue): Value {
  return fromJson(ValueSchema, of);
}

import type { JSX } from "preact";
import { status } from "../connection";
import { CopyButton } from "./CopyButton";

/** The trace of a request: a link where the mesh tells who shows traces, else its id to copy. */
export function TraceId({ id }: { id: string }): JSX.Element {
  const base = status.value?.trace_url ?? "";
  const clean = encodeURIComponent(id);
  if (/^https?:\/\//i.test(base)) {
    const href = base.includes("{trace_id}") ? base.replace("{trace_id}", clean) : `${base.replace(/\/+$/, "")}/${clean}`;
    return <a class="trace" href={href} target="_blank" rel="noreferrer">Trace</a>;
  }
  return <span class="trace"><span>Trace <code>{id.slice(0, 8)}</code></span> <CopyButton text={id} name="the trace id" /></span>;
}

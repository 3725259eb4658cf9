import { Fragment, type JSX } from "preact";
import { isServing, status, trouble } from "../connection";
import { count, words } from "../format";
import type { Device, Model, Service } from "../types";

const LIMITS: Record<string, string> = {
  max_image_bytes: "bytes of an image", max_image_pixels: "pixels of an image", max_hits: "hits of a search", max_page_size: "images of a page",
};

export function MeshView(): JSX.Element {
  const told = status.value;
  if (!told) return <div class="page"><h1>Mesh</h1><p class="muted" role="status">{trouble.value ?? "Asking…"}</p></div>;
  const limits = Object.entries(told.limits ?? {}).filter(([name, value]) => LIMITS[name] && Number(value));
  return (
    <div class="page">
      <h1>Mesh</h1>
      <ul class="services" aria-label="Services">{told.services.map((each, at) => <ServiceCard key={at} service={each} />)}</ul>
      <section class="panel">
        <h2>What it takes and keeps</h2>
        <dl>
          {told.default_collection && <><dt>Default collection</dt><dd>{told.default_collection}</dd></>}
          <dt>Thumbnails</dt><dd>{told.media?.thumbnails ? "kept" : "not kept: cards show captions"}</dd>
          <dt>Originals</dt><dd>{told.media?.originals ? "kept" : "not kept"}</dd>
          {told.media?.trouble && <><dt>Trouble</dt><dd class="breakable">{told.media.trouble}</dd></>}
          {limits.map(([name, value]) => <Fragment key={name}><dt>Most {LIMITS[name]}</dt><dd>{count(value)}</dd></Fragment>)}
        </dl>
      </section>
      <p class="muted">For programs: <a href="/docs">the addresses of this server</a>.</p>
    </div>
  );
}

const kindName = (kind: string): string => kind.split(".").at(-1)?.replace(/Service$/, "") ?? kind;

const GIB = 2 ** 30;
const gib = (bytes: number): string => (bytes >= GIB ? `${(bytes / GIB).toFixed(1)} GiB` : `${Math.round((bytes / GIB) * 1024)} MiB`);

function ServiceCard({ service }: { service: Service }): JSX.Element {
  const serving = isServing(service);
  const facts = [["Store", service.store], ["Memory", service.memory_bytes && gib(service.memory_bytes)], ["Version", service.version]].filter(([, value]) => value);
  return (
    <li class="panel service">
      <div class="bar-head">
        <h2><span class={`dot ${serving ? "good" : "bad"}`} aria-hidden="true" /> {kindName(service.kind)}</h2>
        <span class={serving ? "tag" : "tag failed"}>{serving ? "serving" : words(service.health || "unknown", "health")}</span>
      </div>
      <p class="muted breakable">{service.address}</p>
      {service.reason && <p class="note breakable">{service.reason}</p>}
      {service.models?.map((model, at) => <ModelLine key={at} model={model} />)}
      {facts.length > 0 && <dl>{facts.map(([name, value]) => <Fragment key={name}><dt>{name}</dt><dd class="breakable">{String(value)}</dd></Fragment>)}</dl>}
    </li>
  );
}

function ModelLine({ model }: { model: Model }): JSX.Element {
  return (
    <div class="breakable">
      <p>{model.name}</p>
      <p class="muted small">{[model.backend, model.precision, ...(model.devices ?? []).map(deviceText)].filter(Boolean).join(" · ")}</p>
    </div>
  );
}

function deviceText(device: Device): string {
  const memory = device.memory_total_bytes ? ` (${gib(device.memory_used_bytes ?? 0)} of ${gib(device.memory_total_bytes)})` : "";
  return `${device.id}${device.name && device.name !== device.id ? ` ${device.name}` : ""}${memory}`;
}

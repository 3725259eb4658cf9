import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { activeImage } from "../active";
import { ApiError, ask, withParams } from "../api";
import { nameOf, ownAddress, percent, shown, time } from "../format";
import { hits, loadMore, results } from "../results";
import { closeImage, go, route } from "../route";
import { moreLike } from "../terms";
import type { Hit, Image } from "../types";
import { Thumbnail } from "./Card";
import { CopyButton } from "./CopyButton";
import { Icon } from "./icons";
import { Bars } from "./Scores";
import { TraceId } from "./TraceId";

export function Lightbox(): JSX.Element | null {
  const id = route.value.image;
  return id ? <Opened id={id} /> : null;
}

function Opened({ id }: { id: string }): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const at = hits.value.findIndex((hit) => hit.image.id === id);
  const { hit, error } = useHit(id, hits.value[at], results.value.phase === "loading");

  useLayoutEffect(() => {
    const element = dialog.current;
    element?.showModal();
    return () => element?.close();
  }, []);
  useEffect(() => {
    if (at >= 0 && at > hits.value.length - 4) void loadMore();
  }, [at]);
  useEffect(() => () => {
    activeImage.value = null;
    activeImage.value = latest.current;
  }, []);
  const latest = useRef(id);
  latest.current = id;

  const step = (by: number) => {
    const next = hits.value[at + by];
    if (at >= 0 && next) go({ image: next.image.id }, true);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else return;
    event.preventDefault();
  };
  return (
    <dialog ref={dialog} class="lightbox" aria-label={hit ? nameOf(hit.image) : "Image"} onKeyDown={onKeyDown} onCancel={(event) => {
      event.preventDefault();
      closeImage();
    }} onClick={(event) => event.target === event.currentTarget && closeImage()}>
      <div class="frame">
        <div class="stage">
          {hit ? <Stage key={id} image={hit.image} /> : <p class="state" role="status">{error || "Loading…"}</p>}
          <button type="button" class="arrow before" aria-label="Previous image" disabled={at <= 0} onClick={() => step(-1)}><Icon name="left" size={26} /></button>
          <button type="button" class="arrow after" aria-label="Next image" disabled={at < 0 || at >= hits.value.length - 1} onClick={() => step(1)}><Icon name="right" size={26} /></button>
        </div>
        <div class="details" tabIndex={0} role="region" aria-label="Details">
          <button type="button" class="quiet square close" aria-label="Close" onClick={closeImage}><Icon name="close" /></button>
          {hit && <Details hit={hit} />}
        </div>
      </div>
    </dialog>
  );
}

function useHit(id: string, known: Hit | undefined, searching: boolean): { hit: Hit | undefined; error: string } {
  const [fetched, setFetched] = useState<Hit | undefined>(undefined);
  const [error, setError] = useState("");
  const { collection } = route.value;
  useEffect(() => {
    setError("");
    if (known || searching) return;
    const gone = new AbortController();
    ask<Image>(withParams(`/v1/images/${encodeURIComponent(id)}`, { collection }), { signal: gone.signal })
      .then(({ value }) => setFetched({ image: value }))
      .catch((problem: unknown) => {
        if (!gone.signal.aborted) setError(problem instanceof ApiError ? problem.message : "The image cannot be shown.");
      });
    return () => gone.abort();
  }, [id, known === undefined, searching]);
  return { hit: known ?? (fetched?.image.id === id ? fetched : undefined), error };
}

/** The image itself where the mesh keeps it, before that and else its thumbnail. */
function Stage({ image }: { image: Image }): JSX.Element {
  const original = ownAddress(image.original);
  const [ready, setReady] = useState(false);
  return (
    <>
      {!ready && <Thumbnail source={image.thumbnail} caption={nameOf(image)} uri={image.image_uri ?? ""} full />}
      {original && <img class={ready ? "original" : "original waiting"} src={original} alt={ready ? nameOf(image) : ""} onLoad={() => setReady(true)} />}
    </>
  );
}

function Details({ hit }: { hit: Hit }): JSX.Element {
  const { image, relevance, score, legs } = hit;
  const metadata = Object.entries(image.metadata ?? {});
  const { isSearch, traceId } = results.value;
  return (
    <>
      <h2>{image.caption?.trim() || "No caption"}</h2>
      {image.caption_model && <p class="muted">by {image.caption_model}</p>}
      <div class="actions">
        <button type="button" class="primary" onClick={() => moreLike(image.id)}><Icon name="like" size={18} /> More like this</button>
      </div>
      {isSearch && (score !== null && score !== undefined) && (
        <section>
          <h3>Scores</h3>
          {relevance !== null && relevance !== undefined && (
            <div class="relevance big">
              <span>Relevance</span>
              <span class="meter" aria-hidden="true"><span style={{ width: percent(relevance) }} /></span>
              <span>{percent(relevance)}</span>
            </div>
          )}
          <dl>
            <dt>Score</dt><dd>{score.toFixed(4)}</dd>
            {hit.rank ? <><dt>Rank</dt><dd>{hit.rank}</dd></> : null}
          </dl>
          {legs && legs.length > 0 && <Bars legs={legs} />}
          {traceId && <TraceId id={traceId} />}
        </section>
      )}
      {metadata.length > 0 && (
        <section>
          <h3>Metadata</h3>
          <dl>{metadata.map(([name, value]) => <Pair key={name} name={name} value={shown(value)} />)}</dl>
        </section>
      )}
      <section>
        <h3>Image</h3>
        <dl>
          <dt>Id</dt><dd><span class="breakable">{image.id}</span> <CopyButton text={image.id} name="the id" /></dd>
          {image.collection && <Pair name="Collection" value={image.collection} />}
          {image.image_uri && <><dt>Address</dt><dd><span class="breakable">{image.image_uri}</span> <CopyButton text={image.image_uri} name="the address" /></dd></>}
          {image.created_at && <Pair name="Added" value={time(image.created_at)} />}
          {image.updated_at && image.updated_at !== image.created_at && <Pair name="Changed" value={time(image.updated_at)} />}
        </dl>
      </section>
    </>
  );
}

function Pair({ name, value }: { name: string; value: string }): JSX.Element {
  return <><dt>{name}</dt><dd class="breakable">{value}</dd></>;
}

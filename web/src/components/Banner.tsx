import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { look, retryAt, trouble } from "../connection";
import { Icon } from "./icons";

/** Tells that nothing answers, and when it is tried again. */
export function Banner(): JSX.Element {
  const message = trouble.value;
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (message === null) return;
    const timer = window.setInterval(() => setNow(Date.now()), 500);
    return () => window.clearInterval(timer);
  }, [message]);
  const seconds = Math.max(0, Math.ceil((retryAt.value - now) / 1000));
  return (
    <div role="status" class="banner-place">
      {message !== null && (
        <div class="banner">
          <Icon name="warn" />
          <p>
            <strong>The mesh does not answer.</strong> {message.replace(/[^.!?]$/, "$&.")}{" "}
            <span aria-hidden="true">{seconds ? `Trying again in ${seconds} s.` : "Trying again…"}</span>
          </p>
          <button type="button" onClick={() => void look()}>Try now</button>
        </div>
      )}
    </div>
  );
}

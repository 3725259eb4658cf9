/** Codes by their names. */
import { Code } from "@connectrpc/connect";

export { Code };

/** Return the code of a name such as INVALID_ARGUMENT; Code.Unknown for a name that is none. */
export function codeFromString(name: string): Code {
  const wanted = name.replaceAll("_", "").replace("CANCELLED", "CANCELED");
  const found = Object.entries(Code).find(([key]) => key.toUpperCase() === wanted);
  return typeof found?.[1] === "number" ? found[1] : Code.Unknown;
}

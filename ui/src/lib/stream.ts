// Server-sent events over fetch: the answer's status can be seen, and nothing reconnects behind our back.
import { fetchRaw } from "./api";

export type Ended = "gone" | "none" | "aborted";

/// Reads events until the stream ends. `none`: there is no stream, or no room for another listener.
export async function events(path: string, signal: AbortSignal, onEvent: (data: string) => void): Promise<Ended> {
  try {
    const response = await fetchRaw(path, { signal, headers: { Accept: "text/event-stream" } });
    if (response.status !== 200 || !response.body) return "none";
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return "gone";
      rest += value;
      const whole = rest.split("\n\n");
      rest = whole.pop() ?? "";
      for (const event of whole) {
        const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length > 0) onEvent(data.join("\n"));
      }
    }
  } catch {
    return signal.aborted ? "aborted" : "gone";
  }
}

// The bell: what the server wants people to know, pushed by server-sent events; asked for once in a while where it does not push.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get } from "./lib/api";
import { apiTime, formatTime } from "./lib/format";
import { events } from "./lib/stream";
import { Icon, Menu } from "./lib/ui";

interface Notification {
  text: string;
  date: string;
  active: boolean;
}

const all = signal<Notification[]>([]);
const POLL_MS = 5000;

function take(item: Notification) {
  const others = all.value.filter((known) => known.text !== item.text);
  all.value = item.active ? [item, ...others] : others;
}

function listen(): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let gone = false;
  const poll = async () => {
    try {
      if (document.visibilityState === "visible") all.value = (await get<Notification[]>("notifications")).data.filter((n) => n.active);
    } catch {
      // The next turn asks again.
    }
    if (!gone) timer = setTimeout(poll, POLL_MS);
  };
  // A server without the stream, or with no room for another listener, is asked instead.
  const abort = new AbortController();
  void events("api/v1/notifications/live", abort.signal, (data) => take(JSON.parse(data) as Notification)).then((ended) => ended !== "aborted" && !gone && void poll());
  return () => {
    gone = true;
    abort.abort();
    clearTimeout(timer);
  };
}

export function Notifications() {
  useEffect(listen, []);
  const items = all.value;
  const label = items.length === 0 ? "No notifications" : `${items.length} notification${items.length === 1 ? "" : "s"}`;
  return (
    <Menu
      label={label}
      className="at-right"
      trigger={
        <>
          <Icon name="bell" />
          {items.length > 0 && <span class="count-dot">{items.length}</span>}
        </>
      }
    >
      {() => (
        <>
          <h3>Notifications</h3>
          {items.length === 0 && <p class="empty">Nothing to tell.</p>}
          {items.map((item) => (
            <div class="note warn" key={item.text}>
              <Icon name="warn" />
              <div>
                {item.text}
                <br />
                <span>{formatTime(apiTime(item.date) ?? 0)}</span>
              </div>
            </div>
          ))}
        </>
      )}
    </Menu>
  );
}

// The first page of a server in agent mode.
import { href } from "../lib/router";
import { Page } from "../lib/ui";

export default function AgentPage() {
  return (
    <Page title="Agent">
      <div class="card"><div class="card-body">
        <p>This server runs in agent mode: it discovers, scrapes and forwards. It stores nothing to be queried and evaluates no rules; ask the server that it writes to.</p>
        <p><a href={href("targets")}>Target health</a> and <a href={href("service-discovery")}>service discovery</a> show what it scrapes.</p>
      </div></div>
    </Page>
  );
}

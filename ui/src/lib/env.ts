// What the server tells the page about itself, and where the page is.

export interface Env {
  title: string;
  nonce: string;
  ready: boolean;
  agent: boolean;
  consoles: string;
  lookback: string;
  admin: boolean;
  lifecycle: boolean;
}

const DEFAULTS: Env = {
  title: "Firekeeper",
  nonce: "",
  ready: true,
  agent: false,
  consoles: "",
  lookback: "5m",
  admin: false,
  lifecycle: false,
};

function read(): Env {
  const text = document.querySelector<HTMLMetaElement>('meta[name="firekeeper"]')?.content ?? "";
  try {
    return { ...DEFAULTS, ...(JSON.parse(text) as Partial<Env>) };
  } catch {
    return DEFAULTS;
  }
}

export const env = read();

/// The path of the server as the browser sees it, with a slash at its end. Every page is one segment below it, so that it can be
/// derived from the address, whatever prefix a proxy adds.
export const base = location.pathname.replace(/[^/]*$/, "");

// How `dist` is made: names with hashes, no source maps, relative addresses (the pages work below any prefix), and nothing that would
// differ between two builds of the same source.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import preact from "@preact/preset-vite";
import { defineConfig, type Plugin } from "vite";

/// Collects the licences of everything that is built in.
function licences(): Plugin {
  return {
    name: "licences",
    apply: "build",
    generateBundle(_options, bundle) {
      const found = new Set<string>();
      for (const file of Object.values(bundle)) {
        if (file.type !== "chunk") continue;
        for (const id of Object.keys(file.modules)) {
          const inside = /^(.*\/node_modules\/((?:@[^/]+\/)?[^/]+))\//.exec(id.replace(/^\0/, ""));
          if (inside?.[1]) found.add(inside[1]);
        }
      }
      const texts = [...found].sort().map((folder) => {
        const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { name: string; version: string; license?: string };
        const file = readdirSync(folder).sort().find((name) => /^licen[cs]e/i.test(name));
        const text = file && existsSync(join(folder, file)) ? readFileSync(join(folder, file), "utf8") : `License: ${about.license ?? "unknown"}\n`;
        return { title: `${about.name} ${about.version}`, text: text.replace(/\r\n/g, "\n").trim() };
      });
      // Many share a text; it stands there once.
      const byText = new Map<string, string[]>();
      for (const { title, text } of texts) byText.set(text, [...(byText.get(text) ?? []), title]);
      const source = [...byText].map(([text, titles]) => `${titles.join("\n")}\n\n${text}\n`).join(`\n${"=".repeat(78)}\n\n`);
      this.emitFile({ type: "asset", fileName: "assets/third-party-licenses.txt", source });
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [preact(), licences()],
  build: {
    target: "es2022",
    sourcemap: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 600,
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: "codemirror", priority: 3, test: /node_modules\/(@codemirror\/(?!lang-yaml)|@lezer\/(?!yaml)|@marijn|style-mod|w3c-keyname|crelt)/ },
            { name: "yaml", priority: 2, test: /node_modules\/(@codemirror\/lang-yaml|@lezer\/yaml)\// },
            { name: "plot", priority: 1, test: /node_modules\/uplot\// },
          ],
        },
      },
    },
  },
});

import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";
import { messages } from "./build/messages.ts";

// While one page is written, GLASSWORKS_ONLY=name builds it with empty others, which may be half written.
const ONLY = process.env.GLASSWORKS_ONLY;
const only = {
  name: "only",
  load: (id: string) => (ONLY && /\/pages\/\w+\/Page\.svelte$/.test(id) && !ONLY.split(",").some((one) => id.includes(`/pages/${one}/`)) ? "<p>not built</p>" : undefined),
};

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

// What is built in here is shipped with the licences that it asks to be shipped with.
export default defineConfig({
  plugins: [only, svelte(), messages(here("./src"))],
  // GLASSWORKS_PAGES lets a second build be looked at beside the first.
  build: { outDir: process.env.GLASSWORKS_PAGES ?? here("../src/glassworks/studio/static"), emptyOutDir: true, target: "es2023", modulePreload: { polyfill: false }, chunkSizeWarningLimit: 400, license: { fileName: "licences.md" } },
  resolve: { alias: { $lib: here("./src/lib") } },
});

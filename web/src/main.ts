import { mount } from "svelte";
import "./app.css";
import App from "./App.svelte";
import { begin } from "$lib/i18n.svelte";

await begin();
const target = document.getElementById("app");
if (target) mount(App, { target });

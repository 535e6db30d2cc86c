// Where the pages begin.
import { render } from "preact";
import { App } from "./app";
import { interceptLinks } from "./lib/router";
import "./styles.css";

interceptLinks();
const root = document.getElementById("root");
if (root) render(<App />, root);
